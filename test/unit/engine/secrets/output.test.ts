// The output of a process on its way into its spool: what waits and for how long, in which order it is written, and what a
// daemon that dies leaves for the next. The cuts themselves are fuzzed (test/unit/fuzz/secrets.test.ts).
import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { endingOf } from "../../../../src/engine/secrets/ending.ts";
import { RedactedOutput } from "../../../../src/engine/secrets/output.ts";
import { Redactor } from "../../../../src/engine/secrets/redactor.ts";
import { Spool } from "../../../../src/engine/spool.ts";

const VALUE = "hunter2-and-more";
const redactor = new Redactor([{ name: "TOKEN", value: Buffer.from(`${VALUE}\n`) }]);

let directory: string;
let spool: Spool;
let output: RedactedOutput;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-output-"));
  spool = await Spool.open(directory);
  output = new RedactedOutput(spool, redactor);
});

afterEach(async () => {
  await output.close();
  await spool.close();
  await rm(directory, { recursive: true });
});

async function shown(from = 0n): Promise<string> {
  const parts: string[] = [];
  for await (const { stream, data } of spool.read(from, false))
    parts.push(stream === "gap" ? "<gap>" : data.toString());
  return parts.join("");
}

async function until(text: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  while ((await shown()) !== text) {
    assert.ok(Date.now() < deadline, `${await shown()} is not ${text}`);
    await sleep(20);
  }
}

const said = (text: string) => Buffer.from(text);

test("what cannot be the beginning of a value is there at once, a few letters that may be a moment later", async () => {
  await output.append("stdout", 0n, said("password? "));
  assert.equal(await shown(), "password? ");
  await output.append("stdout", 10n, said("hun"));
  assert.equal(await shown(), "password? ");
  await until("password? hun");
  // More of it waits for what comes, and is still known.
  await output.append("stdout", 13n, said("ter2-"));
  await sleep(400);
  assert.equal(await shown(), "password? hun");
  await output.append("stdout", 18n, said("and-more!"));
  assert.equal(await shown(), "password? hun[redacted:TOKEN]!");
  assert.equal(spool.end, 27n);
});

test("what waits on one stream holds the other back, so that the log is in order", async () => {
  await output.append("stdout", 0n, said("hunter2"));
  await output.append("stderr", 7n, said("oops"));
  assert.equal(await shown(), "");
  await output.append("stdout", 11n, said("-and-more\n"));
  assert.equal(await shown(), "[redacted:TOKEN]oops\n");
  const chunks: [string, bigint][] = [];
  for await (const { stream, next } of spool.read(0n, false)) chunks.push([stream, next]);
  assert.deepEqual(chunks, [
    ["stdout", 7n],
    ["stderr", 11n],
    ["stdout", 20n],
    ["stdout", 21n],
  ]);
});

test("a stream that goes on and on is not held back for ever by the other", async () => {
  await output.append("stdout", 0n, said("hunter2"));
  let cursor = 7n;
  for (let round = 0; round < 40; round++) {
    await output.append("stderr", cursor, Buffer.alloc(32 << 10, "x"));
    cursor += BigInt(32 << 10);
  }
  // So much of a value counts as the value when nobody can wait for the rest.
  assert.match(await shown(), /^\[redacted:TOKEN\]xxx/);
});

test("the end writes what is no value, and never the greater part of one", async () => {
  await output.append("stdout", 0n, said("hunt"));
  await output.end();
  assert.equal(await shown(), "hunt");
  await output.append("stdout", 4n, said(" hunter2-and"));
  await output.end();
  assert.equal(await shown(), "hunt [redacted:TOKEN]");
});

test("a daemon that dies leaves what waited to the next, which reads it again", async () => {
  await output.append("stdout", 0n, said("go: hunter2"));
  await output.close();
  await spool.close();
  spool = await Spool.open(directory);
  assert.equal(spool.end, 4n);
  output = new RedactedOutput(spool, redactor);
  await output.append("stdout", 4n, said("hunter2-and-more\n"));
  assert.equal(await shown(), "go: [redacted:TOKEN]\n");
  // As a link that drops makes a guest do.
  await output.append("stdout", 4n, said("hunter2-and-more\n"));
  await output.append("stdout", 9n, said("r2-and-more\nbye\n"));
  assert.equal(await shown(), "go: [redacted:TOKEN]\nbye\n");
  for (const name of await readdir(directory)) assert.ok(!(await readFile(join(directory, name))).includes("hunter2"));
});

test("a gap is a gap, and what was before it is decided", async () => {
  await output.append("stdout", 0n, said("hunter2-"));
  await output.append("stdout", 100n, said("no more"));
  assert.equal(await shown(), "[redacted:TOKEN]<gap>no more");
  // The end of a value whose beginning was lost.
  await output.append("stderr", 200n, said("nd-more, and-more"));
  await output.end();
  assert.equal(await shown(), "[redacted:TOKEN]<gap>no more<gap>[redacted:TOKEN], and-more");
});

test("the end of a value is known, however often it repeats itself", () => {
  const value = said("abcabcabd");
  const ends: [string, number][] = [
    ["", 0],
    ["d", 1],
    ["abd", 3],
    ["abdabd", 3],
    ["bcabcabd and more", 8],
    ["abcabcabd", 0],
    ["abcabd", 6],
    ["abcab", 0],
  ];
  for (const [data, length] of ends) assert.equal(endingOf(value, said(data)), length, data);
  assert.equal(endingOf(said("aaaaaaaa"), said("aaaab")), 4);
  assert.equal(endingOf(said("aaaaaaaa"), said("aaaaaaaaaa")), 7);
});

test("a cursor inside of what was replaced gives all of what stands for it", async () => {
  await output.append("stdout", 0n, said(`a ${VALUE} b`));
  await output.end();
  assert.equal(await shown(0n), "a [redacted:TOKEN] b");
  for (let cursor = 3n; cursor < 18n; cursor++) assert.equal(await shown(cursor), "[redacted:TOKEN] b");
  assert.equal(await shown(18n), " b");
  assert.equal(spool.redacted, true);
  assert.deepEqual([await spool.redactedBefore(2n), await spool.redactedBefore(10n)], [false, true]);
});
