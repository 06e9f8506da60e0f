// All services of one workspace, by name: started once each, taken up after another daemon, listed. Of each name there is
// one: the last that was started.
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { PyroError } from "../../errors/error.ts";
import { nearest } from "../../errors/nearest.ts";
import type { GuestClient } from "../../guest/client.ts";
import { SERVICE_NAME_PATTERN } from "../../operations/service.ts";
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import { specOf } from "../process-spec.ts";
import { sweep } from "./command-end.ts";
import type { CommandHost } from "./command-host.ts";
import { type CommandRecord, processIdOf, readCommand } from "./command-record.ts";
import { wantedPorts } from "./published-ports.ts";
import { probeOf } from "./readiness.ts";
import { type PortHost, Service, type ServiceEvents } from "./service.ts";
import {
  newService,
  readDirectoryName,
  readService,
  type StoredService,
  serviceDirectoryName,
} from "./service-record.ts";

/** Most that the services of one answer take as JSON, bytes: it is one frame. */
const ANSWER_BYTES = 900_000;

/** What services need of their workspace. */
export interface ServiceHost extends CommandHost, PortHost {
  /** On the host, for the services alone. */
  readonly servicesDirectory: string;
  /** Somebody uses the workspace until what is returned is called. */
  use(): () => void;
}

interface Found {
  readonly directory: string;
  readonly record: StoredService;
  readonly process: CommandRecord;
}

export class Services {
  readonly #host: ServiceHost;
  readonly #services = new Map<string, Service>();
  /** What had the name before one that has not begun yet. */
  readonly #before = new Map<Service, Service>();
  readonly #events: ServiceEvents;
  #found: readonly Found[];
  #highest: number;
  #closed: PyroError | undefined;
  #removing: Promise<void> = Promise.resolve();

  private constructor(host: ServiceHost, found: readonly Found[], highest: number) {
    this.#host = host;
    this.#found = found;
    this.#highest = highest;
    this.#events = { dropped: (service) => this.#dropped(service), begun: (service) => this.#begun(service) };
  }

  /** Reads what is on disk; `adopt` is to follow. What is damaged there is no error. */
  static async open(host: ServiceHost): Promise<Services> {
    await mkdir(host.servicesDirectory, { recursive: true, mode: 0o700 });
    const named = (await readdir(host.servicesDirectory)).flatMap((entry) => {
      const read = readDirectoryName(entry);
      return read === undefined ? [] : [{ ...read, directory: join(host.servicesDirectory, entry) }];
    });
    named.sort((a, b) => a.sequence - b.sequence);
    const last = new Map<string, Found>();
    for (const { directory, sequence, name } of named) {
      const found = await readFound(directory, sequence, name);
      const old = found === undefined ? directory : last.get(name)?.directory;
      // What never began, or was over when the next of its name began.
      if (old !== undefined) await rm(old, { recursive: true, force: true }).catch(() => {});
      if (found !== undefined) last.set(name, found);
    }
    const highest = named.reduce((most, { sequence }) => Math.max(most, sequence), 0);
    return new Services(host, [...last.values()], highest);
  }

