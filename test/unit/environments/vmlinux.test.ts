// The kernel as an ELF file, out of a vmlinuz.
import assert from "node:assert/strict";
import { test } from "node:test";
import { unpackBlock, vmlinuxOf } from "../../../src/environments/vmlinux.ts";

const MAGIC = Buffer.from([0x02, 0x21, 0x4c, 0x18]);

/** A block of lz4: literals, then `length` bytes copied from `distance` back, then the last literals. */
function block(first: string, length: number, distance: number, last: string): Buffer {
  const more = (rest: number) =>
    rest < 15 ? [] : [...Array(Math.floor((rest - 15) / 255)).fill(255), (rest - 15) % 255];
  const nibble = (rest: number) => Math.min(rest, 15);
  return Buffer.from([
    (nibble(first.length) << 4) | nibble(length - 4),
    ...more(first.length),
    ...Buffer.from(first, "latin1"),
    distance & 255,
    distance >> 8,
    ...more(length - 4),
    nibble(last.length) << 4,
    ...more(last.length),
    ...Buffer.from(last, "latin1"),
  ]);
}

function image(...parts: Buffer[]): Buffer {
  const sized = parts.flatMap((part) => {
    const size = Buffer.alloc(4);
    size.writeUInt32LE(part.length);
    return [size, part];
  });
  return Buffer.concat([Buffer.from("a boot sector"), MAGIC, ...sized, Buffer.from([0xff, 0xff, 0xff, 0xff, 1, 2, 3])]);
}

test("blocks repeat what they had, also what is just being written", () => {
  assert.equal(unpackBlock(block("abc", 300, 3, "."))?.toString(), `abc${"abc".repeat(100)}.`);
  assert.equal(
    unpackBlock(block("x".repeat(300), 4, 300, "y".repeat(20)))?.toString(),
    `${"x".repeat(304)}${"y".repeat(20)}`,
  );
  assert.equal(unpackBlock(block("abc", 4, 4, ".")), undefined, "further back than there is anything");
  assert.equal(unpackBlock(Buffer.from([0xf0])), undefined, "cut off");
});

test("the payload is found behind a magic number that is not its own", () => {
  const kernel = "\x7fELF and a kernel";
  const packed = image(block(kernel, 40, 8, "the end"));
  const unpacked = vmlinuxOf(Buffer.concat([MAGIC, Buffer.from("no length that could be"), packed]));
  assert.equal(unpacked.toString("latin1"), `${kernel}${"a kernel".repeat(5)}the end`);
});

test("an image without a kernel in lz4 is refused", () => {
  assert.throws(() => vmlinuxOf(Buffer.from("MZ, and nothing else")), RangeError);
  assert.throws(() => vmlinuxOf(image(block("no ELF", 8, 2, "here"))), RangeError);
});
