// Output put together again: text stays text, bytes stay bytes, and what is cut is counted.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Collector } from "../../../src/client/collect.ts";
import { cutAfter, cutBefore } from "../../../src/client/utf8.ts";
import { HeadTail, largest, shorten } from "../../../src/tools/budget.ts";

function collect(limit: number, ...chunks: (string | number[])[]) {
  const collector = new Collector(limit);
  for (const chunk of chunks) collector.add("stdout", Buffer.from(chunk as string));
  return collector.fill({}) as Record<string, unknown>;
}

test("a character cut by a chunk's border or by the limit keeps the text a text", () => {
  const euro = [...Buffer.from("€")];
  assert.equal(collect(100, euro.slice(0, 1), euro.slice(1)).stdout, "€");
  for (const limit of [4, 5]) {
    const cut = collect(limit, "abc€");
    assert.deepEqual([cut.stdout, cut.stdout_encoding, cut.stdout_truncated], ["abc", "utf-8", true]);
    assert.equal(cut.omitted_bytes, 3);
  }
  const binary = collect(2, [0xff, 0xfe, 0xfd]);
  assert.deepEqual([binary.stdout, binary.stdout_encoding, binary.omitted_bytes], ["//4=", "base64", 1]);
});

test("cuts fall between characters, and bytes that are none are cut anywhere", () => {
  const text = Buffer.from("aé€😀b");
  for (let at = 0; at <= text.length; at++) {
    assert.ok(!text.subarray(0, cutBefore(text, at)).toString().includes("\ufffd"));
    assert.ok(!text.subarray(cutAfter(text, at)).toString().includes("\ufffd"));
  }
  const noise = Buffer.alloc(20, 0x80);
  assert.equal(cutBefore(noise, 10), 10);
  assert.equal(cutAfter(noise, 10), 10);
});

test("head and tail are the output's own, whatever the chunks", () => {
  const data = Buffer.from(Array.from({ length: 1000 }, (_, index) => `${index}\n`).join(""));
  for (const size of [1, 7, 100, 5000]) {
    const kept = new HeadTail(64);
    for (let at = 0; at < data.length; at += size) kept.add(data.subarray(at, at + size));
    const { text, omitted } = kept.cut(40);
    assert.equal(text, `${data.subarray(0, 20)}\n[${omitted} bytes omitted]\n${data.subarray(-20)}`);
    assert.equal(omitted, data.length - 40);
  }
  const short = new HeadTail(64);
  short.add(Buffer.from("abc"));
  assert.deepEqual(short.cut(64), { text: "abc", lossy: false, omitted: 0 });
  assert.equal(short.cut(0).omitted, 3);
});

test("the largest that fits, and strings that are too long", () => {
  assert.equal(
    largest(1000, (limit) => limit <= 617),
    617,
  );
  assert.equal(
    largest(1000, () => true),
    1000,
  );
  assert.equal(
    largest(1000, () => false),
    0,
  );
  const short = shorten({
    a: "x".repeat(1000),
    keep: "y".repeat(1000),
    keep_encoding: "utf-8",
    list: new Array(60).fill("z"),
  });
  assert.equal((short as { a: string }).a.length, 503);
  assert.equal((short as { keep: string }).keep.length, 1000);
  assert.equal((short as { list: string[] }).list.length, 51);
});
