// The log of a service: last lines, bounded parts whose cursors are true, and readers that never hold the service back.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { Spool } from "../../../../src/engine/spool.ts";
import { logChunks, logPart, logTail, tailStart } from "../../../../src/engine/workspace/service-log.ts";

let directory: string;
let spool: Spool;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-log-"));
  spool = await Spool.open(directory);
});

afterEach(async () => {
  await spool.close();
  await rm(directory, { recursive: true, force: true });
});

async function print(text: string | Buffer, stream: "stdout" | "stderr" = "stdout"): Promise<void> {
  await spool.append(stream, spool.end, Buffer.from(text));
}

const never = new AbortController().signal;

test("the last lines begin where they do, whole or not, of both streams", async () => {
  const last = async (tail: number | "all", least = 0n) =>
    (await logPart(spool, await tailStart(spool, tail, least), 1000)).output;
  assert.deepEqual([await last(3), await last("all")], ["", ""]);
  await print("one\ntw");
  assert.deepEqual([await last(0), await last(1), await last(2), await last(3)], ["", "tw", "one\ntw", "one\ntw"]);
  await print("o\n", "stderr");
  await print("\nfour\n");
  for (const [tail, text] of [
    [1, "four\n"],
    [2, "\nfour\n"],
    [3, "two\n\nfour\n"],
    [4, "one\ntwo\n\nfour\n"],
  ] as const) {
    assert.equal(await last(tail), text, String(tail));
  }
  assert.equal(await last(1_000_000), "one\ntwo\n\nfour\n");
  // What there is no room for is left out from the beginning of a line on.
  const end = spool.end;
  assert.equal(await last("all", end - 7n), "\nfour\n");
  assert.equal(await last(9, end - 7n), "\nfour\n");
  assert.equal(await last(1, end - 3n), "ur\n", "one line that is longer than that");
});

test("parts put together are the whole, whatever their size and whatever is in it", async () => {
  const text = "plain, ümläut, 漢字, 👍\n".repeat(20);
  await print(text.slice(0, 101));
  await print(text.slice(101), "stderr");
  await spool.finish();
  for (const size of [4, 5, 7, 64, 1000]) {
    let whole = "";
    for (let cursor = 0n; ; ) {
      const part = await logPart(spool, cursor, size);
      assert.equal(part.output_encoding, "utf-8");
      if (part.output === "") break;
      whole += part.output;
      cursor = BigInt(part.next_cursor.slice(1));
    }
    assert.equal(whole, text, String(size));
  }
  const inside = await logPart(spool, BigInt(Buffer.byteLength("plain, ")) + 1n, 10);
  assert.deepEqual([inside.output.startsWith("ml"), inside.omitted_bytes], [true, 1]);
});

test("what is no text is base64, and a character that is not whole yet waits", async () => {
  await print(Buffer.from([0xff, 0xfe, 0x00]));
  assert.deepEqual(
    [(await logPart(spool, 0n, 100)).output, (await logPart(spool, 0n, 100)).output_encoding],
    ["//4A", "base64"],
  );
  const from = spool.end;
  await print(Buffer.from("a漢").subarray(0, 3));
  assert.deepEqual(
    [(await logPart(spool, from, 100)).output, (await logPart(spool, from, 100)).next_cursor],
    ["a", `c${from + 1n}`],
  );
});

test("the end of a log begins with a line, and is not long", async () => {
  assert.equal(await logTail(spool), "");
  await print(`${"x".repeat(5000)}\nend\n`);
  assert.equal(await logTail(spool), "end\n");
  await print("y".repeat(5000));
  assert.equal(await logTail(spool), "y".repeat(2000));
});

test("a reader who is slow holds nothing up, and is told what he has missed", async () => {
  const piece = Buffer.alloc(1 << 20, "z");
  await print("first\n");
  const reader = logChunks(spool, 0n, true, never);
  assert.equal((await reader.next()).value?.data.toString(), "first\n");
  for (let count = 0; count < 100; count++) await print(piece);
  await spool.finish();
  let bytes = 6n;
  let missed = 0n;
  for await (const chunk of reader) {
    assert.equal(chunk.cursor, bytes);
    if (chunk.stream === "gap") missed += chunk.next - chunk.cursor;
    bytes = chunk.next;
  }
  assert.equal(bytes, 6n + 100n * BigInt(piece.length));
  assert.ok(missed > 30n << 20n && missed < 60n << 20n, String(missed));
});

test("following ends with the log, or with the signal", async () => {
  const controller = new AbortController();
  const reader = logChunks(spool, 0n, true, controller.signal);
  const first = reader.next();
  controller.abort(new Error("enough"));
  await assert.rejects(first, /enough/);
  const other = logChunks(spool, 0n, true, never);
  const second = other.next();
  await print("x");
  assert.equal((await second).value?.data.toString(), "x");
  await spool.finish();
  assert.equal((await other.next()).done, true);
});
