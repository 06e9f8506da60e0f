// One process in a microVM as the host knows it: started exactly once, its output copied into a spool for as long as it
// runs, its end recorded. Commands, and later shells and services, are uses of it.

import { randomUUID } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { PyroError } from "../errors/error.ts";
import type { Process as GuestProcess } from "../gen/pyro/guest/v1/guest_pb.js";
import { Stream } from "../gen/pyro/guest/v1/guest_pb.js";
import type { GuestCallOptions, GuestCalls, GuestClient } from "../guest/client.ts";
import { SIGKILL, signalName } from "../operations/signals.ts";
import type { ProcessSpec } from "./process-spec.ts";
import { RedactedOutput } from "./secrets/output.ts";
import type { Secrets } from "./secrets/secrets.ts";
import type { Spool } from "./spool.ts";

const CALL_MS = 30_000;
/** A write may wait for as long as the process does not read. */
const WRITE_MS = 5 * 60_000;
/** How much later than the guest the host ends a command whose time ran out: a guest may lie about its timers. */
const TIMEOUT_GRACE_MS = 10_000;
const MAX_WRITE_BYTES = 256 << 10;
/** Beyond this no process has printed or read, bytes: numbers count them everywhere else. */
const MAX_CURSOR = BigInt(Number.MAX_SAFE_INTEGER);
/** Longest reason that is believed of a guest, characters. */
const MAX_REASON = 1000;

export interface ProcessEnd {
  readonly exitCode: number;
  /** Name of the signal that ended it, or null. */
  readonly signal: string | null;
  readonly timedOut: boolean;
  readonly outOfMemory: boolean;
  readonly endedAt: string;
}

export interface SignalOptions {
  /** To what has its terminal, as a key would. */
  readonly foreground?: boolean;
  /** Then all of its tree is killed: when it has ended, or after this time at the latest; 0 for never. */
  readonly endTreeMs?: number;
}

export interface StartOptions {
  readonly signal?: AbortSignal;
  /**
   * Called when the host has no room for its output: the process is held back meanwhile, then the same is tried again.
   * Without it the process is lost then. Rejects with the signal's reason.
   */
  readonly untilRoom?: (signal: AbortSignal) => Promise<void>;
}

interface Beginning {
  readonly spool: Spool;
  readonly secrets: Secrets;
  readonly untilRoom: StartOptions["untilRoom"];
}

export class HostProcess {
  readonly spec: ProcessSpec;
  readonly startedAt: string;
  readonly spool: Spool;
  /** Resolves when it has ended and all of its output is in the spool; rejects with a PyroError when it was lost. */
  readonly ended: Promise<ProcessEnd>;
  readonly #guest: GuestClient;
  readonly #output: RedactedOutput;
  readonly #untilRoom: StartOptions["untilRoom"];
  readonly #stopping = new AbortController();
  #timedOut = false;

  private constructor(
    guest: GuestClient,
    spec: ProcessSpec,
    { spool, secrets, untilRoom }: Beginning,
    first: GuestProcess,
  ) {
    this.#guest = guest;
    this.#output = new RedactedOutput(spool, secrets.redactor);
    this.#untilRoom = untilRoom;
    this.spec = spec;
    this.spool = spool;
    this.startedAt = timestamp(first.startedUnixNanoseconds);
    this.ended = this.#follow(first);
    this.ended.catch(() => {});
  }

  /**
   * Starts it, or takes it up when a call before this one did. Its secrets' values go to the guest and nowhere else, and
   * its output comes into the spool without them. Errors: StartRefused (CWD_NOT_FOUND, USER_NOT_FOUND, INVALID_INPUT,
   * SECRET_UNKNOWN, GUEST_UNRESPONSIVE), then nothing runs; those of the guest client and the signal's reason: it may.
   */
  static async start(
    guest: GuestClient,
    spec: ProcessSpec,
    spool: Spool,
    secrets: Secrets,
    start: StartOptions = {},
  ): Promise<HostProcess> {
    const { signal, untilRoom } = start;
    try {
      const plain = Object.entries(spec.env).map(([name, value]) => bytes(`${name}=${value}`));
      const env = [...plain, ...secrets.environment(spec.secretEnv)];
      const response = await guest.call(
        (calls, options) =>
          calls.startProcess(
            {
              processId: spec.processId,
              argv: spec.argv.map(bytes),
              env,
              cwd: bytes(spec.cwd),
              user: spec.user,
              tty: spec.terminal,
              noStdin: spec.noStdin,
              timeoutMilliseconds: BigInt(Math.ceil(spec.timeoutMs)),
              wholeTree: spec.wholeTree ?? false,
            },
            options,
          ),
        { timeoutMs: CALL_MS, ...(signal ? { signal } : {}) },
      );
      if (response.process === undefined)
        throw new PyroError("GUEST_UNRESPONSIVE", "The guest's answer is incomplete.");
      return new HostProcess(guest, spec, { spool, secrets, untilRoom }, response.process);
    } catch (error) {
      throw refusal(error, spec, secrets);
    }
  }

