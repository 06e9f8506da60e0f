// What a connection does for a process it is attached to: its output from the cursor that the client has, its stdin, and
// the client's signals. The process belongs to the engine and may see several connections.
import { orAborted } from "../abort/or-aborted.ts";
import type { ProcessEnd } from "../engine/process.ts";
import type { Spool } from "../engine/spool.ts";
import { PyroError } from "../errors/error.ts";
import { type RequestHead, STDIN_WINDOW_BYTES, type StdinAck, ToClient, ToDaemon } from "../wire/protocol.ts";
import { readControl } from "./frames.ts";
import type { Reply, Requests } from "./stream.ts";

/** A process as its connections know it. */
export interface Attachable {
  /** Resolves when there is output to read. Rejects with a PyroError when it could not be started. */
  readonly started: Promise<unknown>;
  /** How it ended, with all output in the spool; rejects with a PyroError when it was lost. */
  readonly ended: Promise<ProcessEnd>;
  /** Once it has started. */
  readonly spool: Spool;
  /** Its end is known, or that it will never be. */
  readonly over: boolean;
  /**
   * Stdin from `offset` on, as this client counts; `closed` when it reads no more. Errors: GUEST_UNRESPONSIVE when it is
   * not read, those of `started`; the signal's reason.
   */
  write(offset: bigint, data: Uint8Array, eof: boolean, signal: AbortSignal): Promise<{ closed: boolean }>;
  signal(number: number): Promise<unknown>;
  resize(columns: number, rows: number): Promise<void>;
  /** Ends it and all it started; what had ended stays so. */
  cancel(reason: PyroError): void;
}

/**
 * Sends output until the end, or until the wait is over; true when the client was sent the end. `result` is the row's
 * output behind a cursor; it says whether something of all that the client was sent stands for a secret.
 */
export async function streamOutput(
  process: Attachable,
  result: (cursor: bigint) => { readonly redacted: boolean },
  head: RequestHead,
  reply: Reply,
  wait: AbortSignal | undefined,
  stop: AbortSignal,
): Promise<boolean> {
  let cursor = BigInt(head.resume?.cursor ?? "0");
  if (cursor > process.spool.end)
    throw new PyroError("INVALID_INPUT", `head.resume.cursor ${cursor} is beyond the output.`);
  // A client that comes back was sent the rest by another connection, or another daemon.
  let redacted = cursor > 0n && (await process.spool.redactedBefore(cursor));
  const told = () => ({ ...result(cursor), redacted });
  const until = wait === undefined ? stop : AbortSignal.any([wait, stop]);
  try {
    for await (const chunk of process.spool.read(cursor, true, until)) {
      if (chunk.stream === "gap") {
        await reply.json(ToClient.Event, { type: "gap", dropped_bytes: Number(chunk.next - chunk.cursor) });
      } else {
        await reply.output(chunk.stream, chunk.next, chunk.data);
      }
      cursor = chunk.next;
      redacted ||= chunk.redacted === true;
    }
    if ((await race(process.ended, wait, stop)) === "done") {
      await reply.json(ToClient.Output, told());
      return true;
    }
  } catch (thrown) {
    if (stop.aborted) throw stop.reason;
    if (!wait?.aborted) throw thrown;
  }
  await reply.json(ToClient.Output, told());
  return process.over;
}

/**
 * Takes the client's frames until there are no more. Stdin goes its own way, in order, so that a signal is not held
 * up by a process that does not read. Never rejects: a frame that cannot be understood cancels the process, as nobody
 * would hear what its client says afterwards. `what` names the process in messages.
 */
