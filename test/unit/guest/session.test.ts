// A session over a port with a guest that does not keep to the protocol: the daemon goes on.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { controlFrame, FILLER, FRAME_END, FrameReader, frameHeader, Message } from "../../../src/guest/link/frames.ts";
import { openSession } from "../../../src/guest/link/session.ts";

function data(session: number, text: string): Buffer {
  return Buffer.concat([frameHeader(session, false, text.length), Buffer.from(text), FRAME_END]);
}

/** Answers HELLO, and says what is given in the same breath. */
async function guestThatSays(what: (session: number) => Buffer, use: (port: Socket) => Promise<void>): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), "pyro-session-"));
  const path = join(directory, "port.sock");
  const server = createServer((port) => {
    const reader = new FrameReader();
    port.on("error", () => {});
    port.on("data", (chunk: Buffer) => {
      const hello = reader.push(chunk).find(({ control, payload }) => control && payload[0] === Message.Hello);
      if (hello === undefined) return;
      const ready = controlFrame(hello.session, Buffer.of(Message.Ready));
      port.end(Buffer.concat([FILLER, hello.payload.subarray(1), ready, what(hello.session)]));
    });
  });
  await new Promise<void>((resolve) => void server.listen(path, resolve));
  const port = connect(path);
  // A paused socket keeps no process alive, and here is nothing else that would.
  const awake = setTimeout(() => {}, 20_000);
  try {
    await use(port);
  } finally {
    clearTimeout(awake);
    port.destroy();
    await new Promise<void>((resolve) => void server.close(() => resolve()));
    await rm(directory, { recursive: true });
  }
}

test("what a guest says after its BYE is not heard", async () => {
  const bye = Buffer.of(Message.Bye);
  const says = (session: number) =>
    Buffer.concat([
      data(session, "before"),
      controlFrame(session, bye),
      data(session, "after"),
      controlFrame(session, bye),
      data(session, "long after"),
    ]);
  await guestThatSays(says, async (port) => {
    const session = await openSession(port, AbortSignal.timeout(5000));
    const heard: Buffer[] = [];
    for await (const chunk of session) heard.push(chunk as Buffer);
    assert.equal(Buffer.concat(heard).toString(), "before");
  });
});
