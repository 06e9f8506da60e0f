// One shell of a workspace: a command with a terminal that is typed into by anybody, and whose screen can be looked at. That
// it runs once, survives daemons and is known when it has ended is Command's; this is what makes a shell of it.
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { orAborted } from "../../abort/or-aborted.ts";
import { Turns } from "../../abort/turns.ts";
import { PyroError } from "../../errors/error.ts";
import { readRecord, writeRecord } from "../../host/records.ts";
import { dependOnMode, keyBytes } from "../../operations/keys.ts";
import { SIGHUP, signalNumber } from "../../operations/signals.ts";
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import { formatCursor, parseCursor } from "../result.ts";
import type { Size } from "../terminal/emulator.ts";
import type { Terminals } from "../terminal/terminals.ts";
import { type Shown, type Sized, View } from "../terminal/view.ts";
import type { Command } from "./command.ts";
import { outputOf, type ReadRequest, type ShellOutput } from "./shell-output.ts";

const SIZES = "sizes.json";
/** Sizes that are remembered: each is needed to show again what was printed under it. */
const MOST_SIZES = 200;
/** How long a shell may take to end when it is hung up, before it is killed, ms. */
const HANGUP_MS = 1000;
/** How long the end of one is waited for, ms. */
const CLOSED_MS = 10_000;
/** How long a read that asks for quiet waits for it unless it says, s. */
const QUIET_SECONDS = 20;
/** How much longer than asked a read may take: an exit follows its output within this, ms. */
const READ_GRACE_MS = 500;

export type ShellFacts = OutputOf<"shell.list">["shells"][number];

/** What was typed, and where what is printed from then on begins. */
export interface Typed {
  readonly acceptedBytes: number;
  readonly cursor: string;
}

export class Shell {
  readonly command: Command;
  readonly #terminals: Terminals;
  readonly #view: View;
  /** One size after the other, as the guest hears of them. */
  readonly #resizing = new Turns();
  #sizes: [Sized, ...Sized[]];

  private constructor(command: Command, terminals: Terminals, sizes: [Sized, ...Sized[]]) {
    this.command = command;
    this.#terminals = terminals;
    this.#view = new View(terminals);
    this.#sizes = sizes;
  }

  /** Of a command that has just begun, that was taken up, or that has ended: nothing is asked of the guest. */
  static async of(command: Command, terminals: Terminals): Promise<Shell> {
    const { terminal } = command.record.process;
    const first: Sized = { at: 0n, cols: terminal?.columns ?? 80, rows: terminal?.rows ?? 24 };
    return new Shell(command, terminals, [first, ...(await readSizes(command.directory))]);
  }

  get shellId(): string {
    return this.command.processId;
  }

  get size(): Size {
    const { cols, rows } = this.#sizes.at(-1) ?? this.#sizes[0];
    return { cols, rows };
  }

  get facts(): ShellFacts {
    const { cwd, startedAt, end, lost } = this.command.facts;
    return {
      shell_id: this.shellId,
      cwd,
      ...this.size,
      state: end === undefined && lost === undefined ? "running" : "stopped",
      started_at: startedAt,
      ended_at: end?.endedAt ?? lost?.at ?? null,
      exit_code: end?.exitCode ?? null,
      lost_reason: lost?.message ?? null,
    };
  }

  /** Errors: SHELL_STOPPED. */
  checkRunning(): void {
    if (!this.command.over) return;
    const { exit_code, lost_reason } = this.facts;
    const how = lost_reason ?? `It ended with ${exit_code}.`;
    throw new PyroError("SHELL_STOPPED", `The shell ${this.shellId} has stopped: ${how}`);
  }

