// One run: a microVM made for one command and thrown away after it. Its record and output are on disk while it lives,
// so that another daemon can take it up; its command is started exactly once whatever dies in between.
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { PyroError } from "../errors/error.ts";
import { writeRecord } from "../host/records.ts";
import type { EventOf, ParsedInputOf } from "../operations/table.ts";
import type { DiskUser } from "./disk-watch.ts";
import { checkDisk, checkSize } from "./limits.ts";
import type { Machines } from "./machines.ts";
import type { MicroVm } from "./microvm.ts";
import { type Networks, wishOf } from "./network.ts";
import type { Paths } from "./paths.ts";
import type { Preparation, Prepared } from "./preparation.ts";
import { HostProcess, type ProcessEnd } from "./process.ts";
import { type ProcessSpec, specOf, within } from "./process-spec.ts";
import type { ProcessFacts } from "./result.ts";
import { givenSecrets } from "./secrets/given.ts";
import { type SecretFacts, Secrets } from "./secrets/secrets.ts";
import { Spool } from "./spool.ts";
import type { Progress } from "./templates.ts";

export const RUN_SCHEMA_VERSION = 3;
const PROCESS_ID = "proc_1";

export type RunInput = ParsedInputOf<"run">;

/** What a run needs of the house. */
export interface RunContext {
  readonly paths: Paths;
  readonly preparation: Preparation;
  readonly machines: Machines;
  readonly networks: Networks;
}

export interface RunRequest {
  readonly vmId: string;
  readonly input: RunInput;
  readonly terminal: { readonly columns: number; readonly rows: number } | undefined;
  readonly stdinClosed: boolean;
  /** True: it is ended soon after its client has gone. False: it is kept until it was read. */
  readonly attached: boolean;
}

/** `preparing`: no command was started. `ready`: it may have been. `exited`: its end is known. */
export type Stage = "preparing" | "ready" | "exited";

export interface RunRecord {
  readonly schema_version: number;
  readonly vm_id: string;
  /** The launcher's name for the microVM: another than the run's when it came from the pool. */
  readonly machine_id: string;
  /** Of the image it runs on; null until that is known. */
  readonly environment_digest: string | null;
  readonly stage: Stage;
  readonly attached: boolean;
  readonly process: ProcessSpec;
  readonly started_at: string | null;
  readonly end: ProcessEnd | null;
  readonly secrets?: readonly SecretFacts[];
}

export class Run implements DiskUser {
  readonly vmId: string;
  /** The process, once it was started. Rejects with a PyroError when it could not be. */
  readonly started: Promise<HostProcess | undefined>;
  /** How it ended, with all output in the spool. */
  readonly ended: Promise<ProcessEnd>;
  /** Resolves when its microVM and its disk are gone too, a moment after the end: nobody waits for that. */
  readonly gone: Promise<void>;
  readonly #directory: string;
  readonly #context: RunContext;
  readonly #cancelling = new AbortController();
  readonly #listeners = new Set<(event: EventOf<"run">) => void>();
  #secrets: Secrets;
  #record: RunRecord;
  #spool: Spool | undefined;
  #vm: MicroVm | undefined;
  #process: HostProcess | undefined;
  #releaseEnvironment = () => {};
  readonly #prepared = Promise.withResolvers<void>();
  #settledPreparing = false;

