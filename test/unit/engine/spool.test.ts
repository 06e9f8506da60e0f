// The output log of a process: cursors, gaps, limits, followers, and a crash in the middle of a record.
import assert from "node:assert/strict";
import { appendFile, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { KEPT_BYTES, Spool, type SpoolChunk } from "../../../src/engine/spool.ts";

let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-spool-"));
});

afterEach(async () => {
  await rm(directory, { recursive: true });
});

async function readAll(spool: Spool, from: bigint): Promise<SpoolChunk[]> {
  const chunks: SpoolChunk[] = [];
  for await (const chunk of spool.read(from, false)) chunks.push(chunk);
  return chunks;
}

function text(chunks: SpoolChunk[], stream: string): string {
  return Buffer.concat(chunks.filter((chunk) => chunk.stream === stream).map((chunk) => chunk.data)).toString();
}

test("chunks come back in order, tagged, from any cursor", async () => {
  const spool = await Spool.open(directory);
  await spool.append("stdout", 0n, Buffer.from("hello "));
  await spool.append("stderr", 6n, Buffer.from("oops"));
  await spool.append("stdout", 10n, Buffer.from("world"));
  assert.equal(spool.end, 15n);
  const all = await readAll(spool, 0n);
  assert.deepEqual(
    all.map((chunk) => [chunk.stream, chunk.cursor, chunk.next]),
    [
      ["stdout", 0n, 6n],
      ["stderr", 6n, 10n],
      ["stdout", 10n, 15n],
    ],
  );
  const middle = await readAll(spool, 8n);
  assert.equal(text(middle, "stderr"), "ps");
  assert.equal(middle[0]?.cursor, 8n);
  assert.equal(text(middle, "stdout"), "world");
  await assert.rejects(readAll(spool, 16n), RangeError);
  await spool.finish();
});

test("what is known already is skipped, and a jump is a gap", async () => {
  const spool = await Spool.open(directory);
  await spool.append("stdout", 0n, Buffer.from("abcdef"));
  await spool.append("stdout", 3n, Buffer.from("defghi"));
  assert.equal(spool.end, 9n);
  await spool.append("stdout", 100n, Buffer.from("z"));
  const chunks = await readAll(spool, 0n);
  assert.equal(text(chunks, "stdout"), "abcdefghiz");
  const gap = chunks.find((chunk) => chunk.stream === "gap");
  assert.deepEqual([gap?.cursor, gap?.next], [9n, 100n]);
  const inGap = await readAll(spool, 50n);
  assert.deepEqual([inGap[0]?.stream, inGap[0]?.cursor, inGap[0]?.next], ["gap", 50n, 100n]);
  await spool.finish();
});

test("a record cut by a crash is dropped, and the log goes on", async () => {
  const spool = await Spool.open(directory);
  await spool.append("stdout", 0n, Buffer.from("whole"));
  await spool.finish();
  const [name = ""] = await readdir(directory);
  await appendFile(join(directory, name), Buffer.from([1, 0, 0, 1, 0, 65]));
  const again = await Spool.open(directory);
  assert.equal(again.end, 5n);
  await again.append("stderr", 5n, Buffer.from("more"));
  const chunks = await readAll(again, 0n);
  assert.equal(text(chunks, "stdout"), "whole");
  assert.equal(text(chunks, "stderr"), "more");
  await again.finish();
});

test("a follower gets everything as it comes and ends with it", async () => {
  const spool = await Spool.open(directory);
  const got: Buffer[] = [];
  const following = (async () => {
    for await (const chunk of spool.read(0n, true)) got.push(chunk.data);
  })();
  let cursor = 0n;
  for (let line = 0; line < 5000; line++) {
    const data = Buffer.from(`line ${line}\n`);
    await spool.append("stdout", cursor, data);
    cursor += BigInt(data.length);
  }
  await spool.finish();
  await following;
  const lines = Buffer.concat(got).toString().trimEnd().split("\n");
  assert.equal(lines.length, 5000);
  assert.equal(lines[4999], "line 4999");
});

test("a slow follower holds the writer back and loses nothing", async () => {
  const spool = await Spool.open(directory);
  const total = 100 * 2 ** 20;
  const data = Buffer.alloc(2 ** 20, 7);
  let read = 0;
  const following = (async () => {
    for await (const chunk of spool.read(0n, true)) {
      assert.notEqual(chunk.stream, "gap");
      read += chunk.data.length;
    }
  })();
  for (let at = 0; at < total; at += data.length) await spool.append("stdout", BigInt(at), data);
  await spool.finish();
  await following;
  assert.equal(read, total);
});

test("without a follower the oldest segments go, and a reader is told", async () => {
  const spool = await Spool.open(directory);
  const data = Buffer.alloc(2 ** 20, 7);
  const total = KEPT_BYTES + 20 * 2 ** 20;
  for (let at = 0; at < total; at += data.length) await spool.append("stdout", BigInt(at), data);
  assert.ok(spool.start > 0n);
  const chunks = await readAll(spool, 0n);
  assert.equal(chunks[0]?.stream, "gap");
  assert.equal(chunks[0]?.next, spool.start);
  await spool.finish();
});

test("waiting beyond the end resolves by a byte, by the end, and by the signal", async () => {
  const spool = await Spool.open(directory);
  const waiting = spool.waitBeyond(0n, AbortSignal.timeout(10_000));
  await spool.append("stdout", 0n, Buffer.from("x"));
  await waiting;
  await spool.waitBeyond(1n, AbortSignal.timeout(10));
  await spool.finish();
  await spool.waitBeyond(1n, AbortSignal.timeout(10_000));
});
