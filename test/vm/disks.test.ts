// Drives of a restored microVM: many rounds on one disk, the aux drive attached late, and the net port.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { copyFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { formatDisk } from "../../src/environments/disk.ts";
import { GuestClient } from "../../src/guest/client.ts";
import { countFrom } from "../seed.ts";
import { sha256 } from "./harness.ts";
import { exec, MachineRoom } from "./machines.ts";

const ROUNDS = countFrom("PYRO_DISK_ROUNDS", 8);

test(`one disk through ${ROUNDS} rounds of restore, attach, write and kill is clean each time`, {
  timeout: 600_000,
}, async () => {
  await using room = await MachineRoom.open();
  const disk = join(room.directory, "disk.ext4");
  await formatDisk(disk, 256);
  for (let round = 0; round < ROUNDS; round++) {
    const vmId = `round-${round}`;
    const machine = await room.restore(vmId, { path: disk, mib: 256 });
    const guest = new GuestClient((signal) => machine.openPort("control", signal));
    await room.ready(guest);
    // What every earlier round synced is there; what this one writes last is cut by the kill.
    const script = `n=$(cat /workspace/rounds 2>/dev/null | wc -l); echo $n; echo ${round} >>/workspace/rounds; sync; head -c 5000000 /dev/urandom >/workspace/torn-${round}`;
    const { code, stdout } = await exec(guest, "proc_1", ["sh", "-c", script]);
    assert.equal(code, 0);
    assert.equal(stdout.toString(), `${round}\n`);
    guest.close();
    await machine.kill();
    await checkCopy(room.directory, disk);
  }
});

test("aux attached after a restore can be read, and bytes echo on net", { timeout: 300_000 }, async () => {
  await using room = await MachineRoom.open();
  const disk = join(room.directory, "disk.ext4");
  await formatDisk(disk, 256);
  const machine = await room.restore("aux", { path: disk, mib: 256 });
  const guest = new GuestClient((signal) => machine.openPort("control", signal));
  await room.ready(guest);
  const content = randomBytes(3 * 2 ** 20);
  const aux = join(room.directory, "aux.img");
  await writeFile(aux, content, { mode: 0o600 });
  await machine.attach("aux", { path: aux, readOnly: false, virtualBytes: content.length });
  const { stdout } = await exec(guest, "proc_1", ["sh", "-c", "cat /sys/block/vdc/size; sha256sum </dev/vdc"]);
  assert.match(stdout.toString(), new RegExp(`^${content.length / 512}\n${sha256(content)} `));

  const net = await machine.openPort("net", AbortSignal.timeout(10_000));
  const sent = randomBytes(200_000);
  const got: Buffer[] = [];
  const echoed = new Promise<void>((resolve, reject) => {
    let bytes = 0;
    net.on("error", reject);
    net.on("data", (chunk: Buffer) => {
      got.push(chunk);
      bytes += chunk.length;
      if (bytes >= sent.length) resolve();
    });
  });
  net.write(sent);
  await echoed;
  assert.equal(sha256(Buffer.concat(got)), sha256(sent));
  net.destroy();

  await machine.pause();
  const asked = guest.call((calls, options) => calls.hello({}, options), { timeoutMs: 10_000 });
  let answered = false;
  asked.then(() => {
    answered = true;
  });
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(answered, false, "a paused guest answered");
  await machine.resume();
  await asked;
  guest.close();
  await machine.kill();
});

/** Replays the journal on a copy, then checks: the first pass may mend what the journal holds, the second must find nothing. */
async function checkCopy(directory: string, disk: string): Promise<void> {
  const copy = join(directory, "copy.ext4");
  await copyFile(disk, copy);
  await promisify(execFile)("e2fsck", ["-E", "journal_only", "-p", copy]).catch((error: { code?: number }) => {
    if (error.code !== 1) throw error;
  });
  await promisify(execFile)("e2fsck", ["-fn", copy]);
}
