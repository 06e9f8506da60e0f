// A connection to a guest port over Firecracker's vsock: one socket of the host for all ports, and a line of text each
// way before the bytes.
import type { Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { connectOwn } from "../socket.ts";

/** A guest that has no listener yet closes at once, one that does not answer at all is asked again. */
const TRY_MS = 3_000;
const RETRY_PAUSE_MS = 20;
/** The pause grows to this, ms: a guest that is not there is not worth a processor. */
const MOST_PAUSE_MS = 250;
const MAX_LINE_BYTES = 64;

/**
 * Resolves with a stream of the port's bytes. Tries until the signal aborts, and then rejects with its reason; rejects at
 * once when `isOver` says that there is no guest any more.
 */
export async function openVsock(
  path: string,
  port: number,
  signal: AbortSignal,
  isOver: () => boolean,
): Promise<Socket> {
  for (let pause = RETRY_PAUSE_MS; ; pause = Math.min(MOST_PAUSE_MS, pause * 1.5)) {
    signal.throwIfAborted();
    const socket = await tryOnce(path, port, AbortSignal.any([signal, AbortSignal.timeout(TRY_MS)]));
    if (socket !== undefined) return socket;
    if (isOver()) throw new Error("the VMM has gone");
    await sleep(pause);
  }
}

/** Undefined when there was no connection, for whatever reason. */
async function tryOnce(path: string, port: number, signal: AbortSignal): Promise<Socket | undefined> {
  const socket = await connectOwn(path).catch(() => undefined);
  if (socket === undefined) return undefined;
  socket.on("error", () => {});
  socket.write(`CONNECT ${port}\n`);
  return await new Promise((resolve) => {
    let line = Buffer.alloc(0);
    const finish = (given: Socket | undefined) => {
      signal.removeEventListener("abort", giveUp);
      socket.off("data", take);
      socket.off("close", giveUp);
      if (given === undefined) socket.destroy();
      resolve(given);
    };
    const giveUp = () => finish(undefined);
    const take = (chunk: Buffer) => {
      line = Buffer.concat([line, chunk]);
      const end = line.indexOf("\n");
      if (end < 0 && line.length <= MAX_LINE_BYTES) return;
      if (end < 0 || !/^OK \d+$/.test(line.toString("latin1", 0, end))) return giveUp();
      socket.pause();
      // The guest may have spoken already.
      if (end + 1 < line.length) socket.unshift(line.subarray(end + 1));
      finish(socket);
    };
    if (signal.aborted) return giveUp();
    signal.addEventListener("abort", giveUp, { once: true });
    socket.on("close", giveUp);
    socket.on("data", take);
  });
}
