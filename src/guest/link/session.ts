// A session over a virtio-serial port (proto/link.md): opens it over a fresh connection to the port's socket and gives
// it out as an ordinary duplex stream.
import { randomBytes, randomInt } from "node:crypto";
import type { Socket } from "node:net";
import { Duplex } from "node:stream";
import { controlFrame, FILLER, FRAME_END, FrameReader, frameHeader, MAX_PAYLOAD_BYTES, Message } from "./frames.ts";

const HELLO_AGAIN_MS = 1000;

/**
 * Opens a session on a connected port and resolves when the guest has taken it up.
 * Rejects with the signal's reason, or an Error when the port closes. The socket is destroyed on failure.
 */
export function openSession(socket: Socket, signal: AbortSignal): Promise<Duplex> {
  return new Promise((resolve, reject) => {
    const session = randomInt(1, 0xff00_0000);
    const nonce = randomBytes(16);
    // Behind filler the first byte must be told from filler.
    nonce[0] = (nonce[0] ?? 0) & 0x7f;
    const hello = Buffer.concat([FILLER, controlFrame(session, Buffer.concat([Buffer.of(Message.Hello), nonce]))]);
    const reader = new FrameReader(nonce);
    let hunted: Buffer = Buffer.alloc(0);
    let aligned = false;

    const sayHello = () => {
      // Not into a full pipe: a guest that does not read would only be sent more of the same.
      if (socket.writableLength === 0) socket.write(hello);
    };
    const again = setInterval(sayHello, HELLO_AGAIN_MS);
    const fail = (error: unknown) => {
      finish();
      socket.on("error", () => {});
      socket.destroy();
      reject(error);
    };
    const onAbort = () => fail(signal.reason);
    const onClose = () => fail(new Error("the port closed before the guest answered"));
    const finish = () => {
      clearInterval(again);
      signal.removeEventListener("abort", onAbort);
      socket.removeAllListeners("data");
      socket.off("error", onClose);
      socket.off("close", onClose);
    };
    const onData = (chunk: Buffer) => {
      let bytes = chunk;
      if (!aligned) {
        hunted = Buffer.concat([hunted, chunk]);
        const at = hunted.indexOf(nonce);
        if (at < 0) {
          hunted = hunted.subarray(Math.max(0, hunted.length - nonce.length));
          return;
        }
        aligned = true;
        bytes = hunted.subarray(at + nonce.length);
      }
      const frames = reader.push(bytes);
      const ready = frames.findIndex((f) => f.session === session && f.control && f.payload[0] === Message.Ready);
      if (ready < 0) {
        // A repeated HELLO makes the guest answer again: filler and the bare nonce may stand before READY.
        return;
      }
      socket.pause();
      finish();
      resolve(new SessionStream(socket, session, reader, frames.slice(ready + 1)));
    };

    if (signal.aborted) return fail(signal.reason);
    signal.addEventListener("abort", onAbort, { once: true });
    socket.on("error", onClose);
    socket.on("close", onClose);
    socket.on("data", onData);
    sayHello();
  });
}

/** The bytes of one session. Ends when the guest says BYE or the port closes. */
class SessionStream extends Duplex {
  readonly #socket: Socket;
  readonly #session: number;
  readonly #reader: FrameReader;
  /** The guest has said BYE: a guest that says more is not heard. */
  #ended = false;

  constructor(socket: Socket, session: number, reader: FrameReader, first: ReturnType<FrameReader["push"]>) {
    super({
      allowHalfOpen: false,
      readableHighWaterMark: 4 * MAX_PAYLOAD_BYTES,
      writableHighWaterMark: 4 * MAX_PAYLOAD_BYTES,
    });
    this.#socket = socket;
    this.#session = session;
    this.#reader = reader;
    // Whoever takes the stream listens a moment later; what fails until then must not end the daemon.
    this.on("error", () => {});
    socket.on("data", (chunk: Buffer) => this.#deliver(this.#reader.push(chunk)));
    socket.on("error", (error) => this.destroy(error));
    socket.on("close", () => this.destroy());
    this.#deliver(first);
  }

  #deliver(frames: ReturnType<FrameReader["push"]>): void {
    for (const frame of frames) {
      if (frame.session !== this.#session || this.#ended) continue;
      if (frame.control) {
        if (frame.payload[0] !== Message.Bye) continue;
        this.#ended = true;
        this.push(null);
      } else if (!this.push(frame.payload)) {
        this.#socket.pause();
      }
    }
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    this.#socket.cork();
    let flowing = true;
    for (let at = 0; at < chunk.length; at += MAX_PAYLOAD_BYTES) {
      const payload = chunk.subarray(at, at + MAX_PAYLOAD_BYTES);
      this.#socket.write(frameHeader(this.#session, false, payload.length));
      this.#socket.write(payload);
      flowing = this.#socket.write(FRAME_END);
    }
    this.#socket.uncork();
    if (flowing) done();
    else this.#socket.once("drain", () => done());
  }

  override _final(done: (error?: Error | null) => void): void {
    this.#socket.end(controlFrame(this.#session, Buffer.of(Message.Bye)), () => done());
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    this.#socket.destroy();
    done(error);
  }
}
