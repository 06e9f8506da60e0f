// Serves one connection of a run: its progress, its output from the cursor that the client has, its stdin, and the
// client's signals. A run may see several connections; it belongs to the engine, not to any of them.
import { orAborted } from "../abort/or-aborted.ts";
import type { Engine } from "../engine/engine.ts";
import type { HostProcess } from "../engine/process.ts";
import type { Run } from "../engine/run.ts";
import type { Claim } from "../engine/runs.ts";
import { PyroError } from "../errors/error.ts";
import type { EventOf, ParsedInputOf } from "../operations/table.ts";
import {
  type Control,
  type RequestHead,
  STDIN_WINDOW_BYTES,
  type StdinAck,
  ToClient,
  ToDaemon,
} from "../wire/protocol.ts";
import { readControl } from "./frames.ts";
import type { Reply, Requests } from "./stream.ts";

/** How long a run's preparation may still take when a wait is over and the preparation itself is done, ms. */
const START_GRACE_MS = 15_000;
/** How long finding everything prepared may take, ms. A first boot takes longer. */
const PREPARED_GRACE_MS = 1000;

export async function serveRun(
  engine: Engine,
  input: ParsedInputOf<"run">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const claim = engine.runs.claim(
    { vmId: head.vm_id, input, terminal: head.terminal, stdinClosed: head.stdin_closed },
    { attached: head.attached, mustExist: head.resume !== undefined },
  );
  const { run } = claim;
  const tell = (event: EventOf<"run">) => void reply.json(ToClient.Event, event);
  const unlisten = run.listen(tell);
  const wait = input.wait_seconds === undefined ? undefined : AbortSignal.timeout(input.wait_seconds * 1000);
  const cancelled = new AbortController();
  const stop = AbortSignal.any([gone, cancelled.signal]);
  // Controls and stdin are read from the start: a cancel must be heard while an environment is being built.
  void receive(run, head, requests, reply, stop, (reason) => {
    cancelled.abort(reason);
    run.cancel(reason);
  });
  let finished = false;
  try {
    await untilStarted(run, wait, stop);
    tell({ type: "started", vm_id: run.vmId, process_id: run.processId });
    finished = await stream(engine, run, head, reply, wait, stop);
    if (finished) finished = await reply.delivered();
  } catch (thrown) {
    // A run that cannot be is over for its client as soon as the client knows why.
    if (gone.aborted) return;
    finished = true;
    if (thrown instanceof PyroError && thrown.code === "ENVIRONMENT_PREPARING") {
      // The run is over, what it waited for goes on. This order: a preparation that nobody waits for is ended.
      engine.keepPreparing(input.environment);
      run.cancel(thrown);
    }
    throw cancelled.signal.aborted ? cancelled.signal.reason : thrown;
  } finally {
    unlisten();
    leave(claim, finished, head);
  }
}

/** A run that is kept until read is kept after its end too. */
function leave(claim: Claim, finished: boolean, head: RequestHead): void {
  const over = claim.run.facts.end !== undefined;
  claim.leave(finished && (head.attached || !over));
}

async function untilStarted(run: Run, wait: AbortSignal | undefined, stop: AbortSignal): Promise<void> {
  const first = await race(run.started, wait, stop);
  if (first === "done") return;
  // Where everything is there already, a look at it takes a moment, however short the wait.
  if (run.waitsForPreparation) await race(run.prepared, AbortSignal.timeout(PREPARED_GRACE_MS), stop);
  if (run.waitsForPreparation) {
    throw new PyroError("ENVIRONMENT_PREPARING", "The environment is being prepared; the command was not started.");
  }
  if ((await race(run.started, AbortSignal.timeout(START_GRACE_MS), stop)) === "done") return;
  throw new PyroError("MICROVM_START_FAILED", "The microVM does not come up in time.");
}

