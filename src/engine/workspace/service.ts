// One service of a workspace: a process of its own, watched until it is ready, and ended with all that it started. Its
// process is begun, followed and taken up as a command is; what it is as a service is its record, written before anything
// follows from it, so that the next daemon goes on where this one stopped.
import { Code, ConnectError } from "@connectrpc/connect";
import { orAborted } from "../../abort/or-aborted.ts";
import { PyroError } from "../../errors/error.ts";
import type { EventOf, OutputOf } from "../../operations/table.ts";
import type { ProcessSpec } from "../process-spec.ts";
import type { Spool } from "../spool.ts";
import { Command, type CommandEvents } from "./command.ts";
import type { CommandHost, Entered } from "./command-host.ts";
import { type CommandRecord, newRecord, untilWritten } from "./command-record.ts";
import type { PublishedPorts } from "./published-ports.ts";
import { untilReady } from "./readiness.ts";
import { describeService, stateOf, whyEarly } from "./service-description.ts";
import { logTail } from "./service-log.ts";
import { type StoredService, writeService } from "./service-record.ts";

/** How long what did not become ready, or whose start was cancelled, has between SIGTERM and SIGKILL, ms. */
export const FAILED_GRACE_MS = 2000;
/** How much later than its grace time a service may be gone, ms. */
const GONE_MS = 15_000;
/** How long what follows from a record waits for a host that has no room for it, ms. */
const ROOM_MS = 1000;
/** How long after the guest has ended a service its end may take to be known, ms. */
const KNOWN_MS = 10_000;

type Progress = EventOf<"service.start">;
type StopReason = NonNullable<StoredService["stop"]>["reason"];

/** Where its published ports are. */
export interface PortHost {
  readonly network?: { readonly ports: PublishedPorts };
}

/** What a service tells whoever keeps all of them. */
export interface ServiceEvents {
  /** It never began: nothing of it is to be kept. */
  dropped(service: Service): void;
  /** Its process runs, or it is known what became of it. */
  begun(service: Service): void;
}

export class Service {
  readonly name: string;
  readonly sequence: number;
  readonly directory: string;
  readonly command: Command;
  /** Resolves when it is not starting any more, or this daemon does not watch it any more. Never rejects. */
  readonly decided: Promise<void>;
  readonly #host: CommandHost & PortHost;
  readonly #events: ServiceEvents;
  readonly #listeners = new Set<(event: Progress) => void>();
  readonly #origin: "begun" | "adopted" | "past";
  /** This daemon, or the workspace, is done with it; or somebody stops it. */
  readonly #unwatched = new AbortController();
  readonly #leaving = new AbortController();
  #record: StoredService;
  #saving: Promise<void> = Promise.resolve();
  #entered: Entered | undefined;
  /** Why this daemon has let go of it. */
  #left: PyroError | undefined;
  /** It never began. */
  #dropped = false;