  /**
   * Hands over stdin from `offset` on; what was taken before is skipped. Resolves when the guest has it all, with
   * `closed` true when the process reads no more. Errors: GUEST_UNRESPONSIVE when it is not read for minutes; the
   * signal's reason.
   */
  async write(offset: bigint, data: Uint8Array, eof: boolean, signal: AbortSignal): Promise<{ closed: boolean }> {
    for (let at = 0; at < data.length || eof; ) {
      const part = data.subarray(at, at + MAX_WRITE_BYTES);
      const from = offset + BigInt(at);
      at += part.length;
      const last = at >= data.length;
      const request = { processId: this.spec.processId, offset: from, data: part, eof: eof && last };
      const options = { timeoutMs: WRITE_MS, signal };
      const { closed } = await this.#ask((calls, call) => calls.writeInput(request, call), "write to", options);
      if (closed) return { closed: true };
      if (last) break;
    }
    return { closed: false };
  }

  /** Count of stdin bytes that the process's pipe has taken, and whether it takes more. */
  async input(): Promise<{ offset: bigint; closed: boolean }> {
    const request = { processId: this.spec.processId, offset: 0n };
    const { inputOffset, closed } = await this.#ask((calls, call) => calls.writeInput(request, call), "write to");
    // A guest may say anything; what nobody could have written is not believed.
    return { offset: inputOffset > MAX_CURSOR ? 0n : inputOffset, closed };
  }

  /** False when it had ended already. KILL ends the whole tree. Errors: INVALID_INPUT for one it cannot be sent. */
  async signal(number: number, { foreground = false, endTreeMs = 0 }: SignalOptions = {}): Promise<boolean> {
    const request = {
      processId: this.spec.processId,
      signal: number,
      wholeTree: number === SIGKILL,
      requestId: randomUUID(),
      foreground,
      endTreeAfterMilliseconds: BigInt(endTreeMs),
    };
    const { delivered } = await this.#ask((calls, options) => calls.signalProcess(request, options), "signal");
    return delivered;
  }

  async resize(columns: number, rows: number): Promise<void> {
    const request = { processId: this.spec.processId, size: { columns, rows } };
    await this.#ask((calls, options) => calls.resizeProcess(request, options), "resize");
  }

  /** Stops copying, for when the microVM is ended on purpose. */
  abandon(reason: PyroError): void {
    this.#stopping.abort(reason);
  }

