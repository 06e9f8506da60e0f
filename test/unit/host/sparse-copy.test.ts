// Copying disk files: content, holes, mode, and that nothing is left or overwritten where it fails.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, open, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { PyroError } from "../../../src/errors/error.ts";
import { copySparse } from "../../../src/host/sparse-copy.ts";

const GIB = 2 ** 30;

async function place(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "copy-"));
  t.after(() => rm(directory, { recursive: true }));
  return directory;
}

const coded = (code: string) => (error: unknown) => error instanceof PyroError && error.code === code;

for (const durable of [false, true]) {
  test(`a sparse file stays sparse${durable ? ", synced" : ""}`, async (t) => {
    const directory = await place(t);
    const [from, to] = [join(directory, "disk -n"), join(directory, "--copy")];
    const data = randomBytes(100_000);
    const file = await open(from, "wx", 0o644);
    await file.truncate(4 * GIB);
    await file.write(data, 0, data.length, 2 * GIB + 12_345);
    await file.close();
    await copySparse(from, to, { durable });
    const copied = await stat(to);
    assert.equal(copied.size, 4 * GIB);
    assert.equal(copied.mode & 0o7777, 0o600);
    assert.ok(copied.blocks * 512 < 1 << 20, `takes ${copied.blocks * 512} bytes`);
    const read = await open(to);
    const back = Buffer.alloc(data.length + 200);
    await read.read(back, 0, back.length, 2 * GIB + 12_345 - 100);
    await read.close();
    assert.deepEqual(back, Buffer.concat([Buffer.alloc(100), data, Buffer.alloc(100)]));
  });
}

test("what is there is not overwritten", async (t) => {
  const directory = await place(t);
  const [from, to] = [join(directory, "disk"), join(directory, "copy")];
  await writeFile(from, "new");
  await writeFile(to, "old");
  await assert.rejects(copySparse(from, to), coded("HOST_IO_FAILED"));
  assert.equal(await readFile(to, "utf8"), "old");
});

test("a failure leaves no file: no source, no directory, a full disk, an abort, the deadline", async (t) => {
  const directory = await place(t);
  const [from, to] = [join(directory, "disk"), join(directory, "copy")];
  await assert.rejects(copySparse(from, to), coded("HOST_IO_FAILED"));
  assert.deepEqual(await readdir(directory), []);
  await writeFile(from, randomBytes(1000));
  await assert.rejects(copySparse(from, join(directory, "none", "copy")), coded("HOST_IO_FAILED"));
  await assert.rejects(copySparse(from, to, { signal: AbortSignal.abort(new Error("no more")) }), /no more/);
  // cp waits for a pipe that nobody writes.
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error("enough")), 200);
  const pipe = join(directory, "pipe");
  execFileSync("mkfifo", [pipe]);
  await assert.rejects(copySparse(pipe, to, { signal: controller.signal }), /enough/);
  await assert.rejects(copySparse(pipe, to, { deadlineMs: 200 }), coded("HOST_IO_FAILED"));
  assert.deepEqual((await readdir(directory)).sort(), ["disk", "pipe"]);
});

test("a full disk is named as one", async (t) => {
  const directory = await place(t);
  const small = join(directory, "small");
  execFileSync("mkdir", [small]);
  try {
    execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "none", small], { stdio: "pipe" });
  } catch {
    t.skip("no right to mount a small file system");
    return;
  }
  try {
    const from = join(directory, "disk");
    await writeFile(from, randomBytes(200_000));
    await assert.rejects(copySparse(from, join(small, "copy")), coded("HOST_DISK_FULL"));
    assert.deepEqual(await readdir(small), []);
  } finally {
    execFileSync("umount", [small]);
  }
});