  /** Errors: CURSOR_INVALID, SHELL_NOT_RENDERED, those of its start, the signal's reason. */
  async read(request: ReadRequest, signal: AbortSignal): Promise<ShellFacts & ShellOutput> {
    if (request.plain && request.screen) {
      throw new PyroError(
        "INVALID_INPUT",
        "plain and screen exclude each other: one is what was printed, the other what is shown.",
      );
    }
    const { command } = this;
    const from = request.cursor === undefined ? 0n : parseCursor(request.cursor);
    const seconds = request.wait_seconds ?? (request.wait_for_idle_ms === undefined ? 0 : QUIET_SECONDS);
    const wait = AbortSignal.timeout(seconds * 1000 + READ_GRACE_MS);
    const until = AbortSignal.any([signal, wait]);
    await orAborted(command.started, until).catch((error: unknown) => {
      // One that was lost has output to give; one that never began is no more.
      if (signal.aborted || !(command.over && command.hasSpool)) throw error;
    });
    const { spool } = command;
    if (from > spool.end)
      throw new PyroError("CURSOR_INVALID", `${request.cursor} is beyond the output of ${this.shellId}.`);
    if (request.wait_for_idle_ms !== undefined) await this.#untilQuiet(request.wait_for_idle_ms, until);
    else if (seconds > 0) await spool.waitBeyond(from, until);
    signal.throwIfAborted();
    // The exit is known a moment after the last output.
    if (spool.finished) await orAborted(command.finished, AbortSignal.timeout(READ_GRACE_MS)).catch(() => {});
    const tools = { view: this.#view, terminals: this.#terminals, signal };
    const output = await outputOf(this.#shown, from, request, tools);
    if (command.over) await this.forget();
    return { ...this.facts, ...output };
  }

  /**
   * Types. Errors: SHELL_STOPPED, PROCESS_NOT_READING with details.accepted_bytes, INVALID_INPUT for a key that there is not,
   * SHELL_NOT_RENDERED, GUEST_UNRESPONSIVE, MICROVM_LOST; the signal's reason.
   */
  async write(request: ParsedInputOf<"shell.write">, signal: AbortSignal): Promise<Typed> {
    this.checkRunning();
    const data = await this.#bytesOf(request, signal);
    await orAborted(this.command.started, signal);
    const cursor = formatCursor(this.command.spool.end);
    const { acceptedBytes, closed } = await this.command.put(data, false, signal);
    if (closed) {
      await orAborted(this.command.finished, AbortSignal.timeout(READ_GRACE_MS)).catch(() => {});
      this.checkRunning();
      throw new PyroError("SHELL_STOPPED", `The shell ${this.shellId} takes nothing any more.`);
    }
    return { acceptedBytes, cursor };
  }

  /** False when it ended in the same moment. Errors: SHELL_STOPPED, GUEST_UNRESPONSIVE, MICROVM_LOST. */
  async signal(name: ParsedInputOf<"shell.signal">["signal"]): Promise<boolean> {
    this.checkRunning();
    return await this.command.signal(signalNumber(name), { foreground: name === "INT" || name === "TERM" });
  }

  /** Errors: SHELL_STOPPED, GUEST_UNRESPONSIVE, MICROVM_LOST. */
  async resize({ cols, rows }: Size): Promise<void> {
    this.checkRunning();
    await this.#resizing.take(async () => {
      try {
        await this.command.resize(cols, rows);
      } catch (error) {
        this.checkRunning();
        throw error;
      }
      if (cols === this.size.cols && rows === this.size.rows) return;
      // The last one that a cursor had is the one that was printed under.
      const at = this.command.spool.end;
      const [first, ...others] = this.#sizes;
      const kept = others.filter((one) => one.at < at).slice(-MOST_SIZES + 1);
      this.#sizes = [first, ...kept, { at, cols, rows }];
      await writeSizes(this.command.directory, this.#sizes.slice(1)).catch(() => {});
    });
  }

  /** Hangs it up, and kills what is left of it and of all it started. One that has ended stays as it is. */
  async close(signal: AbortSignal): Promise<void> {
    const { command } = this;
    await orAborted(command.started, signal).catch((error: unknown) => {
      if (!command.over) throw error;
    });
    if (!command.over) await command.signal(SIGHUP, { endTreeMs: HANGUP_MS });
    const until = AbortSignal.any([signal, AbortSignal.timeout(CLOSED_MS)]);
    await orAborted(command.finished, until).catch(() => signal.throwIfAborted());
    if (!command.over) {
      throw new PyroError(
        "GUEST_UNRESPONSIVE",
        `The shell ${this.shellId} is being killed: the guest has not answered yet.`,
      );
    }
  }

  /** Nobody is expected to look at it again: what it takes to show it goes. */
  async forget(): Promise<void> {
    await this.#view.drop();
  }

  /** What makes a terminal of its size show what it shows, and the cursor behind that. Errors: SHELL_NOT_RENDERED. */
  async redraw(signal: AbortSignal): Promise<{ cursor: bigint; text: string }> {
    return await this.#view.redraw(this.#shown, signal);
  }

  get #shown(): Shown {
    return { spool: this.command.spool, sizes: this.#sizes };
  }

  /** Resolves when nothing was printed for that long, when it has ended, or when the signal aborts. */
  async #untilQuiet(ms: number, signal: AbortSignal): Promise<void> {
    const { spool } = this.command;
    for (let seen = spool.end; !spool.finished && !signal.aborted; seen = spool.end) {
      const quiet = AbortSignal.timeout(ms);
      await spool.waitBeyond(seen, AbortSignal.any([signal, quiet]));
      if (quiet.aborted && spool.end === seen) return;
      // Output comes in bursts: not every chunk of one is worth a timer.
      await sleep(Math.min(ms, 20), undefined, { signal }).catch(() => {});
    }
  }

