// What a guest that was taken over may send: frames, sessions and answers that are nearly right. The daemon must neither
// throw where nobody catches nor wait for ever.
import assert from "node:assert/strict";
import { performServerHandshake } from "node:http2";
import { type AddressInfo, createServer, connect as dial, type Socket } from "node:net";
import { Duplex } from "node:stream";
import { after, before } from "node:test";
import { createClient } from "@connectrpc/connect";
import { GuestService } from "../../../src/gen/pyro/guest/v1/guest_pb.js";
import {
  controlFrame,
  FILLER,
  FRAME_END,
  FrameReader,
  frameHeader,
  type LinkFrame,
  MAX_PAYLOAD_BYTES,
  Message,
} from "../../../src/guest/link/frames.ts";
import { openSession } from "../../../src/guest/link/session.ts";
import { RpcSession } from "../../../src/rpc/session.ts";
import type { Seeded } from "../../seed.ts";
import { fuzz, mutated, pieces } from "./fuzz.ts";

const SETTLED_MS = 5000;

function frame(session: number, payload: Buffer): Buffer {
  return Buffer.concat([frameHeader(session, false, payload.length), payload, FRAME_END]);
}

/** Some frames of one session, in the order of a session or in none. */
function conversation(random: Seeded, session: number): Buffer {
  const parts = Array.from({ length: random.below(8) }, () => {
    const choice = random.below(6);
    if (choice === 0) return FILLER;
    if (choice === 1) return controlFrame(session, Buffer.of(Message.Bye));
    if (choice === 2) return controlFrame(session, random.bytes(random.below(4)));
    if (choice === 3) return frame(random.below(2 ** 32), random.bytes(random.below(100)));
    return frame(session, random.bytes(1 + random.below(400)));
  });
  return Buffer.concat(parts);
}

fuzz("frames are the same however the bytes are cut, none is too long, and those behind filler are found", (random) => {
  const garbage = mutated(random, conversation(random, 7));
  const stream = Buffer.concat([garbage, FILLER, frame(9, Buffer.from("the one that matters"))]);
  const whole = new FrameReader().push(stream);
  const reader = new FrameReader();
  const cut: LinkFrame[] = [];
  for (const piece of pieces(random, stream)) {
    for (const { session, control, payload } of reader.push(Buffer.from(piece))) {
      cut.push({ session, control, payload: Buffer.from(payload) });
    }
  }
  assert.deepEqual(cut, whole);
  for (const { payload } of whole) assert.ok(payload.length <= MAX_PAYLOAD_BYTES);
  assert.equal(whole.at(-1)?.payload.toString(), "the one that matters");
});

/** Connections of one listening socket, in the order they were made. */
const listener = createServer();
const accepted: ((socket: Socket) => void)[] = [];
listener.on("connection", (socket) => accepted.shift()?.(socket));
before(() => new Promise<void>((resolve) => void listener.listen(0, "127.0.0.1", resolve)));
after(() => new Promise<void>((resolve) => void listener.close(() => resolve())));

async function pair(): Promise<[Socket, Socket]> {
  const other = new Promise<Socket>((resolve) => accepted.push(resolve));
  const one = dial((listener.address() as AddressInfo).port, "127.0.0.1");
  one.on("error", () => {});
  return [one, await other];
}

/** Says what the round wants once the host has said HELLO, then closes. */
function hostileGuest(random: Seeded, port: Socket): void {
  const reader = new FrameReader();
  port.on("error", () => {});
  port.on("data", (chunk: Buffer) => {
    const hello = reader.push(chunk).find((one) => one.control && one.payload[0] === Message.Hello);
    if (hello === undefined) return;
    port.removeAllListeners("data");
    port.resume();
    const nonce = hello.payload.subarray(1);
    const answer = Buffer.concat([FILLER, nonce, controlFrame(hello.session, Buffer.of(Message.Ready))]);
    const said = Buffer.concat([
      random.bytes(random.below(200)),
      random.chance(0.2) ? mutated(random, answer) : answer,
      conversation(random, hello.session),
    ]);
    for (const piece of pieces(random, random.chance(0.5) ? said : mutated(random, said))) port.write(piece);
    port.end();
  });
}

fuzz("a session with a hostile guest opens or does not, and ends", async (random) => {
  const [host, guest] = await pair();
  hostileGuest(random, guest);
  try {
    const session = await openSession(host, AbortSignal.timeout(SETTLED_MS));
    await new Promise<void>((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("the session does not end")), SETTLED_MS);
      session.on("error", () => {});
      session.on("close", () => {
        clearTimeout(late);
        resolve();
      });
      session.resume();
      if (random.chance(0.5)) session.write(random.bytes(random.below(500)));
    });
  } catch (error) {
    if ((error as Error).message !== "the port closed before the guest answered") throw error;
  } finally {
    host.destroy();
    guest.destroy();
  }
});

/** Two streams, each of which gives what the other takes; what goes to the first passes `change`. */
function joined(change: (chunk: Buffer) => Buffer): [Duplex, Duplex] {
  const ends: Duplex[] = [];
  const end = (other: number, through: (chunk: Buffer) => Buffer) =>
    new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        const partner = ends[other];
        if (partner && !partner.destroyed) partner.push(through(chunk));
        setImmediate(done);
      },
      final(done) {
        ends[other]?.push(null);
        done();
      },
      destroy(error, done) {
        setImmediate(() => ends[other]?.destroy());
        done(error);
      },
    });
  ends.push(
    end(1, (chunk) => chunk),
    end(0, change),
  );
  const [host, guest] = ends;
  if (host === undefined || guest === undefined) throw new Error("there are two ends");
  return [host, guest];
}

fuzz("a call whose answer is damaged on the way settles", async (random) => {
  const [host, guest] = joined((chunk) => (random.chance(0.3) ? mutated(random, chunk) : chunk));
  host.on("error", () => {});
  guest.on("error", () => {});
  const server = performServerHandshake(guest as Socket);
  server.on("error", () => {});
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    const body = random.chance(0.5) ? Buffer.alloc(0) : random.bytes(random.below(300));
    const status = random.chance(0.8) ? 200 : random.pick([204, 404, 500, 599]);
    const type = random.pick(["application/proto", "application/json", "text/plain"]);
    if (random.chance(0.2)) stream.additionalHeaders({ ":status": 103 });
    stream.respond({ ":status": status, "content-type": type, "x-odd": "\u00ff odd " }, { waitForTrailers: true });
    stream.on("wantTrailers", () =>
      stream.sendTrailers({ "grpc-status": String(random.below(20)), "x-odd": "\u00fe" }),
    );
    stream.end(body);
  });
  const session = new RpcSession(host);
  const calls = createClient(GuestService, session.transport);
  const late = AbortSignal.timeout(SETTLED_MS);
  try {
    await calls.hello({}, { signal: AbortSignal.timeout(200) });
  } catch {
    // Most answers are refused; that they are is the point.
  } finally {
    session.close();
    server.destroy();
  }
  await session.closed;
  late.throwIfAborted();
});