  private constructor(
    host: CommandHost & PortHost,
    directory: string,
    sequence: number,
    record: StoredService,
    events: ServiceEvents,
    origin: "begun" | "adopted" | "past",
    start: (host: CommandHost, told: CommandEvents) => Command,
  ) {
    this.name = record.service_name;
    this.sequence = sequence;
    this.directory = directory;
    this.#host = host;
    this.#record = record;
    this.#events = events;
    this.#origin = origin;
    const own: CommandHost = {
      workspaceId: host.workspaceId,
      processKind: "svc",
      commandsDirectory: host.commandsDirectory,
      secrets: host.secrets,
      enter: (signal, progress) => this.#enter(signal, progress),
    };
    const dropped = () => {
      this.#dropped = true;
      events.dropped(this);
    };
    const told = { dropped, over: () => {}, recorded: () => {} };
    this.command = start(own, told);
    // Whoever asks is told of failures; nobody has to.
    this.command.started.catch(() => {});
    this.command.ended.catch(() => {});
    this.decided = this.#decide().catch(() => {});
    if (origin === "adopted") host.network?.ports.keep(sequence, record.published);
    void this.command.finished.then(() => {
      // One that goes on without this daemon keeps them.
      if (this.#left === undefined) return host.network?.ports.close(sequence);
    });
  }

  /** Begins it; what may fail does so in `command.started`. The directory must not be there. */
  static begin(
    host: CommandHost & PortHost,
    directory: string,
    asked: { sequence: number; requestId: string | undefined; record: StoredService; spec: ProcessSpec },
    events: ServiceEvents,
  ): Service {
    const { sequence, requestId, record, spec } = asked;
    const process = newRecord(sequence, requestId, spec);
    return new Service(host, directory, sequence, record, events, "begun", (own, told) =>
      Command.begin(own, directory, process, told),
    );
  }

  /** Takes up one that another daemon began. `machineId`: of the microVM that runs, if one does. */
  static adopt(
    host: CommandHost & PortHost,
    directory: string,
    found: { record: StoredService; process: CommandRecord },
    events: ServiceEvents,
    machineId: string | undefined,
  ): Service {
    const { record, process } = found;
    return new Service(host, directory, process.sequence, record, events, "adopted", (own, told) =>
      Command.adopt(own, directory, process, told, machineId),
    );
  }

  /** One that is over, as it is on disk: known once `decided` has resolved. */
  static past(
    host: CommandHost & PortHost,
    directory: string,
    found: { record: StoredService; process: CommandRecord },
    events: ServiceEvents,
  ): Service {
    const { record, process } = found;
    return new Service(host, directory, process.sequence, record, events, "past", (own) =>
      Command.past(own, directory, process.sequence, Promise.resolve(process)),
    );
  }

  get state(): OutputOf<"service.status">["state"] {
    return stateOf(this.#record, this.#known);
  }

  /** Nothing of it runs any more, as far as anybody will know. */
  get over(): boolean {
    return this.command.over || this.#dropped;
  }

  /** Why nobody here knows of its end any more; undefined while this daemon looks after it. */
  get left(): PyroError | undefined {
    return this.#left;
  }

  get spool(): Spool | undefined {
    return this.command.hasSpool ? this.command.spool : undefined;
  }

  describe(): OutputOf<"service.status"> {
    return describeService(this.#host.workspaceId, this.#record, this.#known);
  }

  get #known() {
    const { facts, record } = this.command;
    return { over: this.over, facts, record };
  }

  /** Why it failed, with the end of its log. */
  failure(): PyroError {
    const service = this.describe();
    const { message = "it is not known why.", log_tail = "", log_tail_encoding = "utf-8" } = service.failure ?? {};
    return new PyroError("SERVICE_FAILED", `The service ${this.name} has failed: ${message}`, {
      details: { workspace_id: this.#host.workspaceId, service_name: this.name, service, log_tail, log_tail_encoding },
    });
  }

  /** Hears the progress of a start until the returned function is called. */
  listen(listener: (event: Progress) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Ends it with all that it started; of several calls the shortest grace time counts. Resolves when that is known; one
   * that is over stays as it is. Errors: GUEST_UNRESPONSIVE, MICROVM_LOST, HOST_DISK_FULL while the guest stands still.
   */
  async stop(reason: StopReason, graceMs: number): Promise<void> {
    if (this.over) return;
    this.#unwatched.abort();
    await this.#noteStop(reason, Date.now() + graceMs);
    if (!this.command.begun) {
      this.command.cancel(new PyroError("CANCELLED", `The service ${this.name} was stopped before it began.`));
      await this.command.finished;
      return;
    }
    await this.#end(graceMs);
  }

  /** Its workspace is about to be stopped: whatever ends it now is that. */
  noteWorkspaceStop(reason: "workspace_idle" | "workspace_stopped"): void {
    if (this.over) return;
    this.#unwatched.abort();
    void this.#noteStop(reason, Date.now());
  }

  /** The daemon stops: it runs on in the guest, for another daemon to take up. */
  async release(): Promise<void> {
    const message = `The daemon is stopping; the service ${this.name} goes on in ${this.#host.workspaceId}.`;
    this.#leave(new PyroError("CANCELLED", message));
    await this.command.release();
    await this.#saving;
  }

  /** Its workspace is deleted: resolves when nothing writes into its directory any more. */
  async abandon(reason: PyroError): Promise<void> {
    this.#leave(reason);
    await this.command.abandon(reason);
    await this.#saving;
  }

  #leave(reason: PyroError): void {
    this.#left = reason;
    this.#leaving.abort();
    this.#unwatched.abort();
  }

  /** The first thing that a command does in its directory: its service's record is there before the guest is asked. */
  async #enter(signal: AbortSignal, progress: Parameters<CommandHost["enter"]>[1]): Promise<Entered> {
    if (this.#origin === "begun") await writeService(this.directory, this.#record);
    const entered = await this.#host.enter(signal, (event) => {
      this.#tell({ type: "progress", ...event });
      progress(event);
    });
    this.#entered = entered;
    const { publish } = this.#record;
    const { network } = this.#host;
    if (network === undefined || publish.length === 0 || this.#origin !== "begun") return entered;
    try {
      // Before its process: one whose ports are taken is not begun.
      const published = await network.ports.open(this.sequence, publish);
      this.#record = { ...this.#record, published: published.map((port) => ({ ...port })) };
      await writeService(this.directory, this.#record);
    } catch (error) {
      entered.leave();
      throw error;
    }
    return entered;
  }

  async #decide(): Promise<void> {
    const { command } = this;
    try {
      await command.started.catch(() => command.finished);
      if (this.#dropped) return;
      this.#events.begun(this);
      if (!this.over) await this.#watch();
    } finally {
      // From here on it keeps nobody's workspace from being idle.
      this.#entered?.leave();
      void command.finished.then(() => this.#noteEarlyEnd());
    }
    if (this.over) await this.#noteEarlyEnd();
  }

  /** Until it is ready, has ended, or is not this daemon's to watch any more. */
  async #watch(): Promise<void> {
    const { stop, failure, ready_at, probe } = this.#record;
    if (stop !== null || failure !== null) {
      // Another daemon was about to end it.
      const left = Math.max(0, (stop?.kill_at ?? 0) - Date.now());
      return await this.#end(failure === null ? left : FAILED_GRACE_MS);
    }
    if (ready_at !== null) return;
    if (probe === null) return await this.#note({ ready_at: new Date().toISOString() });
    const unwatched = this.#unwatched.signal;
    const ready = await this.#look(AbortSignal.any([unwatched, this.#overSignal()])).catch(() => undefined);
    if (this.#left !== undefined) return;
    if (ready === undefined) return await this.#endKnown();
    if (ready && !this.over) return await this.#note({ ready_at: new Date().toISOString(), last_reason: null });
    if (!this.over) await this.#failNotReady();
  }

  /** It ends, somebody ends it, or its microVM has gone: waits until that is known of it. */
  async #endKnown(): Promise<void> {
    const killAt = this.#record.stop?.kill_at ?? Date.now();
    const within = AbortSignal.timeout(Math.max(0, killAt - Date.now()) + GONE_MS + KNOWN_MS);
    await orAborted(this.command.finished, within).catch(() => this.#failNotReady());
  }

  async #look(signal: AbortSignal): Promise<boolean> {
    const { probe, ready_timeout_ms, ready_interval_ms } = this.#record;
    const { record } = this.command;
    if (probe === null || this.#entered === undefined) throw new PyroError("INTERNAL", "There is nothing to look at.");
    const looking = {
      probe,
      spec: record.process,
      secrets: this.#host.secrets,
      intervalMs: ready_interval_ms,
      // A guest's clock may say anything: what is left is never more than all of it.
      deadline: Math.min(Date.now(), Date.parse(record.started_at ?? record.begun_at)) + ready_timeout_ms,
      noted: (reason: string) => {
        this.#record = { ...this.#record, last_reason: reason };
        this.#tell({
          type: "progress",
          stage: "ready",
          message: `${this.name} is not ready: ${reason}`,
          fraction: null,
        });
      },
    };
    return await untilReady(this.#entered.guest, looking, signal);
  }

  async #failNotReady(): Promise<void> {
    const { ready_timeout_ms, last_reason } = this.#record;
    const message = `it was not ready within ${ready_timeout_ms / 1000} s: ${last_reason ?? "it was not looked at"}.`;
    await this.#note({ failure: { reason: "not_ready", message, log_tail: await this.#tail() } });
    await this.#end(FAILED_GRACE_MS).catch(() => {});
    // What it said when it was asked to end often says why.
    if (this.#record.failure !== null && this.#left === undefined) {
      await this.#note({ failure: { ...this.#record.failure, log_tail: await this.#tail() } });
    }
  }

  async #noteEarlyEnd(): Promise<void> {
    if (this.state !== "failed" || this.#record.failure !== null || this.#left !== undefined) return;
    await this.#note({ failure: { ...whyEarly(this.#known), log_tail: await this.#tail() } });
  }

  async #noteStop(reason: StopReason, killAt: number): Promise<void> {
    const before = this.#record.stop;
    const stop = { reason: before?.reason ?? reason, kill_at: Math.min(killAt, before?.kill_at ?? killAt) };
    await this.#note({ stop });
  }

  /** Has the guest end its tree, and waits until that is known. */
  async #end(graceMs: number): Promise<void> {
    const { command } = this;
    const killAt = Date.now() + graceMs;
    await orAborted(command.started, AbortSignal.timeout(GONE_MS)).catch(() => {});
    const guest = this.#entered?.guest;
    if (guest === undefined || this.over) return await this.#untilKnown();
    const left = () => BigInt(Math.ceil(Math.max(0, killAt - Date.now())));
    try {
      await orAborted(
        guest.call(
          (calls, how) => calls.stopProcess({ processId: command.processId, graceMilliseconds: left() }, how),
          { timeoutMs: graceMs + GONE_MS },
        ),
        this.#overSignal(),
      );
    } catch (error) {
      // The guest has forgotten it, or its microVM went: its end is about to be known.
      const forgotten = error instanceof ConnectError && error.code === Code.NotFound;
      if (!this.over && !forgotten && PyroError.from(error).code !== "MICROVM_LOST") throw asPyroError(error);
    }
    await this.#untilKnown();
  }