  async #bytesOf(request: ParsedInputOf<"shell.write">, signal: AbortSignal): Promise<Buffer> {
    const { input, keys, input_encoding: encoding, no_newline: bare } = request;
    if ((input === undefined) === (keys === undefined)) {
      throw new PyroError("INVALID_INPUT", "Give input or keys, one of them.");
    }
    if (keys !== undefined) {
      keyBytes(keys, false);
      return keyBytes(keys, dependOnMode(keys) && (await this.#applicationCursor(signal)));
    }
    if (encoding === "base64") return base64Of(input ?? "");
    return Buffer.from(typedText(input ?? "", bare));
  }

  async #applicationCursor(signal: AbortSignal): Promise<boolean> {
    await orAborted(this.command.started, signal);
    return (await this.#view.screen(this.#shown, signal)).screen.applicationCursor;
  }
}

/** As a terminal sends what is pasted: a line ends with Enter. */
function typedText(input: string, bare: boolean): string {
  const typed = input.replace(/\r?\n/g, "\r");
  return bare || typed.endsWith("\r") ? typed : `${typed}\r`;
}

/** Errors: INVALID_INPUT for what is no base64. */
function base64Of(input: string): Buffer {
  if (input.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(input)) {
    throw new PyroError("INVALID_INPUT", "The input is no base64.");
  }
  return Buffer.from(input, "base64");
}

/** What is damaged is as good as none: output is shown in the first size then. */
async function readSizes(directory: string): Promise<Sized[]> {
  const found = await readRecord<unknown>(join(directory, SIZES)).catch(() => undefined);
  if (!Array.isArray(found)) return [];
  return found.slice(-MOST_SIZES).flatMap((one: unknown): Sized[] => {
    const { at, cols, rows } = Object(one) as { at?: unknown; cols?: unknown; rows?: unknown };
    const fit = (size: unknown) => Number.isInteger(size) && Number(size) >= 1 && Number(size) <= 1000;
    if (typeof at !== "string" || !/^\d{1,16}$/.test(at) || !fit(cols) || !fit(rows)) return [];
    return [{ at: BigInt(at), cols: Number(cols), rows: Number(rows) }];
  });
}

async function writeSizes(directory: string, sizes: readonly Sized[]): Promise<void> {
  const told = sizes.map(({ at, cols, rows }) => ({ at: String(at), cols, rows }));
  await writeRecord(join(directory, SIZES), told, { durable: false });
}
