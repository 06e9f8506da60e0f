// One workspace: its record, its microVM, its commands, and what is done to it as a whole.
import { adoptMachine } from "../../drivers/adopt.ts";
import { PyroError } from "../../errors/error.ts";
import type { WorkspaceState } from "../../operations/define.ts";
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import type { DiskUser } from "../disk-watch.ts";
import type { KnownVms } from "../known-vms.ts";
import { checkDisk, checkSize } from "../limits.ts";
import { MicroVm } from "../microvm.ts";
import type { Progress } from "../templates.ts";
import type { CommandHost, Entered } from "./command-host.ts";
import { Commands } from "./commands.ts";
import { describeRecord, unreadableRecord } from "./description.ts";
import { Ledger } from "./ledger.ts";
import { failedError, Life, sizesOf, type WorkspaceContext } from "./life.ts";
import {
  type FoundWorkspace,
  layoutOf,
  makeWorkspaceDirectory,
  removeWorkspaceDirectory,
  type StoredWorkspace,
} from "./record.ts";
import { destinationOf, fixBaseline, type Sent, send, type Upload } from "./seeding.ts";

export class Workspace implements CommandHost, DiskUser {
  readonly workspaceId: string;
  readonly commandsDirectory: string;
  readonly #context: WorkspaceContext;
  readonly #ledger: Ledger;
  readonly #life: Life;
  readonly #deleting = new AbortController();
  /** Undefined for a record that this version cannot use. */
  #commands: Commands | undefined;
  #deletion: Promise<void> | undefined;
  #releaseImage = () => {};

  private constructor(context: WorkspaceContext, record: StoredWorkspace, directory: string) {
    this.#context = context;
    this.#ledger = new Ledger(record, directory);
    this.workspaceId = record.workspace_id;
    this.commandsDirectory = layoutOf(directory).commands;
    const lose = async (why: string) => await this.#commands?.lose(why);
    this.#life = new Life(context, this.#ledger, this.#deleting.signal, lose);
  }

  /** A new one, on disk, in the state `creating`. */
  static async make(context: WorkspaceContext, record: StoredWorkspace): Promise<Workspace> {
    const directory = await makeWorkspaceDirectory(context.paths, record.workspace_id);
    const workspace = new Workspace(context, record, directory);
    await workspace.#ledger.save({}, { durable: false });
    workspace.#commands = await Commands.open(workspace);
    await workspace.#commands.adopt(undefined);
    return workspace;
  }

  /**
   * One that an earlier daemon left; its microVM is taken out of `known` where it still runs. What was being created then
   * is `failed`.
   */
  static async take(context: WorkspaceContext, found: FoundWorkspace, known: KnownVms): Promise<Workspace> {
    const { workspaceId, directory, record, unusable } = found;
    if (record === undefined) {
      // A newer daemon may come back to them.
      for (const [vmId, vm] of known) if (vm.labels.workspace === workspaceId) known.delete(vmId);
      return new Workspace(context, unreadableRecord(workspaceId, unusable ?? ""), directory);
    }
    const workspace = new Workspace(context, record, directory);
    if (record.image !== null) workspace.#releaseImage = context.preparation.hold(record.image.digest);
    await workspace.#takeUp(known);
    return workspace;
  }

  get state(): WorkspaceState {
    return this.#ledger.record.state;
  }

  get name(): string | null {
    return this.#ledger.record.name;
  }

  get labels(): Readonly<Record<string, string>> {
    return this.#ledger.record.labels;
  }

  get createdAt(): string {
    return this.#ledger.record.created_at;
  }

  get failure(): StoredWorkspace["failure"] {
    return this.#ledger.record.failure;
  }

  /** True once somebody has asked for its end. */
  get isDeleted(): boolean {
    return this.#deleting.signal.aborted;
  }

  /** Its microVM, while one runs. */
  get vm(): MicroVm | undefined {
    return this.#life.vm;
  }

  /** Errors: WORKSPACE_FAILED for one whose record cannot be used. */
  get commands(): Commands {
    if (this.#commands === undefined) throw failedError(this.#ledger.record);
    return this.#commands;
  }

  /**
   * Gives a new workspace its microVM and its files; it is `started` then. `prepared` is called when the environment and
   * the template are there. On failure nothing is removed: whoever made it does that.
   */
  async create(
    input: ParsedInputOf<"workspace.create">,
    upload: Upload | undefined,
    calls: { progress: Progress; prepared: () => void; signal: AbortSignal },
  ): Promise<void> {
    const { progress } = calls;
    const signal = AbortSignal.any([calls.signal, this.#deleting.signal]);
    const leave = this.#life.idleness.use();
    const made = this.#life.inTurn(async () => {
      const { record, directory } = this.#ledger;
      const layout = layoutOf(directory);
      await checkSize(input);
      await checkDisk(this.#context.paths);
      const shape = { ...sizesOf(record), environment: input.environment };
      const { vm, prepared } = await this.#life.begin(shape, {
        progress,
        signal,
        prepared: ({ environment }) => {
          this.#releaseImage = environment.release;
          calls.prepared();
        },
      });
      const { digest, env } = prepared.environment;
      const change: Partial<StoredWorkspace> = { image: { digest, env: { ...env } }, identity: vm.identity ?? null };
      if (upload === undefined) return await this.#life.settle(vm, prepared, change);
      progress({ stage: "seed", message: "Sending files", fraction: null });
      const sent = await send(vm, WORKSPACE_PATH, upload, limitsOf(input), signal);
      progress({ stage: "baseline", message: "Fixing the baseline", fraction: null });
      await fixBaseline(vm, layout.disk, layout.baseline, signal);
      const seed = { seed_path: record.seed.seed_path, ...factsOf(sent) };
      await this.#life.settle(vm, prepared, { ...change, baseline: "disk", seed });
    });
    // Its time without activity begins when it is there.
    await made.finally(leave);
  }

