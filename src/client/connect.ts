// Opens a connection to the daemon, starting it where none runs.
import type { Socket } from "node:net";
import { PyroError } from "../errors/error.ts";
import { connectOnce, isAbsent } from "./socket.ts";
import { startDaemon } from "./start-daemon.ts";
import type { Where } from "./where.ts";

export interface OpenOptions {
  /** Start the daemon when none answers. */
  readonly start: boolean;
  readonly signal?: AbortSignal;
}

/**
 * A connected socket. A socket file that nobody listens on counts as no daemon.
 * Errors: DAEMON_UNREACHABLE, DAEMON_START_FAILED, HOST_IO_FAILED; an abort rejects with its reason.
 */
export async function openSocket(where: Where, { start, signal }: OpenOptions): Promise<Socket> {
  signal?.throwIfAborted();
  try {
    return await connectOnce(where, signal);
  } catch (thrown) {
    if (!start || !isAbsent(thrown)) throw unreachable(where, thrown);
  }
  await startDaemon(where, signal);
  try {
    return await connectOnce(where, signal);
  } catch (thrown) {
    throw unreachable(where, thrown);
  }
}

/** Returns when a daemon runs, started if need be. Errors as openSocket. */
export async function ensureDaemon(where: Where, signal?: AbortSignal): Promise<void> {
  (await openSocket(where, { start: true, signal })).destroy();
}

function unreachable(where: Where, thrown: unknown): unknown {
  if (thrown instanceof PyroError || !(thrown instanceof Error) || thrown.name === "AbortError") return thrown;
  if (!("code" in thrown) && !thrown.message.startsWith("no connection")) return thrown;
  const what = isAbsent(thrown) ? "No daemon runs" : `The daemon cannot be reached (${thrown.message})`;
  return new PyroError("DAEMON_UNREACHABLE", `${what} at ${where.paths.daemonSocket}.`, { cause: thrown });
}
