// All commands of one workspace: begun once each, taken up after another daemon, found again by id, and read as a log.
// Those that run are in memory; of those that have ended only their order is, and the rest is read when it is asked for.
import { orAborted } from "../../abort/or-aborted.ts";
import { PyroError } from "../../errors/error.ts";
import type { GuestClient } from "../../guest/client.ts";
import type { OutputOf } from "../../operations/table.ts";
import { type AskedProcess, specOf } from "../process-spec.ts";
import { DEFAULT_RESULT_BYTES, factsOf, type ProcessFacts, parseCursor, withOutput, withoutOutput } from "../result.ts";
import { Command, type CommandEvents } from "./command.ts";
import { sweep } from "./command-end.ts";
import { CommandHistory } from "./command-history.ts";
import type { CommandHost } from "./command-host.ts";
import { CommandOutcomes, type Outcomes } from "./command-outcomes.ts";
import { type Entry, nextCursor, parseSequence, shortened, sizeOf } from "./command-pages.ts";
import { type CommandRecord, newRecord, processIdOf, sequenceOf } from "./command-record.ts";

/** Most that the entries of one answer take as JSON, bytes: it is one frame. */
const ANSWER_BYTES = 900_000;
/** How much longer than asked a read may take: an exit follows its output within this, ms. */
const READ_GRACE_MS = 500;

type Listed = OutputOf<"process.list">["processes"][number];

export interface CommandRequest {
  /** The caller's name for this call: the same again begins nothing. */
  readonly requestId?: string | undefined;
  readonly input: AskedProcess;
  readonly terminal?: { readonly columns: number; readonly rows: number } | undefined;
  readonly stdinClosed: boolean;
  /** The caller was told of its output: it is there, or lost, and never begun anew. */
  readonly mustExist?: boolean;
}

export class Commands {
  readonly #host: CommandHost;
  readonly #history: CommandHistory;
  /** Those whose end is not on disk yet, by number. */
  readonly #live = new Map<number, Command>();
  readonly #requests = new Map<string, number>();
  readonly #outcomes = new CommandOutcomes();
  readonly #events: CommandEvents;
  #unfinished: readonly CommandRecord[];
  #highest: number;
  #latest: { readonly facts: ProcessFacts } | undefined;
  #closed: PyroError | undefined;
  #changed = Promise.withResolvers<void>();