  async enter(signal: AbortSignal, progress: Progress): Promise<Entered> {
    const leave = this.#life.idleness.use();
    try {
      const vm = await this.#life.running(signal, progress);
      const { image, env } = this.#ledger.record;
      return { machineId: vm.machine.vmId, guest: vm.guest, env: { ...image?.env, ...env }, leave };
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** Brings files in. Errors: PATH_OUTSIDE, those of enter and of sendTransfer; the signal's reason. */
  async push(
    input: ParsedInputOf<"workspace.sync_push">,
    upload: Upload,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<OutputOf<"workspace.sync_push">> {
    const destination = destinationOf(input.destination);
    const ending = AbortSignal.any([signal, this.#deleting.signal]);
    const leave = this.#life.idleness.use();
    try {
      const vm = await this.#life.running(ending, progress);
      const sent = await send(vm, destination, upload, limitsOf(input), ending);
      return { workspace_id: this.workspaceId, source_path: input.source_path, destination, ...factsOf(sent) };
    } finally {
      leave();
    }
  }

  async update(change: Partial<Pick<StoredWorkspace, "name" | "labels" | "ttl_seconds">>): Promise<void> {
    if (this.#commands === undefined) throw failedError(this.#ledger.record);
    await this.#life.inTurn(async () => {
      this.#deleting.signal.throwIfAborted();
      await this.#ledger.save(change, { durable: true });
    });
    this.#life.idleness.setTtl(this.#ledger.record.ttl_seconds);
  }

  /** Ends and removes everything of it, from whatever state. A second call waits for the first. */
  async delete(): Promise<void> {
    this.#deletion ??= this.#delete();
    await this.#deletion;
  }

  /** Lets go of it without ending anything: the next daemon takes it up. */
  async release(): Promise<void> {
    if (this.#commands === undefined || this.isDeleted) return;
    await this.#commands.release();
    this.#life.release();
    const last_activity_at = this.#life.idleness.lastActivity.toISOString();
    // One that is being created is nobody's yet: the next daemon removes what there is of it.
    if (this.state !== "creating") await this.#ledger.save({ last_activity_at }, { durable: false }).catch(() => {});
  }

  /** What the rows tell of it. */
  async describe(): Promise<OutputOf<"workspace.status">> {
    const { record, directory } = this.#ledger;
    const commands = this.#commands;
    return await describeRecord(record, directory, {
      lastActivity: this.#life.idleness.lastActivity,
      expiresAt: this.#life.idleness.expiresAt,
      commandCount: commands?.count ?? 0,
      lastCommand: commands?.last ?? null,
    });
  }

  async outOfRoom(): Promise<boolean> {
    return (await this.vm?.machine.outOfRoom()) ?? false;
  }

  /** What runs in it waits; who asks for something new is told. */
  noRoom(error: PyroError): void {
    this.vm?.guest.hold(error);
  }

  async roomAgain(): Promise<void> {
    const { vm } = this;
    vm?.guest.unhold();
    await vm?.resume();
  }

  async #delete(): Promise<void> {
    const gone = new PyroError("WORKSPACE_NOT_FOUND", `The workspace ${this.workspaceId} was deleted.`);
    this.#deleting.abort(gone);
    await this.#commands?.abandon(gone);
    await this.#life.inTurn(async () => {
      await this.#life.kill();
      await removeWorkspaceDirectory(this.#context.paths, this.workspaceId);
      this.#releaseImage();
    });
  }

  async #takeUp(known: KnownVms): Promise<void> {
    const { state, machine_id: machineId } = this.#ledger.record;
    if (state === "creating") {
      const message = "The daemon ended while the workspace was being created.";
      const failure = { stage: "create", message, console_tail: "" };
      await this.#ledger.save({ state: "failed", failure }, { durable: true });
    }
    this.#commands = await Commands.open(this);
    const runs = state === "started" && machineId !== null && known.get(machineId)?.running === true;
    const machine = runs ? await adoptMachine(this.#context.launcher, machineId) : undefined;
    if (machine !== undefined) {
      known.delete(machine.vmId);
      await this.#life.takeUp(MicroVm.adopt(machine));
    } else if (state === "started") {
      await this.#ledger.save({ state: "stopped", stop_reason: "lost", machine_id: null }, { durable: true });
    }
    await this.#commands.adopt(machine?.vmId);
  }
}

function limitsOf(input: { max_transfer_mib: number; max_entries: number }) {
  return { maxTransferMib: input.max_transfer_mib, maxEntries: input.max_entries };
}

function factsOf({ entryCount, bytesWritten, end }: Sent) {
  return {
    mode: end.mode,
    entry_count: entryCount,
    bytes_written: bytesWritten,
    skipped: end.skipped.map((item) => ({ ...item })),
    skipped_count: end.skipped_count,
  };
}