  #overSignal(): AbortSignal {
    const over = new AbortController();
    void this.command.finished.then(() => over.abort());
    return over.signal;
  }

  async #untilKnown(): Promise<void> {
    await orAborted(this.command.finished, AbortSignal.timeout(KNOWN_MS)).catch(() => {
      throw new PyroError("GUEST_UNRESPONSIVE", `The guest did not say that the service ${this.name} has ended.`);
    });
  }

  async #tail(): Promise<string> {
    const { spool } = this;
    return spool === undefined ? "" : await logTail(spool).catch(() => "");
  }

  #tell(event: Progress): void {
    for (const listener of this.#listeners) listener(event);
  }

  /** What has happened, whether or not it can be written just now; one write after the other, of how it stands by then. */
  async #note(change: Partial<StoredService>): Promise<void> {
    this.#record = { ...this.#record, ...change };
    if (this.#left !== undefined || !this.command.begun) return;
    const write = () => writeService(this.directory, this.#record);
    const saved = this.#saving.then(() => untilWritten(write, this.#leaving.signal)).then(() => {});
    this.#saving = saved;
    // Nobody waits for the host to have room.
    await orAborted(saved, AbortSignal.timeout(ROOM_MS)).catch(() => {});
  }
}

function asPyroError(error: unknown): PyroError {
  if (!(error instanceof ConnectError)) return PyroError.from(error);
  return new PyroError("GUEST_UNRESPONSIVE", `The guest could not stop the service: ${error.rawMessage}`);
}