  /**
   * Takes up what an earlier daemon left. `machineId`: of the microVM that runs, see Entered; those of another, or of none,
   * have ended with it. Called once, before anything else. A guest that is slow to answer is not waited for.
   */
  async adopt(machineId: string | undefined): Promise<void> {
    const known: Promise<unknown>[] = [];
    for (const { directory, record, process } of this.#found) {
      const runs = process.stage === "ready";
      const service = runs
        ? Service.adopt(this.#host, directory, { record, process }, this.#events, machineId)
        : Service.past(this.#host, directory, { record, process }, this.#events);
      this.#services.set(service.name, service);
      if (!runs) known.push(service.decided);
      else if (process.machine_id !== machineId) known.push(service.command.finished);
    }
    this.#found = [];
    await Promise.all(known);
  }

  /** See Commands.sweep. */
  async sweep(guest: GuestClient, signal: AbortSignal): Promise<void> {
    const highest = this.#highest;
    const living = (sequence: number) =>
      [...this.#services.values()].some((one) => one.sequence === sequence && !one.over);
    await sweep("svc", guest, (sequence) => sequence <= highest && !living(sequence), signal);
  }

  /**
   * Begins a service, or finds the one that this call has begun before. Everything else that may fail does so in its
   * `command.started`, or is its failure. Errors: INVALID_INPUT, SECRET_UNKNOWN, SERVICE_EXISTS.
   */
  begin(input: ParsedInputOf<"service.start">, requestId: string | undefined): Service {
    if (this.#closed !== undefined) throw this.#closed;
    const { service_name: name, command, cwd, env, secret_env } = input;
    const before = this.#services.get(name);
    if (before !== undefined && requestId !== undefined && before.command.record.request_id === requestId)
      return before;
    const probe = probeOf(input);
    const sequence = this.#highest + 1;
    const asked = { command, cwd, env, secret_env, tty: false, no_stdin: true };
    const spec = specOf(processIdOf("svc", sequence), asked, { terminal: undefined, stdinClosed: true });
    this.#host.secrets.check(spec.secretEnv);
    if (before !== undefined && !before.over) {
      throw new PyroError("SERVICE_EXISTS", `The service ${name} is ${before.state} in ${this.#host.workspaceId}.`);
    }
    this.#highest = sequence;
    const times = { ready_timeout_ms: input.ready_timeout_seconds * 1000, ready_interval_ms: input.ready_interval_ms };
    const record = newService(name, { probe, ...times, publish: wantedPorts(input.publish) });
    const directory = join(this.#host.servicesDirectory, serviceDirectoryName(sequence, name));
    const wanted = { sequence, requestId, record, spec: { ...spec, wholeTree: true } };
    const service = Service.begin(this.#host, directory, wanted, this.#events);
    this.#services.set(name, service);
    if (before !== undefined) this.#before.set(service, before);
    return service;
  }

  /** Errors: SERVICE_NOT_FOUND. */
  get(name: string): Service {
    const found = this.#services.get(name);
    if (found !== undefined) return found;
    const near = nearest(name, [...this.#services.keys()]);
    const guess = near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : "";
    throw new PyroError("SERVICE_NOT_FOUND", `There is no service ${name} in ${this.#host.workspaceId}.${guess}`);
  }

  get count(): number {
    return this.#services.size;
  }

  get running(): number {
    let running = 0;
    for (const service of this.#services.values()) if (service.state === "running") running++;
    return running;
  }

  /** All of them, by name. */
  all(): OutputOf<"service.list">["services"] {
    return [...this.#services.keys()].sort().map((name) => this.get(name).describe());
  }

  /** By name; the cursor is the last one seen. Errors: CURSOR_INVALID. */
  list({
    limit,
    cursor,
  }: {
    readonly limit: number;
    readonly cursor?: string | undefined;
  }): Pick<OutputOf<"service.list">, "services" | "next_cursor"> {
    if (cursor !== undefined && !SERVICE_NAME_PATTERN.test(cursor)) {
      throw new PyroError("CURSOR_INVALID", `${cursor} is not a cursor.`);
    }
    const names = [...this.#services.keys()].filter((name) => cursor === undefined || name > cursor).sort();
    const services: OutputOf<"service.list">["services"] = [];
    let bytes = 0;
    for (const name of names.slice(0, limit)) {
      const service = this.get(name).describe();
      bytes += Buffer.byteLength(JSON.stringify(service));
      if (services.length > 0 && bytes > ANSWER_BYTES) break;
      services.push(service);
    }
    const more = services.length < names.length;
    return { services, next_cursor: more ? (services.at(-1)?.service_name ?? null) : null };
  }

  /** The workspace is used until what is returned is called. */
  use(): () => void {
    return this.#host.use();
  }

  /** The workspace is about to be stopped: whatever ends them now is that. */
  noteWorkspaceStop(reason: "workspace_idle" | "workspace_stopped"): void {
    for (const service of this.#services.values()) service.noteWorkspaceStop(reason);
  }

  /** See Commands.lose. */
  async lose(why: string): Promise<void> {
    const reason = new PyroError("MICROVM_LOST", why);
    await Promise.all(
      [...this.#services.values()].map(({ command, over }) => (over ? undefined : command.lose(reason))),
    );
  }

  /** The daemon stops: they run on in the guest. To be called before the microVM is let go of. */
  async release(): Promise<void> {
    this.#closed ??= new PyroError("CANCELLED", "The daemon is stopping.");
    await Promise.all([...this.#living()].map((service) => service.release()));
    await this.#removing;
  }

  /** The workspace is deleted. Resolves when nothing writes into the directory any more. */
  async abandon(reason: PyroError): Promise<void> {
    this.#closed ??= reason;
    await Promise.all([...this.#living()].map((service) => service.abandon(reason)));
    await this.#removing;
  }

  #living(): Iterable<Service> {
    return new Set([...this.#services.values(), ...this.#before.values()]);
  }

  #dropped(service: Service): void {
    const before = this.#before.get(service);
    this.#before.delete(service);
    if (this.#services.get(service.name) !== service) return;
    if (before === undefined) this.#services.delete(service.name);
    else this.#services.set(service.name, before);
  }

  /** The one that had its name is history, and its log goes. */
  #begun(service: Service): void {
    const before = this.#before.get(service);
    this.#before.delete(service);
    if (before === undefined) return;
    const removed = before.command.settled.then(() => rm(before.directory, { recursive: true, force: true }));
    this.#removing = Promise.all([this.#removing, removed.catch(() => {})]).then(() => {});
  }
}

/** Undefined for what never began. */
async function readFound(directory: string, sequence: number, name: string): Promise<Found | undefined> {
  const process = await readCommand("svc", directory, sequence);
  if (process === undefined) return undefined;
  return { directory, record: await readService(directory, name), process };
}
