// The guest link under drops: the port's socket is closed at a seeded byte, over and over, while commands run. Each must
// run exactly once and every byte of its output must arrive exactly once.
import assert from "node:assert/strict";
import { join } from "node:path";
import { Duplex } from "node:stream";
import { test } from "node:test";
import { formatDisk } from "../../src/environments/disk.ts";
import { GuestClient } from "../../src/guest/client.ts";
import { countFrom, Seeded } from "../seed.ts";
import { exec, MachineRoom } from "./machines.ts";

const DROPS = countFrom("PYRO_LINK_DROPS", 1000);
/** A drop comes after so many bytes at most; a frame holds up to 64 KiB, so most fall inside one. */
const MOST_BYTES_BETWEEN = 100_000;
const OUTPUT_BYTES = 1_000_000;

test(`${DROPS} drops at seeded bytes: counters and outputs are exact`, {
  timeout: 120_000 + DROPS * 500,
}, async (context) => {
  const random = Seeded.fromEnvironment();
  const { seed } = random;
  context.diagnostic(`PYRO_SEED=${seed}`);
  await using room = await MachineRoom.open();
  const disk = join(room.directory, "disk.ext4");
  await formatDisk(disk, 1024);
  const machine = await room.restore("drops", { path: disk, mib: 1024 });
  let drops = 0;
  let dropping = false;
  let current: Duplex | undefined;
  const guest = new GuestClient(async (signal) => {
    const session = await machine.openPort("control", signal);
    current = session;
    return dropping && drops < DROPS ? cutAfter(session, 1 + random.below(MOST_BYTES_BETWEEN), () => drops++) : session;
  });
  await room.ready(guest);
  dropping = true;
  current?.destroy();
  let commands = 0;
  while (drops < DROPS) {
    const script = `echo x >>/workspace/counter; head -c ${OUTPUT_BYTES} /dev/zero | tr '\\0' 'z'; echo ${commands} end`;
    const { code, stdout } = await exec(guest, `proc_${commands}`, ["sh", "-c", script]);
    assert.equal(code, 0, `seed ${seed}, command ${commands}`);
    assert.equal(
      stdout.toString("latin1"),
      `${"z".repeat(OUTPUT_BYTES)}${commands} end\n`,
      `seed ${seed}, command ${commands}`,
    );
    commands++;
    assert.ok(commands < DROPS, "the drops do not happen");
  }
  dropping = false;
  const { stdout } = await exec(guest, "proc_count", ["wc", "-l", "/workspace/counter"]);
  assert.equal(Number.parseInt(stdout.toString(), 10), commands, `seed ${seed}`);
  context.diagnostic(`${drops} drops, ${commands} commands`);
  guest.close();
  await machine.kill();
});

/** The same stream, destroyed once so many bytes have come in or gone out. */
function cutAfter(inner: Duplex, bytes: number, cut: () => void): Duplex {
  let left = bytes;
  let done = false;
  const count = (size: number) => {
    left -= size;
    if (left > 0 || done) return;
    done = true;
    cut();
    inner.destroy();
    outer.destroy();
  };
  const outer = new Duplex({
    read: () => inner.resume(),
    write: (chunk: Buffer, _encoding, written) => {
      // Part of a chunk goes out, then the line is dead: a frame is cut in the middle.
      if (chunk.length >= left) inner.write(chunk.subarray(0, Math.max(1, left)));
      else inner.write(chunk);
      count(chunk.length);
      written();
    },
    destroy: (error, destroyed) => {
      inner.destroy();
      destroyed(error);
    },
  });
  inner.on("data", (chunk: Buffer) => {
    if (done) return;
    if (!outer.push(chunk)) inner.pause();
    count(chunk.length);
  });
  inner.on("end", () => outer.push(null));
  inner.on("error", () => {});
  inner.on("close", () => outer.destroy());
  return outer;
}
