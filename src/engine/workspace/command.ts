// One command of a workspace. It is started exactly once whatever dies in between: its record is on disk before the guest
// is asked, the guest starts nothing twice under one id, and no number that may have reached a guest is given again.
import { access, mkdir, rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { orAborted } from "../../abort/or-aborted.ts";
import { PyroError } from "../../errors/error.ts";
import type { EventOf } from "../../operations/table.ts";
import { HostProcess, type ProcessEnd, type SignalOptions, StartRefused } from "../process.ts";
import { within } from "../process-spec.ts";
import type { ProcessFacts } from "../result.ts";
import { Spool } from "../spool.ts";
import { endInGuest, endWithin, gone, stopping } from "./command-end.ts";
import type { CommandHost, Entered } from "./command-host.ts";
import { CommandInput, type Put } from "./command-input.ts";
import { type CommandRecord, knownEnd, unknownRecord, untilWritten, writeCommand } from "./command-record.ts";

/** How long a process may take to read what is written to it, ms. */
export const WRITE_MS = 30_000;
/** How long after the connection to its guest was closed a command waits to be told why, ms. */
const REASON_MS = 5000;
/** How long a command that has ended is not settled for the sake of a guest that does not forget it, ms. */
const FORGET_MS = 30_000;
/** Between tries to write output that the host had no room for, ms. */
const ROOM_MS = 1000;

type Progress = EventOf<"workspace.exec"> & { type: "progress" };

/** What a command tells whoever keeps all of them. */
export interface CommandEvents {
  /** It never began: nothing of it is to be kept. */
  dropped(command: Command): void;
  /** It is over; its record follows. */
  over(command: Command): void;
  /** Its end is on disk. */
  recorded(command: Command): void;
}

export class Command {
  readonly sequence: number;
  readonly processId: string;
  /** The process, undefined for one that was over when it was found. Rejects when it could not be started. */
  readonly started: Promise<HostProcess | undefined>;
  /** How it ended, with all of its output in the spool; rejects with a PyroError when that is not known. */
  readonly ended: Promise<ProcessEnd>;
  /** Resolves when its end is known, or why it will never be. */
  readonly finished: Promise<void>;
  /** Resolves when nothing more is done for it: its record is written, the guest has forgotten it. */
  readonly settled: Promise<void>;
  /** Where its record and its output are. */
  readonly directory: string;
  readonly #host: CommandHost;
  readonly #events: CommandEvents;
  readonly #listeners = new Set<(event: Progress) => void>();
  readonly #input: CommandInput;
  /** Its client wants it ended. */
  readonly #cancelling = new AbortController();
  /** Its microVM is gone, or this daemon goes. */
  readonly #leaving = new AbortController();
  /** This daemon, or the workspace, is done with it. */
  readonly #closing = new AbortController();
  readonly #adopted: boolean;
  readonly #past: boolean;
  #abandoned = false;
  #record: CommandRecord;
  #saving: Promise<void> = Promise.resolve();
  /** Its directory is its own. */
  #made: boolean;
  /** From here on the guest may know of it. */
  #ready = false;
  #spool: Spool | undefined;
  #entered: Entered | undefined;
  #process: HostProcess | undefined;
  #killing = false;

  private constructor(
    host: CommandHost,
    directory: string,
    record: CommandRecord,
    events: CommandEvents,
    origin: "begun" | "adopted" | "past",
    start: (command: Command) => Promise<HostProcess | undefined>,
  ) {
    this.#host = host;
    this.directory = directory;
    this.#record = record;
    this.#events = events;
    this.#adopted = origin === "adopted";
    this.#past = origin === "past";
    this.#made = origin !== "begun";
    this.#input = new CommandInput(record.process.processId, record.written_bytes, (bytes) => this.#noteInput(bytes));
    this.sequence = record.sequence;
    this.processId = record.process.processId;
    this.started = start(this);
    this.ended = this.#follow();
    const over = () => {};
    this.finished = this.ended.then(over, over);
    this.settled = this.finished.then(() => this.#settle());
  }

  /** Begins it; everything that may fail does so in `started` and `ended`. The directory must not be there. */
  static begin(host: CommandHost, directory: string, record: CommandRecord, events: CommandEvents): Command {
    return new Command(host, directory, record, events, "begun", (command) => command.#begin());
  }

  /** Takes up one that another daemon made ready. `machineId`: of the microVM that runs, if one does. */
  static adopt(
    host: CommandHost,
    directory: string,
    record: CommandRecord,
    events: CommandEvents,
    machineId: string | undefined,
  ): Command {
    return new Command(host, directory, record, events, "adopted", (command) => command.#takeUp(machineId));
  }

  /** One that is over, as it is on disk: known once `started` has resolved. */
  static past(host: CommandHost, directory: string, sequence: number, found: Promise<CommandRecord>): Command {
    const nobody: CommandEvents = { dropped: () => {}, over: () => {}, recorded: () => {} };
    const record = unknownRecord(host.processKind, sequence);
    return new Command(host, directory, record, nobody, "past", (command) => command.#find(found));
  }

  get facts(): ProcessFacts {
    const { process, started_at, begun_at, end, lost } = this.#record;
    return {
      processId: this.processId,
      sequence: this.sequence,
      command: process.argv,
      cwd: process.cwd,
      startedAt: started_at ?? begun_at,
      end: end ?? undefined,
      lost: lost ?? undefined,
    };
  }

  get record(): CommandRecord {
    return this.#record;
  }

  /** Its end is known, or that it will never be. */
  get over(): boolean {
    return this.#record.stage !== "ready";
  }

  /** True from when it was asked of a guest: before, it may turn out never to have been. */
  get begun(): boolean {
    return this.#ready;
  }

  /** False until there may be output. */
  get hasSpool(): boolean {
    return this.#spool !== undefined;
  }

  get spool(): Spool {
    if (this.#spool === undefined) throw new PyroError("INTERNAL", "A command's output was asked for before it began.");
    return this.#spool;
  }

  /** Hears the progress of a start until the returned function is called. */
  listen(listener: (event: Progress) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Stdin of the client that began it, from `offset` on as that client counts; what it had sent before is skipped.
   * `closed` when the command reads no more. Errors: GUEST_UNRESPONSIVE when it does not read; the signal's reason.
   */
  async write(offset: bigint, data: Uint8Array, eof: boolean, signal: AbortSignal): Promise<{ closed: boolean }> {
    const process = await orAborted(this.started, signal);
    if (process === undefined || this.over) return { closed: true };
    return await this.#input.write(process, offset, data, eof, signal);
  }

  /**
   * Stdin of anybody, behind what was written before. Errors: PROCESS_NOT_READING when it is not all taken within
   * `timeoutMs`, with details.accepted_bytes; GUEST_UNRESPONSIVE, MICROVM_LOST; the signal's reason.
   */
  async put(data: Uint8Array, eof: boolean, signal: AbortSignal, timeoutMs = WRITE_MS): Promise<Put> {
    const process = await orAborted(this.started, signal);
    if (process === undefined || this.over) return { acceptedBytes: 0, closed: true };
    return await this.#input.put(process, data, eof, signal, timeoutMs).catch((error: unknown) => {
      if (this.over) return { acceptedBytes: 0, closed: true };
      throw error;
    });
  }

  /** False when it had ended already. KILL ends its whole tree. Errors: GUEST_UNRESPONSIVE, INVALID_INPUT. */
  async signal(number: number, options: SignalOptions = {}): Promise<boolean> {
    const process = await this.started;
    if (process === undefined || this.over) return false;
    try {
      return await process.signal(number, options);
    } catch (error) {
      if (this.over) return false;
      throw error;
    }
  }

  async resize(columns: number, rows: number): Promise<void> {
    await (await this.started)?.resize(columns, rows);
  }

  /** Kills its whole tree; one that was not started yet is not. Its end is recorded like any other. */
  cancel(reason: PyroError): void {
    this.#cancelling.abort(reason);
    this.#kill();
  }

  /** Its microVM has ended. One that does not stand in it yet goes on. Resolves when that is known of it. */
  async lose(reason: PyroError): Promise<void> {
    if (this.#entered === undefined) return;
    this.#leave(reason);
    await this.finished;
  }

  /** Stops copying and lets go of its files: it runs on in the guest, for another daemon to take up. */
  async release(): Promise<void> {
    await this.#close(stopping(this.#host, this.#ready ? this.processId : undefined));
  }

  /** Its workspace is deleted: resolves when nothing writes into its directory any more. */
  async abandon(reason: PyroError): Promise<void> {
    this.#abandoned = true;
    await this.#close(reason);
    await this.#saving.catch(() => {});
  }

  async #close(reason: PyroError): Promise<void> {
    this.#closing.abort(reason);
    this.#cancelling.abort(reason);
    this.#leave(reason);
    await this.settled;
  }

  #leave(reason: PyroError): void {
    this.#leaving.abort(reason);
    this.#process?.abandon(reason);
  }

  /** As soon as the guest answers, unless the microVM or this daemon goes before. */
  #kill(): void {
    if (this.#process === undefined || this.#killing) return;
    this.#killing = true;
    endInGuest(this.#inside().guest, this.processId, this.#leaving.signal, { remove: false }).catch(() => {});
  }

  async #begin(): Promise<HostProcess> {
    const signal = this.#cancelling.signal;
    await mkdir(this.directory, { mode: 0o700 });
    this.#made = true;
    signal.throwIfAborted();
    await this.#enter();
    const entered = this.#inside();
    const record = {
      ...this.#record,
      machine_id: entered.machineId,
      process: within(entered.env, this.#record.process),
    };
    signal.throwIfAborted();
    await writeCommand(this.directory, record);
    this.#record = record;
    this.#spool = await Spool.open(this.directory);
    signal.throwIfAborted();
    this.#ready = true;
    return await this.#start();
  }

  async #takeUp(machineId: string | undefined): Promise<HostProcess> {
    this.#ready = true;
    this.#spool = await Spool.open(this.directory);
    if (this.#record.machine_id !== machineId) throw gone();
    await this.#enter();
    // It may have ended in the meantime, and what is there now be another.
    if (this.#inside().machineId !== machineId) throw gone();
    return await this.#start();
  }

  async #find(found: Promise<CommandRecord>): Promise<undefined> {
    this.#ready = true;
    this.#record = await found;
    const { output_end: end } = this.#record;
    try {
      // Opening makes what is missing, and it may just have been deleted.
      await access(this.directory);
      this.#spool = end === null ? await Spool.open(this.directory) : await Spool.stored(this.directory, BigInt(end));
      await this.#spool.finish();
    } catch (cause) {
      throw new PyroError("HOST_IO_FAILED", `The output of ${this.processId} cannot be read.`, { cause });
    }
    return undefined;
  }

  async #enter(): Promise<void> {
    this.#entered = await this.#host.enter(this.#cancelling.signal, (event) => this.#tell(event));
  }

  #tell(event: Omit<Progress, "type">): void {
    for (const listener of this.#listeners) listener({ type: "progress", ...event });
  }

  /** Nothing is lost while it waits: the guest holds the command back. */
  async #untilRoom(signal: AbortSignal): Promise<void> {
    this.#tell({ stage: "output", message: "The host's disk is full: the output waits for room", fraction: null });
    await orAborted(sleep(ROOM_MS, undefined, { ref: false }), signal);
  }

  #inside(): Entered {
    if (this.#entered === undefined) throw new PyroError("INTERNAL", "A command was to be started outside a microVM.");
    return this.#entered;
  }

  /** The start is waited for also when it is cancelled meanwhile: what may run must be known, to be ended. */
  async #start(): Promise<HostProcess> {
    const process = await this.#startProcess();
    this.#process = process;
    this.#record = { ...this.#record, started_at: process.startedAt };
    if (this.#leaving.signal.aborted) process.abandon(this.#leaving.signal.reason as PyroError);
    else if (this.#cancelling.signal.aborted) this.#kill();
    return process;
  }

  async #startProcess(): Promise<HostProcess> {
    const { guest } = this.#inside();
    const { signal } = this.#leaving;
    const options = { signal, untilRoom: (until: AbortSignal) => this.#untilRoom(until) };
    for (;;) {
      // One that runs already is not lost because its guest stands still for want of room.
      if (this.#adopted) await guest.untilMoving(signal);
      try {
        return await HostProcess.start(guest, this.#record.process, this.spool, this.#host.secrets, options);
      } catch (error) {
        if (!this.#adopted || !guest.isHeld) throw error;
      }
    }
  }

  async #follow(): Promise<ProcessEnd> {
    try {
      const process = await this.started;
      if (process === undefined) return knownEnd(this.#record);
      const end = await process.ended;
      this.#isOver({ stage: "ended", end });
      return end;
    } catch (thrown) {
      if (this.over) throw thrown;
      const reason = await this.#reasonOf(thrown);
      this.#failed(reason);
      await this.#spool?.finish().catch(() => {});
      throw this.#cancelling.signal.aborted ? this.#cancelling.signal.reason : reason;
    }
  }

  /** Whoever closes the connection to the guest says why, a moment later. */
  async #reasonOf(thrown: unknown): Promise<PyroError | StartRefused> {
    const error = PyroError.from(thrown);
    if (error.code !== "CANCELLED" || this.#entered === undefined) return error;
    const { signal } = this.#leaving;
    if (!signal.aborted) await sleep(REASON_MS, undefined, { signal, ref: false }).catch(() => {});
    return signal.aborted ? (signal.reason as PyroError) : error;
  }

  /** What was never asked of a guest, or refused by it, never was. Else nobody can say what became of it. */
  #failed(thrown: unknown): void {
    if (!this.#ready || (thrown instanceof StartRefused && !this.#adopted)) {
      this.#ready = false;
      this.#events.dropped(this);
    } else if (!this.#closing.signal.aborted) {
      const { code, message } = PyroError.from(thrown);
      this.#isOver({ stage: "lost", lost: { code, message, at: new Date().toISOString() } });
    }
  }

  #isOver(how: Pick<CommandRecord, "stage"> & Partial<CommandRecord>): void {
    this.#record = { ...this.#record, ...how, output_end: this.#spool === undefined ? null : String(this.#spool.end) };
    this.#events.over(this);
  }

  /** Never rejects. */
  async #settle(): Promise<void> {
    try {
      if (!this.#ready) {
        if (this.#made) await rm(this.directory, { recursive: true, force: true }).catch(() => {});
      } else if (this.over && !this.#past) {
        const { lost } = this.#record;
        // The guest may know nothing of its end, or the host have no room for what it prints.
        if (lost !== null && lost.code !== "MICROVM_LOST") this.#kill();
        await this.#saveEnd();
        // Only now: one that is not recorded is asked of the guest again by the next daemon.
        if (lost?.code !== "MICROVM_LOST" && this.#entered !== undefined) {
          // One whose start was never answered may run: it is ended when the guest answers, and nobody waits for that.
          const most = lost === null ? FORGET_MS : 0;
          await endWithin(most, this.#entered.guest, this.processId, this.#leaving.signal);
        }
      }
    } finally {
      this.#entered?.leave();
    }
  }

  async #saveEnd(): Promise<void> {
    if (this.#abandoned) return;
    if (await untilWritten(() => this.#save(), this.#closing.signal)) this.#events.recorded(this);
  }

  /** One write after the other, each of the record as it stands by then. */
  async #save(): Promise<void> {
    const saved = this.#saving.catch(() => {}).then(() => writeCommand(this.directory, this.#record));
    this.#saving = saved;
    await saved;
  }

  /** Others have written: a client that comes back to another daemon is told right. A shell has no other client. */
  async #noteInput(written: number): Promise<void> {
    this.#record = { ...this.#record, written_bytes: written };
    if (!this.over && this.#host.processKind !== "sh") await this.#save().catch(() => {});
  }
}
