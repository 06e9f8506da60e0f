// A guest's clock follows its host's, also over a pause in which that went an hour ahead (a laptop that slept, a clock that
// was set): what runs after the pause has the host's time, not that of before.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MicroVm } from "../../src/engine/microvm.ts";
import { formatDisk } from "../../src/environments/disk.ts";
import { exec, MachineRoom } from "./machines.ts";

const HOUR_MS = 3_600_000;
const DISK_MIB = 256;
/** Between the host's clock and the guest's, ms; under emulation a command takes a while to look at it. */
const MOST_MS = 2000;

test("a guest's clock is right, before and after a pause in which the host's went ahead", {
  timeout: 240_000,
}, async () => {
  await using room = await MachineRoom.open();
  const path = join(room.directory, "disk.ext4");
  await formatDisk(path, DISK_MIB);
  let ahead = 0;
  const now = () => Date.now() + ahead;
  const vm = await MicroVm.start(room.driver, await room.template(), room.spec, "clock", {
    drives: {
      base: { path: room.base.imagePath, readOnly: true, virtualBytes: room.base.size_bytes },
      writable: { path, readOnly: false, virtualBytes: DISK_MIB * 2 ** 20 },
    },
    baseType: room.base.baseType,
    ephemeral: true,
    signal: AbortSignal.timeout(120_000),
    now,
  });
  try {
    let commands = 0;
    const isRight = async (when: string) => {
      const before = now();
      const { stdout } = await exec(vm.guest, `proc_${++commands}`, ["date", "+%s.%N"]);
      const clock = Number(stdout) * 1000;
      assert.ok(clock > before - MOST_MS && clock < now() + MOST_MS, `${when}: ${clock - before} ms from the host's`);
    };
    await isRight("after the start");
    await vm.pause();
    await sleep(1500);
    await vm.resume();
    await isRight("after a pause");
    await vm.pause();
    ahead = HOUR_MS;
    await vm.resume();
    await isRight("an hour ahead");
    // A clock that is set back, as by hand, is followed too.
    await vm.pause();
    ahead = 0;
    await vm.resume();
    await isRight("set back");
  } finally {
    await vm.kill();
  }
});