  async #ask<T>(
    call: (calls: GuestCalls, options: { signal: AbortSignal }) => Promise<T>,
    what: string,
    options: GuestCallOptions = { timeoutMs: CALL_MS },
  ): Promise<T> {
    try {
      return await this.#guest.call(call, options);
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      const code = error.code === Code.InvalidArgument ? "INVALID_INPUT" : "GUEST_UNRESPONSIVE";
      throw new PyroError(code, `The guest could not ${what} the process: ${error.rawMessage}`, { cause: error });
    }
  }

  async #follow(first: GuestProcess): Promise<ProcessEnd> {
    const timer = this.spec.timeoutMs > 0 ? this.#overrun() : undefined;
    try {
      // The reason is a line of the host's own, behind what the guest printed: such a process is not asked again.
      if (!first.running && first.startError !== "") {
        if (this.spool.end === first.outputEnd) await this.#explain(first);
        await this.#kept(() => this.#output.end(this.#stopping.signal));
        return endOf(first);
      }
      for await (const event of this.#guest.readOutput(this.spec.processId, this.spool.end, this.#stopping.signal)) {
        if (event.case === "chunk") {
          if (event.value.cursor > MAX_CURSOR)
            throw new PyroError("GUEST_UNRESPONSIVE", "The guest's output makes no sense.");
          const stream = event.value.stream === Stream.STDERR ? "stderr" : "stdout";
          await this.#append(stream, event.value.cursor, event.value.data);
        } else if (event.case === "exited") {
          await this.#kept(() => this.#output.end(this.#stopping.signal));
          return endOf(event.value);
        }
      }
      throw new PyroError("GUEST_UNRESPONSIVE", "The guest stopped telling about the command.");
    } catch (error) {
      // It runs on when only this daemon goes: what is held back is read again by the next.
      if (PyroError.from(error).code !== "CANCELLED") await this.#output.end().catch(() => {});
      if (this.#timedOut) {
        return { exitCode: 128 + SIGKILL, signal: "SIGKILL", timedOut: true, outOfMemory: false, endedAt: now() };
      }
      if (this.#stopping.signal.aborted) throw this.#stopping.signal.reason;
      throw error instanceof ConnectError
        ? new PyroError("GUEST_UNRESPONSIVE", `The guest refused to tell about the command: ${error.rawMessage}`)
        : error;
    } finally {
      clearTimeout(timer);
      await this.#output.close();
      await this.spool.finish();
    }
  }

  async #append(stream: "stdout" | "stderr", cursor: bigint, data: Uint8Array): Promise<void> {
    await this.#kept(() => this.#output.append(stream, cursor, data, this.#stopping.signal));
  }

  /** Again and again while the host has no room for it. */
  async #kept(write: () => Promise<void>): Promise<void> {
    const { signal } = this.#stopping;
    for (;;) {
      try {
        return await write();
      } catch (error) {
        const full = PyroError.from(error).code === "HOST_DISK_FULL";
        if (!full || signal.aborted || this.#untilRoom === undefined) throw error;
        await this.#untilRoom(signal);
      }
    }
  }

  /** A command that could not be started says why where a shell would: on its stderr. */
  async #explain(process: GuestProcess): Promise<void> {
    if (process.startError === "") return;
    await this.#output.append(
      "stderr",
      this.spool.end,
      Buffer.from(`pyro: ${process.startError.slice(0, MAX_REASON)}\n`),
    );
  }

  /** The guest keeps the time; this is for one that does not. */
  #overrun(): NodeJS.Timeout {
    const timer = setTimeout(
      () => {
        this.#timedOut = true;
        this.#stopping.abort(new PyroError("GUEST_UNRESPONSIVE", "The guest did not end the command in time."));
      },
      Math.min(this.spec.timeoutMs + TIMEOUT_GRACE_MS, 2 ** 31 - 1),
    );
    timer.unref();
    return timer;
  }
}

/** The guest answered that it does not start it: nothing runs. */
export class StartRefused extends PyroError {}

function refusal(error: unknown, spec: ProcessSpec, secrets: Secrets): unknown {
  if (error instanceof PyroError && error.code === "SECRET_UNKNOWN") {
    return new StartRefused(error.code, error.message, { details: error.details });
  }
  if (!(error instanceof ConnectError)) return error;
  const { code } = error;
  const message = secrets.redactor.text(error.rawMessage);
  const options = { cause: error };
  if (code === Code.NotFound && message.startsWith("cwd:")) {
    return new StartRefused("CWD_NOT_FOUND", `There is no directory ${spec.cwd} in the guest.`, options);
  }
  if (code === Code.NotFound && message.startsWith("user:")) {
    return new StartRefused("USER_NOT_FOUND", `There is no user ${spec.user} in the guest.`, options);
  }
  if (code === Code.InvalidArgument) return new StartRefused("INVALID_INPUT", `The guest refused: ${message}`, options);
  return new StartRefused("GUEST_UNRESPONSIVE", `The guest could not start the command: ${message}`, options);
}

function endOf(process: GuestProcess): ProcessEnd {
  return {
    exitCode: process.exitCode,
    signal: process.signal === 0 ? null : signalName(process.signal),
    timedOut: process.timedOut,
    outOfMemory: process.outOfMemory,
    endedAt: timestamp(process.endedUnixNanoseconds),
  };
}

/** A guest's clock may be anything: what is no date becomes now. */
function timestamp(nanoseconds: bigint): string {
  const date = new Date(Number(nanoseconds / 1_000_000n));
  return nanoseconds > 0n && !Number.isNaN(date.getTime()) ? date.toISOString() : now();
}

function now(): string {
  return new Date().toISOString();
}

function bytes(text: string): Uint8Array {
  return Buffer.from(text);
}
