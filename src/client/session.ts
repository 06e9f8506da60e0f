// One connection of a streaming call: frames out, frames in, and the silence that means a dead daemon.
import type { ClientRequest } from "node:http";
import type { Socket } from "node:net";
import { PyroError } from "../errors/error.ts";
import {
  decodeJson,
  encodeFrame,
  encodeJsonFrame,
  type Frame,
  HEARTBEAT_MS,
  MAX_FRAME_BYTES,
  type RequestHead,
  readFrames,
  type StdinAck,
  ToClient,
  ToDaemon,
} from "../wire/protocol.ts";
import { Broken, checkProtocol, errorFrom, exchange, readJson } from "./exchange.ts";

const HEAD_MS = 15_000;
const SILENCE_MS = 3 * HEARTBEAT_MS;

export type Received =
  | { readonly kind: "event"; readonly event: unknown }
  | { readonly kind: "output"; readonly stream: "stdout" | "stderr"; readonly cursor: bigint; readonly data: Buffer }
  | { readonly kind: "ack"; readonly ack: StdinAck }
  | { readonly kind: "alive" };

export interface Session {
  send(type: number, payload: Uint8Array): void;
  sendJson(type: number, value: unknown): void;
  /** Sends and resolves when the socket takes more, with true; false when the connection takes nothing any more. */
  sendSlowly(type: number, payload: Uint8Array): Promise<boolean>;
  destroy(): void;
}

export interface SessionHooks {
  /** Aborting drops the connection; the session rejects with the reason. */
  readonly ended: AbortSignal;
  /** The head was sent: more may be. */
  ready(session: Session): void;
  /** Reading waits until it resolves. Only while it waits for the daemon does silence count. */
  received(received: Received): Promise<void>;
}

/** The row's output. Errors: Broken when the connection ends early, else what the daemon says. */
export async function runSession(
  socket: Socket,
  path: string,
  head: RequestHead,
  hooks: SessionHooks,
): Promise<unknown> {
  const first = encodeJsonFrame(ToDaemon.Head, head);
  if (first.length > MAX_FRAME_BYTES) {
    socket.destroy();
    throw new PyroError(
      "INVALID_INPUT",
      `The input takes ${first.length} bytes as JSON; ${MAX_FRAME_BYTES} is the most.`,
      {
        hint: "Give less at once: what is long goes into a file, or to the command's stdin.",
      },
    );
  }
  const { request, reply } = exchange(socket, "POST", path, HEAD_MS);
  request.setHeader("content-type", "application/octet-stream");
  const session: Session = {
    send: (type, payload) => {
      if (!request.destroyed) request.write(encodeFrame(type, payload));
    },
    sendJson: (type, value) => {
      if (!request.destroyed) request.write(encodeJsonFrame(type, value));
    },
    sendSlowly: async (type, payload) => {
      if (request.destroyed) return false;
      if (!request.write(encodeFrame(type, payload))) await untilDrained(request);
      return !request.destroyed;
    },
    destroy: () => socket.destroy(),
  };
  const dropped = new Promise<never>((_, reject) => {
    const drop = () => {
      reject(hooks.ended.reason);
      socket.destroy();
    };
    if (hooks.ended.aborted) drop();
    else hooks.ended.addEventListener("abort", drop, { once: true });
    socket.once("close", () => hooks.ended.removeEventListener("abort", drop));
  });
  dropped.catch(() => {});
  try {
    request.write(first);
    hooks.ready(session);
    const answer = await Promise.race([reply, dropped]);
    checkProtocol(answer);
    if (answer.statusCode !== 200) {
      const value = await readJson(answer, HEAD_MS);
      throw errorFrom((value as { error?: unknown } | null)?.error);
    }
    return await readAll(readFrames(answer), hooks, dropped);
  } finally {
    socket.destroy();
  }
}

function untilDrained(request: ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      request.off("drain", done);
      request.off("close", done);
      resolve();
    };
    request.once("drain", done);
    request.once("close", done);
    if (request.destroyed) done();
  });
}

async function readAll(frames: AsyncGenerator<Frame>, hooks: SessionHooks, dropped: Promise<never>): Promise<unknown> {
  for (;;) {
    const frame = await Promise.race([nextFrame(frames), dropped]);
    if (frame.type === ToClient.Output) return asJson(frame);
    if (frame.type === ToClient.Error) throw errorFrom(asJson(frame));
    // Output may wait long for its reader; an abort must not.
    await Promise.race([hooks.received(read(frame)), dropped]);
  }
}

async function nextFrame(frames: AsyncGenerator<Frame>): Promise<Frame> {
  let timer: NodeJS.Timeout | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Broken(`silent for ${SILENCE_MS} ms`)), SILENCE_MS);
  });
  try {
    const next = await Promise.race([frames.next(), silence]);
    if (next.done) throw new Broken("the connection ended early");
    return next.value;
  } catch (thrown) {
    if (thrown instanceof Broken) throw thrown;
    throw new Broken(thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
  } finally {
    clearTimeout(timer);
  }
}

function read(frame: Frame): Received {
  switch (frame.type) {
    case ToClient.Event:
      return { kind: "event", event: asJson(frame) };
    case ToClient.StdinAck: {
      const ack = asJson(frame) as Partial<StdinAck> | null;
      if (typeof ack?.stdin_offset !== "number") throw new Broken("an acknowledgement without an offset");
      return { kind: "ack", ack: { stdin_offset: ack.stdin_offset, closed: ack.closed === true } };
    }
    case ToClient.Stdout:
    case ToClient.Stderr: {
      if (frame.payload.length < 8) throw new Broken("output without a cursor");
      const payload = Buffer.from(frame.payload.buffer, frame.payload.byteOffset, frame.payload.length);
      const stream = frame.type === ToClient.Stdout ? "stdout" : "stderr";
      return { kind: "output", stream, cursor: payload.readBigUInt64BE(0), data: payload.subarray(8) };
    }
    default:
      // A frame that a newer daemon has and that an older client may miss.
      return { kind: "alive" };
  }
}

function asJson(frame: Frame): unknown {
  try {
    return decodeJson(frame);
  } catch (thrown) {
    throw new Broken("a frame that is no JSON", { cause: thrown });
  }
}
