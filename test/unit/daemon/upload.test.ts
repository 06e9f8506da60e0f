import assert from "node:assert/strict";
import { PassThrough } from "node:stream";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Requests } from "../../../src/daemon/stream.ts";
import { Incoming } from "../../../src/daemon/upload.ts";
import type { PyroError } from "../../../src/errors/error.ts";
import { encodeFrame, encodeJsonFrame, ToDaemon } from "../../../src/wire/protocol.ts";

const END = { mode: "directory", skipped: [], skipped_count: 0 } as const;

function connection() {
  const wire = new PassThrough({ highWaterMark: 1 << 16 });
  const cancelled: PyroError[] = [];
  const incoming = new Incoming(new Requests(wire as never), (reason) => cancelled.push(reason));
  return { wire, incoming, cancelled };
}

async function all(bytes: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of bytes) chunks.push(chunk);
  return Buffer.concat(chunks);
}

test("what was sent is given in order, and its end says what the client knows", async () => {
  const { wire, incoming, cancelled } = connection();
  const given = all(incoming.bytes);
  for (const word of ["one ", "two ", "three"]) wire.write(encodeFrame(ToDaemon.Stdin, Buffer.from(word)));
  assert.throws(() => incoming.end(), { code: "INTERNAL" });
  wire.write(encodeJsonFrame(ToDaemon.UploadEnd, END));
  assert.equal((await given).toString(), "one two three");
  assert.deepEqual(incoming.end(), END);
  wire.end();
  await sleep(5);
  assert.deepEqual(cancelled, [], "a client that has said all may go");
});

test("a cancel is heard while nobody takes anything, and a client that goes too early is one", async () => {
  for (const last of [encodeJsonFrame(ToDaemon.Control, { type: "cancel" }), undefined]) {
    const { wire, incoming, cancelled } = connection();
    wire.write(encodeFrame(ToDaemon.Stdin, Buffer.alloc(1000)));
    if (last === undefined) wire.end();
    else wire.write(last);
    await sleep(5);
    assert.deepEqual(
      cancelled.map(({ code }) => code),
      ["CANCELLED"],
    );
    await assert.rejects(all(incoming.bytes), { code: "CANCELLED" });
  }
});

test("no more is read ahead than a little, and all of it arrives", async () => {
  const { wire, incoming } = connection();
  const piece = Buffer.alloc(1 << 19, 7);
  const frames = 40;
  let written = 0;
  const writing = (async () => {
    for (; written < frames; written++) {
      if (!wire.write(encodeFrame(ToDaemon.Stdin, piece)))
        await new Promise<void>((resolve) => wire.once("drain", resolve));
    }
    wire.write(encodeJsonFrame(ToDaemon.UploadEnd, END));
  })();
  await sleep(50);
  assert.ok(written < 16, `${written} pieces were taken before anybody asked`);
  assert.equal((await all(incoming.bytes)).length, frames * piece.length);
  await writing;
});

test("frames that cannot be understood, and files behind their end, fail the call", async () => {
  const bad = [
    [encodeJsonFrame(ToDaemon.UploadEnd, { mode: "hardware" })],
    [encodeJsonFrame(ToDaemon.UploadEnd, END), encodeFrame(ToDaemon.Stdin, Buffer.from("more"))],
  ];
  for (const frames of bad) {
    const { wire, cancelled } = connection();
    for (const frame of frames) wire.write(frame);
    await sleep(5);
    assert.deepEqual(
      cancelled.map(({ code }) => code),
      ["INVALID_INPUT"],
    );
  }
});
