// Writable disks: real ext4, sparse, private, and nothing left for the guest's kernel to zero.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { formatDisk } from "../../../src/environments/disk.ts";
import { PyroError } from "../../../src/errors/error.ts";

const SBIN = { env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }, encoding: "utf8" } as const;

for (const mib of [64, 16_384]) {
  test(`a disk of ${mib} MiB is a clean, sparse ext4 of that size`, async (t) => {
    const directory = await mkdtemp(join(tmpdir(), "disk-"));
    t.after(() => rm(directory, { recursive: true }));
    const path = join(directory, "disk.ext4");
    await formatDisk(path, mib);
    const file = await stat(path);
    assert.equal(file.size, mib * 1024 * 1024);
    assert.equal(file.mode & 0o777, 0o600);
    assert.ok(file.blocks * 512 < 8 << 20, `takes ${file.blocks * 512} bytes`);
    execFileSync("e2fsck", ["-fn", path], { ...SBIN, stdio: "pipe" });
    // Groups without this flag are written by the guest's kernel in the background, and the file grows.
    const groups = execFileSync("dumpe2fs", [path], { ...SBIN, stdio: ["ignore", "pipe", "ignore"] });
    const all = groups.match(/^Group \d+:/gm) ?? [];
    const zeroed = groups.match(/^Group \d+:.*ITABLE_ZEROED/gm) ?? [];
    assert.ok(all.length > 0);
    assert.equal(zeroed.length, all.length);
  });
}

test("a file that is there is not overwritten", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "disk-"));
  t.after(() => rm(directory, { recursive: true }));
  const path = join(directory, "disk.ext4");
  await writeFile(path, "somebody's data");
  await assert.rejects(formatDisk(path, 64), (error) => error instanceof PyroError && error.code === "HOST_IO_FAILED");
  assert.equal((await stat(path)).size, 15);
});

test("a directory that is not there, an abort before the start", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "disk-"));
  t.after(() => rm(directory, { recursive: true }));
  await assert.rejects(
    formatDisk(join(directory, "none", "disk.ext4"), 64),
    (error) => error instanceof PyroError && error.code === "HOST_IO_FAILED",
  );
  await assert.rejects(
    formatDisk(join(directory, "disk.ext4"), 64, AbortSignal.abort(new Error("no more"))),
    /no more/,
  );
  assert.deepEqual(await readdir(directory), []);
});