export async function receive(
  process: Attachable,
  what: string,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  stop: AbortSignal,
  cancel: (reason: PyroError) => void,
): Promise<void> {
  const stdin = new StdinQueue(process, BigInt(head.resume?.stdin_offset ?? 0), reply, stop);
  try {
    for (let frame = await requests.next(); frame !== undefined; frame = await requests.next()) {
      if (frame.type === ToDaemon.Stdin) stdin.add(frame.payload, false);
      else if (frame.type === ToDaemon.StdinEnd) stdin.add(frame.payload, true);
      if (frame.type !== ToDaemon.Control) continue;
      const control = readControl(frame);
      if (control?.type === "cancel") return cancel(new PyroError("CANCELLED", `The ${what} was cancelled.`));
      // A signal that comes too late has nobody to go to.
      if (control?.type === "signal") void process.signal(control.signal).catch(() => {});
      if (control?.type === "resize") void process.resize(control.columns, control.rows).catch(() => {});
    }
  } catch (thrown) {
    cancel(PyroError.from(thrown));
  }
}

/** Aborts when the client cancels, or says what cannot be understood: for calls that take nothing else from it. */
export function hearCancel(requests: Requests, what: string): AbortSignal {
  const cancelled = new AbortController();
  const listen = async () => {
    for (let frame = await requests.next(); frame !== undefined; frame = await requests.next()) {
      if (frame.type !== ToDaemon.Control || readControl(frame)?.type !== "cancel") continue;
      return cancelled.abort(new PyroError("CANCELLED", `The ${what} was cancelled.`));
    }
  };
  listen().catch((thrown: unknown) => cancelled.abort(PyroError.from(thrown)));
  return cancelled.signal;
}

/** Stdin on its way to the process, acknowledged as the process's pipe takes it. */
class StdinQueue {
  readonly #process: Attachable;
  readonly #reply: Reply;
  readonly #stop: AbortSignal;
  #offset: bigint;
  #queued = 0;
  #closed = false;
  #tail: Promise<void> = Promise.resolve();

  constructor(process: Attachable, offset: bigint, reply: Reply, stop: AbortSignal) {
    this.#process = process;
    this.#offset = offset;
    this.#reply = reply;
    this.#stop = stop;
  }

  add(data: Uint8Array, eof: boolean): void {
    this.#queued += data.length;
    // A client that ignores the window is not let fill the daemon's memory.
    if (this.#queued > 2 * STDIN_WINDOW_BYTES) {
      this.#fail(new PyroError("INVALID_INPUT", "The client sent more stdin than it may have on its way."));
    }
    this.#tail = this.#tail.then(() => this.#write(data, eof)).catch((error) => this.#fail(PyroError.from(error)));
  }

  async #write(data: Uint8Array, eof: boolean): Promise<void> {
    this.#queued -= data.length;
    if (this.#closed) return;
    const closed = await this.#hand(data, eof);
    this.#offset += BigInt(data.length);
    this.#closed = closed || eof;
    const ack: StdinAck = { stdin_offset: Number(this.#offset), closed: this.#closed };
    await this.#reply.json(ToClient.StdinAck, ack);
  }

  /** A process may take its time to read: the same piece is offered until it is taken, never another in its place. */
  async #hand(data: Uint8Array, eof: boolean): Promise<boolean> {
    for (;;) {
      try {
        return (await this.#process.write(this.#offset, data, eof, this.#stop)).closed;
      } catch (error) {
        // A guest that is gone is found out by whoever awaits its output.
        const slow = error instanceof PyroError && error.code === "GUEST_UNRESPONSIVE";
        if (!slow || this.#stop.aborted || this.#process.over) throw error;
      }
    }
  }

  /** Input that cannot be handed on ends the process: a command that got half of it must not look like a success. */
  #fail(error: PyroError): void {
    this.#closed = true;
    if (!this.#stop.aborted && !this.#process.over) this.#process.cancel(error);
  }
}

/** Rejects as the promise does, or with `stop`'s reason. */
export async function race(
  promise: Promise<unknown>,
  wait: AbortSignal | undefined,
  stop: AbortSignal,
): Promise<"done" | "waited"> {
  try {
    await orAborted(promise, wait === undefined ? stop : AbortSignal.any([stop, wait]));
    return "done";
  } catch (thrown) {
    if (wait?.aborted && thrown === wait.reason) return "waited";
    throw thrown;
  }
}