  private constructor(
    context: RunContext,
    record: RunRecord,
    secrets: Secrets,
    begin: (run: Run) => Promise<HostProcess | undefined>,
  ) {
    this.#context = context;
    this.#secrets = secrets;
    this.#record = record;
    this.vmId = record.vm_id;
    this.#directory = join(context.paths.runs, record.vm_id);
    this.started = begin(this);
    this.started.catch(() => this.#settlePreparing());
    this.ended = this.#follow();
    this.gone = this.ended.then(
      () => this.#clear(),
      () => this.#clear(),
    );
  }

  /** Begins a run; what else may fail does so in `started` and `ended`. Errors: INVALID_INPUT, those of secrets. */
  static begin(context: RunContext, request: RunRequest): Run {
    const secrets = givenSecrets(request.input, wishOf(request.input));
    const process = specOf(PROCESS_ID, request.input, request);
    secrets.check(process.secretEnv);
    const record: RunRecord = {
      schema_version: RUN_SCHEMA_VERSION,
      vm_id: request.vmId,
      machine_id: request.vmId,
      environment_digest: null,
      stage: "preparing",
      attached: request.attached,
      process,
      started_at: null,
      end: null,
      ...(secrets.facts.length === 0 ? {} : { secrets: secrets.facts }),
    };
    return new Run(context, record, secrets, (run) => run.#begin(request.input));
  }

  /** Takes up a run that another daemon began: one that is ready or has exited. */
  static adopt(context: RunContext, record: RunRecord, vm: MicroVm | undefined): Run {
    return new Run(context, record, Secrets.none, (run) => run.#takeUp(vm));
  }

  get facts(): ProcessFacts {
    return {
      processId: this.#record.process.processId,
      sequence: 1,
      command: this.#record.process.argv,
      cwd: this.#record.process.cwd,
      startedAt: this.#record.started_at ?? new Date().toISOString(),
      end: this.#record.end ?? undefined,
      lost: undefined,
    };
  }

  /** Its end is known. */
  get over(): boolean {
    return this.#record.end !== null;
  }

  get secrets(): Secrets {
    return this.#secrets;
  }

  get attached(): boolean {
    return this.#record.attached;
  }

  /** False until it has begun, and when it could not. */
  get hasSpool(): boolean {
    return this.#spool !== undefined;
  }

  get processId(): string {
    return this.#record.process.processId;
  }

  /** True until the environment and the template are there: nothing particular to this run has begun. */
  get waitsForPreparation(): boolean {
    return !this.#settledPreparing;
  }

  /** Resolves when preparation is over, also by a failure. */
  get prepared(): Promise<void> {
    return this.#prepared.promise;
  }

  get spool(): Spool {
    if (this.#spool === undefined) throw new PyroError("INTERNAL", "The run's output was asked for before it began.");
    return this.#spool;
  }

  /** Hears progress until the returned function is called. */
  listen(listener: (event: EventOf<"run">) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Stdin from `offset` on; `closed` when the command reads no more, as one that has ended does. */
  async write(offset: bigint, data: Uint8Array, eof: boolean, signal: AbortSignal): Promise<{ closed: boolean }> {
    return (await (await this.started)?.write(offset, data, eof, signal)) ?? { closed: true };
  }

  async signal(number: number): Promise<void> {
    await (await this.started)?.signal(number);
  }

  async resize(columns: number, rows: number): Promise<void> {
    await (await this.started)?.resize(columns, rows);
  }

  /** Ends everything of it at once; `ended` rejects with the reason unless it had ended. */
  cancel(reason: PyroError): void {
    this.#cancelling.abort(reason);
    this.#process?.abandon(reason);
  }

  async outOfRoom(freeMib: number): Promise<boolean> {
    return (await this.#vm?.machine.outOfRoom(freeMib)) ?? false;
  }

  get roomToGoOnMib(): number {
    return this.#vm?.machine.roomToGoOnMib ?? 0;
  }

  /** A run is not worth waiting for: whoever asked for it can ask again. */
  noRoom(error: PyroError): void {
    this.cancel(error);
  }

  async roomAgain(): Promise<void> {
    // It was ended.
  }

  /** Lets go of it without ending it: the daemon stops, the next one takes it up. */
  async release(): Promise<void> {
    this.#process?.abandon(new PyroError("CANCELLED", "The daemon is stopping."));
    this.#vm?.release();
    await this.#spool?.close();
  }

  /** Removes what is left on disk, once it is gone. */
  async remove(): Promise<void> {
    await this.gone;
    await rm(this.#directory, { recursive: true, force: true });
  }

  async #begin(input: RunInput): Promise<HostProcess> {
    const { paths, preparation, machines } = this.#context;
    const signal = this.#cancelling.signal;
    const progress: Progress = (event) => this.#tell({ type: "progress", ...event });
    const begun = machines.begin();
    let prepared: Prepared | undefined;
    try {
      const wish = wishOf(input);
      await checkSize(input);
      await checkDisk(paths);
      await this.#prepareDirectory();
      const shape = {
        environment: input.environment,
        vcpuCount: input.vcpu_count,
        driver: input.driver,
        memMib: input.mem_mib,
        diskMib: input.disk_mib,
      };
      prepared = await preparation.prepare(shape, progress, signal);
      this.#releaseEnvironment = prepared.environment.release;
      this.#settlePreparing();
      const options = { machineId: this.vmId, diskPath: this.#diskPath, signal };
      this.#vm = await machines.obtain(prepared, options, progress);
      signal.throwIfAborted();
      await this.#context.networks.connect(this.#vm, wish, this.#secrets, undefined);
      signal.throwIfAborted();
      await this.#secrets.put(this.#vm.guest, signal);
      const process = within({ ...prepared.environment.env, ...this.#secrets.variables }, this.#record.process);
      await this.#save({
        ...this.#record,
        machine_id: this.#vm.machine.vmId,
        environment_digest: prepared.environment.digest,
        process,
        stage: "ready",
      });
      return await this.#startProcess();
    } finally {
      begun(prepared);
    }
  }

  async #takeUp(vm: MicroVm | undefined): Promise<HostProcess | undefined> {
    this.#settlePreparing();
    this.#vm = vm;
    this.#spool = await Spool.open(join(this.#directory, "output"));
    this.#secrets = await Secrets.load(join(this.#directory, "secrets"), this.#record.secrets);
    if (this.#record.stage === "exited") {
      await this.#spool.finish();
      return undefined;
    }
    const digest = this.#record.environment_digest;
    if (digest !== null) this.#releaseEnvironment = this.#context.preparation.hold(digest);
    if (vm === undefined) throw new PyroError("MICROVM_LOST", "The microVM ended while no daemon was there.");
    return await this.#startProcess();
  }

  get #diskPath(): string {
    return join(this.#directory, "disk.ext4");
  }

  #settlePreparing(): void {
    this.#settledPreparing = true;
    this.#prepared.resolve();
  }

  async #prepareDirectory(): Promise<void> {
    // Its own name, once: two runs under one id would share a disk.
    await mkdir(this.#directory, { mode: 0o700 });
    await this.#save(this.#record);
    await this.#secrets.store(join(this.#directory, "secrets"), (hosts) => this.#context.networks.makeAuthority(hosts));
    this.#spool = await Spool.open(join(this.#directory, "output"));
  }

  async #startProcess(): Promise<HostProcess> {
    if (this.#vm === undefined) throw new PyroError("INTERNAL", "A process was to be started without a microVM.");
    const process = await HostProcess.start(this.#vm.guest, this.#record.process, this.spool, this.#secrets);
    this.#process = process;
    if (this.#cancelling.signal.aborted) process.abandon(this.#cancelling.signal.reason as PyroError);
    await this.#save({ ...this.#record, started_at: process.startedAt });
    return process;
  }

  async #follow(): Promise<ProcessEnd> {
    try {
      const process = await this.started;
      if (process === undefined) {
        if (this.#record.end === null) throw new PyroError("INTERNAL", "A run that exited has no end.");
        return this.#record.end;
      }
      const end = await process.ended;
      await this.#save({ ...this.#record, stage: "exited", end });
      return end;
    } catch (error) {
      // Whoever is told of a failure tries again at once, and may need the room.
      await this.#clear();
      throw this.#cancelling.signal.aborted ? this.#cancelling.signal.reason : error;
    } finally {
      await this.#spool?.finish();
    }
  }

  /** Never rejects: what cannot be removed goes with the next daemon's start, which finds it without a microVM. */
  async #clear(): Promise<void> {
    await this.#vm?.kill().catch(() => {});
    await rm(this.#diskPath, { force: true }).catch(() => {});
    this.#releaseEnvironment();
  }

  #tell(event: EventOf<"run">): void {
    for (const listener of this.#listeners) listener(event);
  }

  async #save(record: RunRecord): Promise<void> {
    this.#record = record;
    // Not synced: a run does not outlive its host.
    await writeRecord(join(this.#directory, "run.json"), record, { durable: false });
  }
}
