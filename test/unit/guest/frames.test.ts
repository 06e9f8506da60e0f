// The frame layer of virtio-serial: whatever is cut, no byte of an old session is taken for a new one's.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  controlFrame,
  FILLER,
  FRAME_END,
  FrameReader,
  frameHeader,
  type LinkFrame,
  MAX_PAYLOAD_BYTES,
} from "../../../src/guest/link/frames.ts";
import { Seeded } from "../../seed.ts";

function frame(session: number, payload: Buffer): Buffer {
  return Buffer.concat([frameHeader(session, false, payload.length), payload, FRAME_END]);
}

test("frames come out whole however the bytes are cut into chunks", () => {
  const random = Seeded.fromEnvironment();
  const payloads = Array.from({ length: 200 }, () =>
    Buffer.alloc(1 + Math.floor(random.next() * 3000), random.next() * 256),
  );
  const stream = Buffer.concat(payloads.map((payload) => frame(7, payload)));
  const reader = new FrameReader();
  const got: LinkFrame[] = [];
  for (let at = 0; at < stream.length; ) {
    const size = 1 + Math.floor(random.next() * 5000);
    got.push(...reader.push(stream.subarray(at, at + size)));
    at += size;
  }
  assert.deepEqual(
    got.map((f) => f.payload),
    payloads,
    `seed ${random.seed}`,
  );
});

test("a stream cut at any byte is followed by the next session's frames and nothing else", () => {
  const old = Buffer.concat([
    frame(0x01020304, Buffer.from("complete")),
    frame(0x01020304, Buffer.alloc(40, 0xff)),
    frame(0x01020304, Buffer.alloc(300, 0x55)),
  ]);
  const next = Buffer.concat([
    FILLER,
    controlFrame(0x0a0b0c0d, Buffer.from("hello")),
    frame(0x0a0b0c0d, Buffer.from("new")),
  ]);
  for (let cut = 0; cut <= old.length; cut++) {
    const reader = new FrameReader();
    const frames = reader.push(Buffer.concat([old.subarray(0, cut), next]));
    const fresh = frames.filter((f) => f.session === 0x0a0b0c0d);
    assert.deepEqual(
      fresh.map((f) => f.payload.toString()),
      ["hello", "new"],
      `cut at ${cut}`,
    );
    for (const stale of frames.filter((f) => f.session === 0x01020304)) {
      assert.ok(
        ["complete", "\xff".repeat(40), "U".repeat(300)].includes(stale.payload.toString("latin1")),
        `cut at ${cut}`,
      );
    }
    assert.equal(fresh.length + frames.filter((f) => f.session === 0x01020304).length, frames.length);
  }
});

test("filler that is itself cut is still filler", () => {
  const reader = new FrameReader();
  const stream = Buffer.concat([
    frame(5, Buffer.from("a")).subarray(0, 6),
    FILLER.subarray(0, 100),
    FILLER,
    frame(6, Buffer.from("b")),
  ]);
  assert.deepEqual(
    reader.push(stream).map((f) => [f.session, f.payload.toString()]),
    [[6, "b"]],
  );
});

test("the largest frame passes, a larger one is dropped", () => {
  const reader = new FrameReader();
  const largest = Buffer.alloc(MAX_PAYLOAD_BYTES, 1);
  assert.equal(reader.push(frame(1, largest)).length, 1);
  const header = frameHeader(1, false, MAX_PAYLOAD_BYTES + 1);
  const frames = reader.push(Buffer.concat([header, FILLER, frame(2, Buffer.from("x"))]));
  assert.deepEqual(
    frames.map((f) => f.session),
    [2],
  );
});

test("the answer to a repeated HELLO is skipped, its bare nonce too", () => {
  const nonce = Buffer.from("0123456789abcdef");
  const again = Buffer.concat([FILLER, nonce, controlFrame(9, Buffer.of(2))]);
  const stream = Buffer.concat([frame(9, Buffer.from("one")), again, frame(9, Buffer.from("two"))]);
  for (const size of [1, 3, 7, 65_536]) {
    const reader = new FrameReader(nonce);
    const got: LinkFrame[] = [];
    for (let at = 0; at < stream.length; at += size) got.push(...reader.push(stream.subarray(at, at + size)));
    assert.deepEqual(
      got.filter((f) => !f.control).map((f) => f.payload.toString()),
      ["one", "two"],
    );
  }
});

test("a header that makes no sense is skipped alike however the bytes arrive", () => {
  // Filler that follows at once, and bytes of a guest that does not keep to the protocol.
  const nonsense = Buffer.from("00000007fe00ff0a010203ff0a00", "hex");
  const stream = Buffer.concat([nonsense, FILLER, frame(7, Buffer.from("next"))]);
  const whole = new FrameReader().push(stream).map(({ payload }) => payload.toString("hex"));
  const reader = new FrameReader();
  const single = [...stream].flatMap((byte) => reader.push(Buffer.of(byte)));
  assert.deepEqual(
    single.map(({ payload }) => payload.toString("hex")),
    whole,
  );
  assert.equal(whole.at(-1), Buffer.from("next").toString("hex"));
});