  private constructor(
    host: CommandHost,
    history: CommandHistory,
    unfinished: readonly CommandRecord[],
    latest: Command | undefined,
  ) {
    this.#host = host;
    this.#history = history;
    this.#unfinished = unfinished;
    this.#highest = history.highest;
    this.#latest = latest;
    this.#events = {
      dropped: (command) => this.#dropped(command),
      over: (command) => this.#over(command),
      recorded: (command) => this.#recorded(command),
    };
  }

  /** Reads what is on disk; `adopt` is to follow. What is damaged there is no error. */
  static async open(host: CommandHost): Promise<Commands> {
    const { history, unfinished } = await CommandHistory.open(host.processKind, host.commandsDirectory);
    const sequence = history.ended.reduce((most, one) => Math.max(most, one), 0);
    let latest: Command | undefined;
    if (sequence > 0) {
      latest = Command.past(host, history.directoryOf(sequence), sequence, history.read(sequence));
      silence(latest);
      await latest.finished;
    }
    return new Commands(host, history, unfinished, latest);
  }

  /**
   * Takes up what an earlier daemon left running. `machineId`: of the microVM that runs, see Entered; those of another, or
   * of none, are lost. Called once, before anything else. Resolves when all of them are known; a guest that is slow to
   * answer is not waited for. What is returned are those that it took up.
   */
  async adopt(machineId: string | undefined): Promise<readonly Command[]> {
    const adopted: Command[] = [];
    const lost: Promise<void>[] = [];
    for (const record of this.#unfinished) {
      const directory = this.#history.directoryOf(record.sequence);
      const command = Command.adopt(this.#host, directory, record, this.#events, machineId);
      this.#add(command);
      adopted.push(command);
      if (record.machine_id !== machineId) lost.push(command.finished);
    }
    this.#unfinished = [];
    await Promise.all(lost);
    return adopted;
  }

  /**
   * Ends and forgets what a guest that was taken up still has of commands that are over here: their daemon was killed
   * before it came to that, or the guest did not answer it. To be called after `adopt`. Rejects as endInGuest does.
   */
  async sweep(guest: GuestClient, signal: AbortSignal): Promise<void> {
    const highest = this.#highest;
    await sweep(this.#host.processKind, guest, (sequence) => sequence <= highest && !this.#live.has(sequence), signal);
  }

  /**
   * Begins a command, or finds the one that this call has begun before. Everything else that may fail does so in its
   * `started` and `ended`. Errors: INVALID_INPUT, SECRET_UNKNOWN, MICROVM_LOST when it must exist and does not.
   */
  begin(request: CommandRequest): Command {
    if (this.#closed !== undefined) throw this.#closed;
    const { requestId } = request;
    const known = requestId === undefined ? undefined : this.#find(requestId);
    if (known !== undefined) return known;
    if (request.mustExist) throw new PyroError("MICROVM_LOST", "The command is not there any more.");
    const sequence = this.#highest + 1;
    const { input, terminal, stdinClosed } = request;
    const spec = specOf(processIdOf(this.#host.processKind, sequence), input, { terminal, stdinClosed });
    this.#host.secrets.check(spec.secretEnv);
    this.#highest = sequence;
    const directory = this.#history.directoryOf(sequence);
    const command = Command.begin(this.#host, directory, newRecord(sequence, requestId, spec), this.#events);
    this.#add(command);
    return command;
  }

  /** Errors: PROCESS_NOT_FOUND. */
  async get(processId: string): Promise<Command> {
    const found = await this.find(processId);
    if (found !== undefined) return found;
    throw new PyroError("PROCESS_NOT_FOUND", `There is no process ${processId} in ${this.#host.workspaceId}.`);
  }

  /** Undefined for one that there is not. */
  async find(processId: string): Promise<Command | undefined> {
    const sequence = sequenceOf(this.#host.processKind, processId);
    if (sequence === undefined) return undefined;
    return this.#live.get(sequence) ?? (this.#history.has(sequence) ? await this.#past(sequence) : undefined);
  }

  /** How many there were, those that run included. */
  get count(): number {
    let begun = this.#history.ended.length;
    for (const command of this.#live.values()) if (command.begun && !command.over) begun++;
    return begun;
  }

  /** How many have not ended, those whose microVM is being started included. */
  get running(): number {
    let running = 0;
    for (const command of this.#live.values()) if (!command.over) running++;
    return running;
  }

  /** The one that was begun last. */
  get last(): OutputOf<"workspace.status">["last_command"] | undefined {
    if (this.#latest === undefined) return undefined;
    const { process_id, sequence, command, state, exit_code, started_at } = factsOf(this.#latest.facts);
    return { process_id, sequence, command: shortened(command), state, exit_code, started_at };
  }

  /** Resolves when none runs. */
  async ended(): Promise<void> {
    while (this.running > 0) await this.#changed.promise;
  }

  /** Those that run, or all, from the oldest; the cursor is the number of the last one seen. Errors: CURSOR_INVALID. */
  async list(options: {
    readonly all: boolean;
    readonly limit: number;
    readonly cursor?: string | undefined;
  }): Promise<Pick<OutputOf<"process.list">, "processes" | "next_cursor">> {
    const behind = this.#sequences(options.cursor, options.all);
    const processes: Listed[] = [];
    let bytes = 0;
    for (const sequence of behind.slice(0, options.limit)) {
      const process = await this.#listed(sequence);
      bytes += Buffer.byteLength(JSON.stringify(process));
      if (processes.length > 0 && bytes > ANSWER_BYTES) break;
      processes.push(process);
    }
    return { processes, next_cursor: nextCursor(behind, processes.length) };
  }

  /** How they ended, and of those that run and of those that have ended the newest `most` each, in order. */
  async review(most: number): Promise<{ outcomes: Outcomes; running: number; newest: Listed[] }> {
    const outcomes = await this.#outcomes.of(this.#history);
    const running = this.#sequences(undefined, false);
    const ended = this.#history.ended.toSorted((a, b) => a - b);
    const shown = [...running.slice(-most), ...ended.slice(-most)].sort((a, b) => a - b);
    const newest: Listed[] = [];
    for (const sequence of shown) newest.push(await this.#listed(sequence));
    return { outcomes, running: running.length, newest };
  }

  /**
   * Commands with the beginning of their output, from the oldest, those that run as they stand. The cursor is the number
   * of the last one seen. Errors: CURSOR_INVALID.
   */
  async entries(options: {
    readonly limit: number;
    readonly cursor?: string | undefined;
    readonly maxBytes?: number | undefined;
  }): Promise<Pick<OutputOf<"workspace.logs">, "entries" | "next_cursor">> {
    const behind = this.#sequences(options.cursor, true);
    const entries: Entry[] = [];
    let bytes = 0;
    for (const sequence of behind.slice(0, options.limit)) {
      const { entry, size } = await this.#entry(sequence, options.maxBytes);
      if (entries.length > 0 && bytes + size > ANSWER_BYTES) break;
      entries.push(entry);
      bytes += size;
    }
    return { entries, next_cursor: nextCursor(behind, entries.length) };
  }

  /**
   * Commands as they end, in that order, those that have ended first; with a cursor only those with higher numbers. Goes
   * on until the workspace is deleted or the daemon stops. Errors: CURSOR_INVALID; the signal's reason.
   */
  async *follow(
    options: { readonly cursor?: string | undefined; readonly maxBytes?: number | undefined },
    signal: AbortSignal,
  ): AsyncGenerator<Entry> {
    const from = parseSequence(options.cursor);
    for (let at = 0; ; at++) {
      while (at >= this.#history.ended.length) {
        if (this.#closed !== undefined) return;
        await orAborted(this.#changed.promise, signal);
      }
      signal.throwIfAborted();
      const sequence = this.#history.ended[at];
      if (this.#closed !== undefined) return;
      if (sequence !== undefined && sequence > from) yield (await this.#entry(sequence, options.maxBytes)).entry;
    }
  }

  /**
   * Output of one from a cursor on, waited for up to `waitSeconds`. Errors: PROCESS_NOT_FOUND, CURSOR_INVALID, those of its
   * start, the signal's reason.
   */
  async read(
    request: {
      readonly processId: string;
      readonly cursor?: string | undefined;
      readonly maxBytes?: number | undefined;
      readonly waitSeconds?: number | undefined;
    },
    signal: AbortSignal,
  ): Promise<Entry> {
    const command = await this.get(request.processId);
    const from = request.cursor === undefined ? 0n : parseCursor(request.cursor);
    const wait = AbortSignal.timeout((request.waitSeconds ?? 0) * 1000 + READ_GRACE_MS);
    const until = AbortSignal.any([signal, wait]);
    await orAborted(command.started, until).catch((error: unknown) => {
      // One that was lost has output to give; one that never began is no more.
      if (signal.aborted || !(wait.aborted || command.over)) throw error;
    });
    if (!command.hasSpool) return this.resultOf(command, 0n);
    if (from > command.spool.end) {
      throw new PyroError("CURSOR_INVALID", `${request.cursor} is beyond the output of ${request.processId}.`);
    }
    await command.spool.waitBeyond(from, until);
    signal.throwIfAborted();
    // The exit is known a moment after the last output.
    if (command.spool.finished) await orAborted(command.finished, AbortSignal.timeout(READ_GRACE_MS)).catch(() => {});
    const maxBytes = request.maxBytes ?? DEFAULT_RESULT_BYTES;
    const part = await withOutput(command.facts, command.spool, from, maxBytes);
    return { workspace_id: this.#host.workspaceId, ...part };
  }

  /** How a command stands, without its output: that was streamed. */
  resultOf(command: Command, cursor: bigint): Entry {
    return { workspace_id: this.#host.workspaceId, ...withoutOutput(command.facts, cursor) };
  }

  /**
   * The microVM has ended: so have those that stood in it. Resolves when that is known of each; to be waited for before
   * another is started.
   */
  async lose(why: string): Promise<void> {
    const reason = new PyroError("MICROVM_LOST", why);
    await Promise.all([...this.#live.values()].map((command) => command.lose(reason)));
  }

  /** The daemon stops: they run on in the guest. To be called before the microVM is let go of. */
  async release(): Promise<void> {
    this.#close(new PyroError("CANCELLED", "The daemon is stopping."));
    await Promise.all([...this.#live.values()].map((command) => command.release()));
    await this.#history.written();
  }

  /** The workspace is deleted. Resolves when nothing writes into the directory any more. */
  async abandon(reason: PyroError): Promise<void> {
    this.#close(reason);
    await Promise.all([...this.#live.values()].map((command) => command.abandon(reason)));
    await this.#history.written();
  }

  #close(reason: PyroError): void {
    this.#closed ??= reason;
    this.#notify();
  }

  #find(requestId: string): Command | undefined {
    const sequence = this.#requests.get(requestId) ?? this.#history.requests.get(requestId);
    if (sequence === undefined) return undefined;
    return this.#live.get(sequence) ?? this.#found(sequence);
  }

  async #past(sequence: number): Promise<Command> {
    const command = this.#found(sequence);
    await command.finished;
    return command;
  }

  #found(sequence: number): Command {
    const directory = this.#history.directoryOf(sequence);
    const command = Command.past(this.#host, directory, sequence, this.#history.read(sequence));
    silence(command);
    return command;
  }

  async #listed(sequence: number): Promise<Listed> {
    const facts = factsOf(this.#live.get(sequence)?.facts ?? (await this.#past(sequence)).facts);
    return { ...facts, command: shortened(facts.command) };
  }

  async #entry(sequence: number, maxBytes = DEFAULT_RESULT_BYTES): Promise<{ entry: Entry; size: number }> {
    const command = this.#live.get(sequence) ?? (await this.#past(sequence));
    let entry = await this.#entryOf(command, maxBytes);
    let size = sizeOf(entry);
    if (size > ANSWER_BYTES) {
      entry = { ...(await this.#entryOf(command, 1)), command: shortened(entry.command) };
      size = sizeOf(entry);
    }
    return { entry, size };
  }

  async #entryOf(command: Command, maxBytes: number): Promise<Entry> {
    if (!command.hasSpool) return this.resultOf(command, 0n);
    try {
      const part = await withOutput(command.facts, command.spool, 0n, maxBytes);
      return { workspace_id: this.#host.workspaceId, ...part };
    } catch {
      // Files may hold anything: what cannot be read of one hides none of the others.
      const entry = this.resultOf(command, command.spool.end);
      const omitted = Number(command.spool.end - command.spool.start);
      return { ...entry, stdout_truncated: true, stderr_truncated: true, omitted_bytes: omitted };
    }
  }

  /** Numbers behind a cursor, in order. */
  #sequences(cursor: string | undefined, all: boolean): number[] {
    const from = parseSequence(cursor);
    const live = [...this.#live.values()].filter((one) => one.begun && !one.over).map(({ sequence }) => sequence);
    const wanted = all ? [...this.#history.ended, ...live] : live;
    return wanted.filter((sequence) => sequence > from).sort((a, b) => a - b);
  }

  #add(command: Command): void {
    this.#live.set(command.sequence, command);
    const { request_id: requestId } = command.record;
    if (requestId !== null) this.#requests.set(requestId, command.sequence);
    silence(command);
    this.#active(command);
    // What its guest refused never was.
    command.started.then(
      () => this.#active(command),
      () => {},
    );
  }

  #active(command: Command): void {
    const latest = this.#latest?.facts.sequence ?? 0;
    if (command.begun && command.sequence > latest) this.#latest = command;
    this.#notify();
  }

  #dropped(command: Command): void {
    this.#forget(command);
    this.#notify();
  }

  #over(command: Command): void {
    this.#history.add(command.record);
    this.#outcomes.note(command.record);
    this.#active(command);
  }

  #recorded(command: Command): void {
    this.#history.note(command.record);
    this.#forget(command);
  }

  #forget(command: Command): void {
    this.#live.delete(command.sequence);
    const { request_id: requestId } = command.record;
    if (requestId !== null) this.#requests.delete(requestId);
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}

/** Whoever asks is told of failures; nobody has to. */
function silence(command: Command): void {
  command.started.catch(() => {});
  command.ended.catch(() => {});
}