/** Sends output until the end, or until the wait is over; true when the client was sent the end. */
async function stream(
  engine: Engine,
  run: Run,
  head: RequestHead,
  reply: Reply,
  wait: AbortSignal | undefined,
  stop: AbortSignal,
): Promise<boolean> {
  let cursor = BigInt(head.resume?.cursor ?? "0");
  if (cursor > run.spool.end)
    throw new PyroError("INVALID_INPUT", `head.resume.cursor ${cursor} is beyond the output.`);
  const until = wait === undefined ? stop : AbortSignal.any([wait, stop]);
  try {
    for await (const chunk of run.spool.read(cursor, true, until)) {
      if (chunk.stream === "gap") {
        await reply.json(ToClient.Event, { type: "gap", dropped_bytes: Number(chunk.next - chunk.cursor) });
      } else {
        await reply.output(chunk.stream, chunk.next, chunk.data);
      }
      cursor = chunk.next;
    }
    if ((await race(run.ended, wait, stop)) === "done") {
      await reply.json(ToClient.Output, engine.runs.resultOf(run, cursor));
      return true;
    }
  } catch (thrown) {
    if (stop.aborted) throw stop.reason;
    if (!wait?.aborted) throw thrown;
  }
  await reply.json(ToClient.Output, engine.runs.resultOf(run, cursor));
  return run.facts.end !== undefined;
}

/**
 * Takes the client's frames until there are no more. Stdin goes its own way, in order, so that a signal is not held
 * up by a process that does not read. Never rejects: a frame that cannot be understood cancels the run, as nobody would
 * hear what its client says afterwards.
 */
async function receive(
  run: Run,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  stop: AbortSignal,
  cancel: (reason: PyroError) => void,
): Promise<void> {
  const stdin = new StdinQueue(run, BigInt(head.resume?.stdin_offset ?? 0), reply, stop);
  try {
    for (let frame = await requests.next(); frame !== undefined; frame = await requests.next()) {
      if (frame.type === ToDaemon.Stdin) stdin.add(frame.payload, false);
      else if (frame.type === ToDaemon.StdinEnd) stdin.add(frame.payload, true);
      if (frame.type !== ToDaemon.Control) continue;
      const control = readControl(frame);
      if (control?.type === "cancel") return cancel(new PyroError("CANCELLED", "The run was cancelled."));
      if (control !== undefined) void steer(run, control);
    }
  } catch (thrown) {
    cancel(PyroError.from(thrown));
  }
}

/** Stdin on its way to the process, acknowledged as the process's pipe takes it. */
class StdinQueue {
  readonly #run: Run;
  readonly #reply: Reply;
  readonly #stop: AbortSignal;
  #offset: bigint;
  #queued = 0;
  #closed = false;
  #tail: Promise<void> = Promise.resolve();

  constructor(run: Run, offset: bigint, reply: Reply, stop: AbortSignal) {
    this.#run = run;
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
    const process = await this.#run.started;
    if (process === undefined) return;
    const closed = await this.#hand(process, data, eof);
    this.#offset += BigInt(data.length);
    this.#closed = closed || eof;
    const ack: StdinAck = { stdin_offset: Number(this.#offset), closed: this.#closed };
    await this.#reply.json(ToClient.StdinAck, ack);
  }

  /** A process may take its time to read: the same piece is offered until it is taken, never another in its place. */
  async #hand(process: HostProcess, data: Uint8Array, eof: boolean): Promise<boolean> {
    for (;;) {
      try {
        return (await process.write(this.#offset, data, eof, this.#stop)).closed;
      } catch (error) {
        // A guest that is gone is found out by whoever awaits its output.
        const slow = error instanceof PyroError && error.code === "GUEST_UNRESPONSIVE";
        if (!slow || this.#stop.aborted || this.#run.facts.end !== undefined) throw error;
      }
    }
  }

  /** Input that cannot be handed on ends the run: a command that got half of it must not look like a success. */
  #fail(error: PyroError): void {
    this.#closed = true;
    if (!this.#stop.aborted && this.#run.facts.end === undefined) this.#run.cancel(error);
  }
}

async function steer(run: Run, control: Exclude<Control, { type: "cancel" }>): Promise<void> {
  try {
    const process: HostProcess | undefined = await run.started;
    if (control.type === "signal") await process?.signal(control.signal);
    else await process?.resize(control.columns, control.rows);
  } catch {
    // A signal that comes too late has nobody to go to.
  }
}

/** Rejects as the promise does, or with `stop`'s reason. */
async function race(
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
