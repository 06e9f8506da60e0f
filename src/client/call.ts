// A call that does not stream: input out, output back. And the daemon's own two: status and stop.
import { setTimeout as sleep } from "node:timers/promises";
import { PyroError } from "../errors/error.ts";
import { FACTS } from "../operations/facts.ts";
import type { InputOf, OperationName, OutputOf } from "../operations/table.ts";
import type { DaemonStatus } from "../wire/protocol.ts";
import { openSocket } from "./connect.ts";
import { Broken, brokenToError, checkProtocol, errorFrom, exchange, readJson } from "./exchange.ts";
import { connectOnce, isAbsent } from "./socket.ts";
import type { Where } from "./where.ts";

const ANSWER_MS = 30_000;
/** A row that may have to start a microVM first. */
const START_MS = 120_000;
const STOP_MS = 30_000;

export interface CallOptions {
  readonly signal?: AbortSignal;
  /** False: where no daemon runs none is started. Default true. */
  readonly start?: boolean;
}

/**
 * Carries out a row that does not stream. What is idempotent is asked once more when the connection breaks.
 * Errors: those of the row, DAEMON_*; an abort rejects with its reason.
 */
export async function call<N extends OperationName>(
  where: Where,
  operation: N,
  input: InputOf<N>,
  options: CallOptions = {},
): Promise<OutputOf<N>> {
  const wait = (input as { wait_seconds?: unknown }).wait_seconds;
  const usual = FACTS[operation].starts ? START_MS : ANSWER_MS;
  const deadline = usual + (typeof wait === "number" ? wait * 1000 : 0);
  const body = Buffer.from(JSON.stringify(input));
  const ask = () => post(where, `/v1/${operation}`, body, deadline, options.start ?? true, options.signal);
  try {
    return (await ask()) as OutputOf<N>;
  } catch (thrown) {
    if (!(thrown instanceof Broken) || !FACTS[operation].effect.idempotent) {
      throw brokenToError(thrown, where.paths.daemonSocket);
    }
  }
  try {
    return (await ask()) as OutputOf<N>;
  } catch (thrown) {
    throw brokenToError(thrown, where.paths.daemonSocket);
  }
}

/** The daemon's status, or undefined when none runs. Never starts one. */
export async function daemonStatus(where: Where, options: CallOptions = {}): Promise<DaemonStatus | undefined> {
  try {
    return (await ask(where, "GET", "/v1/status", ANSWER_MS, options.signal)) as DaemonStatus;
  } catch (thrown) {
    if (isAbsent(thrown)) return undefined;
    throw brokenToError(thrown, where.paths.daemonSocket);
  }
}

/**
 * Stops the daemon, of whatever version, and returns when it has gone: true when one ran. It ends runs and keeps
 * workspaces.
 */
export async function stopDaemon(where: Where, options: CallOptions = {}): Promise<boolean> {
  try {
    await askToStop(where, options.signal);
  } catch (thrown) {
    if (isAbsent(thrown)) return false;
    // A daemon that ends while it answers has done what was asked; the wait below finds out.
    if (!(thrown instanceof Broken)) throw thrown;
  }
  const deadline = Date.now() + STOP_MS;
  while (Date.now() < deadline) {
    try {
      (await connectOnce(where, options.signal)).destroy();
    } catch (thrown) {
      if (isAbsent(thrown)) return true;
      throw thrown;
    }
    await sleep(50);
  }
  throw new PyroError("DAEMON_UNREACHABLE", `The daemon was told to stop and still runs after ${STOP_MS / 1000} s.`);
}

async function askToStop(where: Where, signal?: AbortSignal): Promise<void> {
  try {
    await post(where, "/v1/stop", Buffer.from("{}"), STOP_MS, false, signal);
  } catch (thrown) {
    const theirs = thrown instanceof PyroError && thrown.code === "DAEMON_INCOMPATIBLE" && thrown.details.protocol;
    if (typeof theirs !== "string" || !/^\d{1,6}$/.test(theirs)) throw thrown;
    // Stopping is the way out of two versions, so it is said in the other's protocol.
    const socket = await connectOnce(where, signal);
    const { request, reply } = exchange(socket, "POST", "/v1/stop", STOP_MS, Number(theirs));
    request.end("{}");
    await readJson(await reply, STOP_MS).finally(() => socket.destroy());
  }
}

async function post(
  where: Where,
  path: string,
  body: Buffer,
  deadlineMs: number,
  start: boolean,
  signal?: AbortSignal,
): Promise<unknown> {
  return ask(where, "POST", path, deadlineMs, signal, { body, start });
}

async function ask(
  where: Where,
  method: "GET" | "POST",
  path: string,
  deadlineMs: number,
  signal?: AbortSignal,
  { body, start }: { body?: Buffer; start: boolean } = { start: false },
): Promise<unknown> {
  const socket = start ? await openSocket(where, { start, signal }) : await connectOnce(where, signal);
  const aborted = () => socket.destroy();
  if (signal?.aborted) aborted();
  signal?.addEventListener("abort", aborted, { once: true });
  try {
    const { request, reply } = exchange(socket, method, path, deadlineMs);
    if (body) request.setHeader("content-type", "application/json").setHeader("content-length", body.length);
    request.end(body);
    const head = await reply;
    checkProtocol(head);
    const value = await readJson(head, deadlineMs);
    if (head.statusCode === 200) return value;
    throw errorFrom((value as { error?: unknown } | null)?.error);
  } catch (thrown) {
    signal?.throwIfAborted();
    throw thrown;
  } finally {
    signal?.removeEventListener("abort", aborted);
    socket.destroy();
  }
}
