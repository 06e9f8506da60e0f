// What a person would have seen of a terminal's output, whatever is in it and however it is cut.
import assert from "node:assert/strict";
import { test } from "node:test";
import { plainText } from "../../../../src/engine/terminal/plain.ts";
import { plainEnd } from "../../../../src/engine/terminal/sequences.ts";

const SIZE = { cols: 40, rows: 10 };
const seen = (output: string, size = SIZE) => plainText(Buffer.from(output), size);

test("colours go, and what was overwritten or erased", async () => {
  assert.equal(await seen("\x1b[1;31mred\x1b[0m plain\r\n"), "red plain\n");
  assert.equal(await seen("10%\r 50%\r100%\r\ndone\r\n"), "100%\ndone\n");
  assert.equal(await seen("secret\x1b[2K\rshown"), "shown");
  assert.equal(await seen("abc\b\b\x1b[Kx"), "ax");
  assert.equal(await seen("one\r\ntwo\x1b[A\r\x1b[KONE\r\n"), "ONE\ntwo");
  assert.equal(await seen("\x1b]0;a title\x07text \x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\"), "text link");
});

test("lines that were only wrapped are whole; those that scrolled away are there, each once", async () => {
  const long = "0123456789".repeat(30);
  assert.equal(await seen(`${long}\r\nend\r\n`), `${long}\nend\n`);
  const lines = Array.from({ length: 30_000 }, (_, at) => `line ${at}`);
  assert.equal(await seen(`${lines.join("\r\n")}\r\n`), `${lines.join("\n")}\n`);
  const mixed = Array.from({ length: 2000 }, (_, at) => `${at} ${"x".repeat((at * 7) % 130)}`);
  assert.deepEqual((await seen(`${mixed.join("\r\n")}\r\n`)).split("\n").slice(0, -1), mixed);
});

test("a full-screen program that has left leaves nothing; one that is there is shown as it is", async () => {
  const around = (inside: string, left: string) => `before\r\n\x1b[?1049h\x1b[H${inside}${left}`;
  assert.equal(await seen(around("inside", "\x1b[?1049lafter\r\n")), "before\nafter\n");
  assert.equal(await seen(around("inside", "")), "before\ninside");
});

test("hostile output ends, in bounded time and room", { timeout: 60_000 }, async () => {
  for (const final of ["b", "L", "M", "S", "T", "I", "Z", "X", "P", "@", "A", "B", "C", "D"]) {
    assert.match(await seen(`a\x1b[2147483647${final}b\r\n`), /b/, final);
  }
  const rows = "\x1b[1000C x\r\n".repeat(20_000);
  assert.ok((await seen(rows, { cols: 1000, rows: 1000 })).length < 17 << 20);
  await seen(`\x1b]0;${"x".repeat(1 << 20)}`);
  await seen("\x1b[".repeat(100_000));
  await seen("e\u0301\u0301\u0301".repeat(20_000));
  const bytes = Buffer.alloc(200_000);
  for (let at = 0, seed = 7; at < bytes.length; at++) {
    seed = (seed * 1_103_515_245 + 12_345) & 0x7fffffff;
    bytes[at] = seed >> 16;
  }
  await plainText(bytes, SIZE);
});

test("a piece ends between sequences and characters, unless there is nothing before", () => {
  const end = (text: string | Buffer) => plainEnd(Buffer.from(text));
  assert.equal(end("abc"), 3);
  assert.equal(end("abc\x1b"), 3);
  assert.equal(end("abc\x1b[1;3"), 3);
  assert.equal(end("abc\x1b[1;31m"), 10);
  assert.equal(end("abc\x1b[1;31md"), 11);
  assert.equal(end("abc\x1b]0;title"), 3);
  assert.equal(end("abc\x1b]0;title\x07"), 13);
  assert.equal(end("abc\x1b(B"), 6);
  assert.equal(end("abc\x1b("), 3);
  assert.equal(end("\x1b[1;3"), 5);
  assert.equal(end(Buffer.from("aé").subarray(0, 2)), 1);
  assert.equal(end(Buffer.from("a漢").subarray(0, 3)), 1);
  assert.equal(end(Buffer.from("漢").subarray(0, 2)), 2);
  assert.equal(end("a漢"), 4);
  assert.equal(end(""), 0);
  assert.equal(end(`abc\x1b]0;${"x".repeat(5000)}`), 5007);
});
