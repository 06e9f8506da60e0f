// The two halves of a streaming call: frames that come in, one at a time, and frames that go out with back-pressure.
import type { IncomingMessage, ServerResponse } from "node:http";
import { PyroError } from "../errors/error.ts";
import {
  encodeFrame,
  encodeJsonFrame,
  encodeOutputFrame,
  type Frame,
  HEARTBEAT_MS,
  MAX_FRAME_BYTES,
  readFrames,
  ToClient,
} from "../wire/protocol.ts";

const MAX_OUTPUT_BYTES = MAX_FRAME_BYTES - 8;

/** Frames from the caller, in order. */
export class Requests {
  readonly #frames: AsyncGenerator<Frame>;

  constructor(request: IncomingMessage) {
    this.#frames = readFrames(request);
  }

  /** The next frame, or undefined when the caller has said all or has gone. Errors: INVALID_INPUT for one too long. */
  async next(): Promise<Frame | undefined> {
    try {
      const next = await this.#frames.next();
      return next.done ? undefined : next.value;
    } catch (error) {
      if (error instanceof RangeError) {
        throw new PyroError("INVALID_INPUT", `A frame of the request is longer than ${MAX_FRAME_BYTES} bytes.`);
      }
      // A cut connection; whoever serves it hears of that by its signal.
      return undefined;
    }
  }
}

/** Frames to the caller. Writing waits for a slow caller; after the caller has gone it does nothing. */
export class Reply {
  readonly #response: ServerResponse;
  readonly #heartbeat: NodeJS.Timeout;
  readonly #told: (value: unknown) => unknown;
  #drained: Promise<void> | undefined;

  /** What is said goes through `told`. */
  constructor(response: ServerResponse, told: (value: unknown) => unknown = (value) => value) {
    this.#response = response;
    this.#told = told;
    response.setHeader("content-type", "application/octet-stream");
    response.flushHeaders();
    this.#heartbeat = setInterval(() => {
      if (this.#drained === undefined) void this.#write(encodeFrame(ToClient.Heartbeat, new Uint8Array()));
    }, HEARTBEAT_MS);
  }

  async json(type: number, value: unknown): Promise<void> {
    await this.#write(encodeJsonFrame(type, this.#told(value)));
  }

  /** `next`: the cursor behind the data. */
  async output(stream: "stdout" | "stderr", next: bigint, data: Uint8Array): Promise<void> {
    const type = stream === "stdout" ? ToClient.Stdout : ToClient.Stderr;
    for (let at = 0; at < data.length; at += MAX_OUTPUT_BYTES) {
      const part = data.subarray(at, at + MAX_OUTPUT_BYTES);
      await this.#write(encodeOutputFrame(type, next - BigInt(data.length - at - part.length), part));
    }
  }

  end(): void {
    clearInterval(this.#heartbeat);
    this.#response.end();
  }

  /** Resolves when the caller has everything, with true, or has gone, with false. */
  async delivered(): Promise<boolean> {
    this.end();
    if (this.#response.writableFinished) return true;
    return await new Promise((resolve) => {
      this.#response.once("finish", () => resolve(true));
      this.#response.once("close", () => resolve(this.#response.writableFinished));
    });
  }

  async #write(frame: Buffer): Promise<void> {
    if (this.#response.destroyed || this.#response.writableEnded) return;
    if (this.#response.write(frame)) return;
    this.#drained ??= new Promise<void>((resolve) => {
      const done = () => {
        this.#response.off("drain", done);
        this.#response.off("close", done);
        this.#drained = undefined;
        resolve();
      };
      this.#response.once("drain", done);
      this.#response.once("close", done);
    });
    await this.#drained;
  }
}
