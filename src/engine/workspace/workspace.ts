// One workspace: its record, its microVM, what runs in it, and what is done to it as a whole.
import { orAborted } from "../../abort/or-aborted.ts";
import { adoptMachine } from "../../drivers/adopt.ts";
import type { Machine } from "../../drivers/driver.ts";
import { PyroError } from "../../errors/error.ts";
import type { WorkspaceState } from "../../operations/define.ts";
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import type { KnownVms } from "../known-vms.ts";
import { checkDisk, checkSize } from "../limits.ts";
import { MicroVm } from "../microvm.ts";
import { Secrets } from "../secrets/secrets.ts";
import type { Progress } from "../templates.ts";
import type { Entered } from "./command-host.ts";
import type { Commands } from "./commands.ts";
import { Contents, type ContentsHost, countsOf } from "./contents.ts";
import { describeRecord, unreadableRecord } from "./description.ts";
import { Exchanges } from "./exchanges.ts";
import { Files } from "./files.ts";
import { thaw } from "./frozen-copy.ts";
import { Ledger } from "./ledger.ts";
import { failedError, Life, shapeOf, type WorkspaceContext } from "./life.ts";
import { Lifecycle } from "./lifecycle.ts";
import { WorkspaceNetwork } from "./network.ts";
import { Outgoing } from "./outgoing.ts";
import {
  type FoundWorkspace,
  layoutOf,
  makeWorkspaceDirectory,
  removeLeftovers,
  removeWorkspaceDirectory,
  type StoredWorkspace,
  syncWorkspaceDirectory,
} from "./record.ts";
import { finishReset } from "./reset.ts";
import { Room } from "./room.ts";
import { destinationOf, factsOf, fixBaseline, limitsOf, send, type Upload } from "./seeding.ts";
import type { Services } from "./services.ts";
import type { Shells } from "./shells.ts";
import { Snapshots } from "./snapshots.ts";
import { StoppedDisk } from "./stopped-disk.ts";

/** How long a daemon that stops waits for a deletion, ms. */
const DELETE_MS = 6000;

export class Workspace implements ContentsHost {
  readonly workspaceId: string;
  readonly processKind = "proc";
  readonly commandsDirectory: string;
  readonly servicesDirectory: string;
  readonly shellsDirectory: string;
  readonly files: Files = new Files(this);
  readonly outgoing: Outgoing = new Outgoing(this);
  readonly exchanges: Exchanges;
  readonly room: Room;
  readonly disk: StoppedDisk;
  readonly network: WorkspaceNetwork;
  readonly secrets: Secrets;
  readonly #context: WorkspaceContext;
  readonly #ledger: Ledger;
  readonly #life: Life;
  readonly #deleting = new AbortController();
  /** Undefined for a record that this version cannot use. */
  #contents: Contents | undefined;
  #snapshots: Snapshots | undefined;
  /** What ran in it is gone, and nothing can be begun in it yet. */
  #isEmptied = false;
  #deletion: Promise<void> | undefined;
  #releaseImage = () => {};
  /** MicroVMs that run for it, of a record that this version cannot use. */
  readonly #strangers: string[] = [];

  private constructor(context: WorkspaceContext, record: StoredWorkspace, directory: string, secrets: Secrets) {
    this.#context = context;
    this.secrets = secrets;
    this.#ledger = new Ledger(record, directory);
    this.workspaceId = record.workspace_id;
    const { commands, services, shells } = layoutOf(directory);
    [this.commandsDirectory, this.servicesDirectory, this.shellsDirectory] = [commands, services, shells];
    this.#life = new Life(
      context,
      this.#ledger,
      secrets,
      this.#deleting.signal,
      async (why) => await this.#contents?.lose(why),
      (reason) => this.#contents?.services.noteWorkspaceStop(reason),
    );
    this.network = new WorkspaceNetwork(context, this.#ledger, this.#life, secrets, this.#deleting.signal);
    this.exchanges = new Exchanges(this.#ledger);
    this.room = new Room(this.#life);
    this.disk = new StoppedDisk(context, this.#ledger, this.#deleting.signal, (work) => this.#life.inTurn(work));
    this.#life.takeDisk = () => this.disk.letGo();
  }

  /** A new one, on disk, in the state `creating`. */
  static async make(context: WorkspaceContext, record: StoredWorkspace, secrets: Secrets): Promise<Workspace> {
    const directory = await makeWorkspaceDirectory(context.paths, record.workspace_id);
    try {
      const workspace = new Workspace(context, record, directory, secrets);
      // A clone's.
      if (record.image !== null) workspace.#releaseImage = context.preparation.hold(record.image.digest);
      await secrets.store(layoutOf(directory).secrets, (hosts) => context.networks.makeAuthority(hosts));
      await workspace.#ledger.save({}, { durable: false });
      workspace.#snapshots = await Snapshots.open(workspace.#ledger);
      await workspace.#fill();
      return workspace;
    } catch (error) {
      // Its id would be taken by nobody.
      await removeWorkspaceDirectory(context.paths, record.workspace_id).catch(() => {});
      throw error;
    }
  }

  /**
   * One that an earlier daemon left; its microVM is taken out of `known` where it still runs. What was being created then
   * is `failed`.
   */
  static async take(context: WorkspaceContext, found: FoundWorkspace, known: KnownVms): Promise<Workspace> {
    const { directory, record, unusable } = found;
    // A newer daemon may come back to its microVM.
    if (record === undefined) return Workspace.#unusable(context, found, unusable ?? "", known);
    try {
      const secrets = await Secrets.load(layoutOf(directory).secrets, record.secrets);
      const workspace = new Workspace(context, record, directory, secrets);
      if (record.image !== null) workspace.#releaseImage = context.preparation.hold(record.image.digest);
      await workspace.#takeUp(known);
      return workspace;
    } catch (error) {
      // One that is damaged must not keep the daemon from the others.
      return Workspace.#unusable(context, found, `It cannot be taken up: ${PyroError.from(error).message}`, known);
    }
  }

  /** One of which only deleting it is possible; its microVM runs on until then. */
  static #unusable(context: WorkspaceContext, found: FoundWorkspace, why: string, known: KnownVms): Workspace {
    const { workspaceId, directory, imageDigest } = found;
    const workspace = new Workspace(context, unreadableRecord(workspaceId, why), directory, Secrets.none);
    if (imageDigest !== undefined) workspace.#releaseImage = context.preparation.hold(imageDigest);
    for (const [vmId, vm] of known) {
      if (vm.labels.workspace !== workspaceId) continue;
      known.delete(vmId);
      workspace.#strangers.push(vmId);
    }
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

  /** As it is known now. */
  get record(): StoredWorkspace {
    return this.#ledger.record;
  }

  get createdAt(): string {
    return this.#ledger.record.created_at;
  }

  get failure(): StoredWorkspace["failure"] {
    return this.#ledger.record.failure;
  }

  /** True once somebody has asked for its end, unless that failed. */
  get isDeleted(): boolean {
    return this.#deletion !== undefined;
  }

  /** Its microVM, while one runs. */
  get vm(): MicroVm | undefined {
    return this.#life.vm;
  }

  /** Errors: WORKSPACE_FAILED for one whose record cannot be used, WORKSPACE_STATE while it is reset. */
  get commands(): Commands {
    return this.#inside.commands;
  }

  /** Errors: those of commands. */
  get services(): Services {
    return this.#inside.services;
  }

  /** Somebody uses it until what is returned is called. */
  use(): () => void {
    return this.#life.idleness.use();
  }

  /** Errors: those of commands. */
  get shells(): Shells {
    return this.#inside.shells;
  }

  /** Errors: WORKSPACE_FAILED for one whose record cannot be used. */
  get lifecycle(): Lifecycle {
    const snapshots = this.#snapshots;
    if (snapshots === undefined) throw failedError(this.#ledger.record);
    return new Lifecycle({
      ledger: this.#ledger,
      life: this.#life,
      snapshots,
      deleted: this.#deleting.signal,
      empty: async (reason) => {
        this.#isEmptied = true;
        await this.#contents?.abandon(reason);
      },
      refill: async () => {
        await this.#fill();
        this.#isEmptied = false;
      },
    });
  }

  /**
   * Gives a new workspace its microVM and its files; it is `started` then. `prepared` is called when the environment and
   * the template are there. On failure nothing is removed: whoever made it does that.
   */
  async create(
    input: ParsedInputOf<"workspace.create">,
    upload: Upload | undefined,
    { progress, ...calls }: { progress: Progress; prepared: () => void; signal: AbortSignal },
  ): Promise<void> {
    const signal = AbortSignal.any([calls.signal, this.#deleting.signal]);
    const leave = this.#life.idleness.use();
    const made = this.#life.inTurn(async () => {
      const { record, directory } = this.#ledger;
      // Beside all else: it takes as long as a pool's microVM does.
      const synced = syncWorkspaceDirectory(this.#context.paths);
      synced.catch(() => {});
      await Promise.all([checkSize(input), checkDisk(this.#context.paths)]);
      const shape = { ...shapeOf(record), environment: input.environment };
      const { vm, prepared } = await this.#life.begin(shape, {
        progress,
        signal,
        seeded: upload !== undefined,
        prepared: ({ environment }) => {
          this.#releaseImage = environment.release;
          calls.prepared();
        },
      });
      const { digest, env } = prepared.environment;
      const change: Partial<StoredWorkspace> = { image: { digest, env: { ...env } }, identity: vm.identity ?? null };
      await synced;
      if (upload === undefined) return await this.#life.settle(vm, prepared, change);
      progress({ stage: "seed", message: "Sending files", fraction: null });
      const sent = await send(vm, WORKSPACE_PATH, upload, limitsOf(input), signal);
      progress({ stage: "baseline", message: "Fixing the baseline", fraction: null });
      await fixBaseline(vm, layoutOf(directory), signal);
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
      const { variables } = this.secrets;
      return { machineId: vm.machine.vmId, guest: vm.guest, env: { ...image?.env, ...variables, ...env }, leave };
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

  /** `change` is asked in its turn: it sees what those before it have made of the record. */
  async update(change: () => Partial<Pick<StoredWorkspace, "name" | "labels" | "ttl_seconds">>): Promise<void> {
    if (this.#contents === undefined) throw failedError(this.#ledger.record);
    await this.#life.inTurn(async () => {
      this.#deleting.signal.throwIfAborted();
      await this.#ledger.save(change(), { durable: true });
    });
    this.#life.idleness.setTtl(this.#ledger.record.ttl_seconds);
  }

  /** Ends and removes all of it, from whatever state. A second call waits for the first; after a failure it tries again. */
  async delete(): Promise<void> {
    this.#deletion ??= this.#delete().catch((error: unknown) => {
      const failure = { stage: "delete", message: PyroError.from(error).message, console_tail: "" };
      this.#ledger.note({ state: "failed", stop_reason: null, failure });
      this.#deletion = undefined;
      throw error;
    });
    await this.#deletion;
  }

  /** Lets go of it without ending anything: the next daemon takes it up. */
  async release(): Promise<void> {
    await this.disk.close(new PyroError("CANCELLED", "The daemon is stopping."));
    if (this.#contents === undefined) return;
    // What is half gone would be there again.
    if (this.isDeleted) return await orAborted(this.delete(), AbortSignal.timeout(DELETE_MS)).catch(() => {});
    await this.#contents.release();
    await this.#life.release();
    const last_activity_at = this.#life.idleness.lastActivity.toISOString();
    // One that is being created is nobody's yet: the next daemon removes what there is of it.
    if (this.state !== "creating") await this.#ledger.save({ last_activity_at }, { durable: false }).catch(() => {});
  }

  /** What the rows tell of it. */
  async describe(): Promise<OutputOf<"workspace.status">> {
    const { record, directory } = this.#ledger;
    return await describeRecord(record, directory, {
      lastActivity: this.#life.idleness.lastActivity,
      expiresAt: this.#life.idleness.expiresAt,
      ...countsOf(this.#contents),
      snapshotCount: this.#snapshots?.count ?? 0,
      snapshotBytes: this.#snapshots?.bytes ?? 0,
    });
  }

  async #delete(): Promise<void> {
    const gone = new PyroError("WORKSPACE_NOT_FOUND", `The workspace ${this.workspaceId} was deleted.`);
    this.#deleting.abort(gone);
    await this.#contents?.abandon(gone);
    await this.#life.inTurn(async () => {
      await this.#life.kill();
      await this.disk.close(gone);
      for (const vmId of this.#strangers) await this.#killStranger(vmId);
      await removeWorkspaceDirectory(this.#context.paths, this.workspaceId);
      this.#releaseImage();
    });
  }

  async #killStranger(vmId: string): Promise<void> {
    await this.#context.launcher.call((calls, options) => calls.killVm({ vmId }, options));
  }

  async #takeUp(known: KnownVms): Promise<void> {
    const { state, machine_id: machineId, stop_reason, resetting } = this.#ledger.record;
    if (state === "creating") {
      const message = "The daemon ended while the workspace was being created.";
      const failure = { stage: "create", message, console_tail: "" };
      await this.#become({ state: "failed", failure });
    }
    if (resetting !== null) {
      for (const [vmId, vm] of known) if (vm.labels.workspace === this.workspaceId) await this.#killStranger(vmId);
      await this.#ledger.save(await finishReset(this.#ledger), { durable: true });
    }
    await removeLeftovers(this.#ledger.directory);
    const snapshots = await Snapshots.open(this.#ledger);
    this.#snapshots = snapshots;
    const running = state === "started" && resetting === null;
    const machine = running && machineId !== null ? await this.#machineOf(machineId, known) : undefined;
    if (machine === undefined) {
      if (running) await this.#become({ state: "stopped", stop_reason: stop_reason ?? "lost", machine_id: null });
      return void (await this.#fill());
    }
    known.delete(machine.vmId);
    const vm = MicroVm.adopt(machine);
    // Before anything is asked of it: one that stands still answers nobody, and has lost nothing.
    if (await machine.outOfRoom().catch(() => false)) {
      vm.guest.hold(new PyroError("HOST_DISK_FULL", "The host had no room for what the guest wrote."));
    }
    this.#life.takeUp(vm);
    const contents = await this.#fill(machine.vmId);
    if (snapshots.foundTorn) void thaw(vm).catch(() => {});
    this.#life.goOnStopping();
    void contents.sweep(vm.guest, this.#deleting.signal);
  }

  /** Takes up what is on disk of what ran in it; what it stood in is `machineId`, if that still runs. */
  async #fill(machineId?: string): Promise<Contents> {
    const contents = await Contents.open(this);
    this.#contents = contents;
    await contents.adopt(machineId);
    return contents;
  }

  get #inside(): Contents {
    if (this.#contents === undefined) throw failedError(this.#ledger.record);
    if (!this.#isEmptied) return this.#contents;
    throw new PyroError("WORKSPACE_STATE", `The workspace ${this.workspaceId} is being reset.`);
  }

  /** That it is so does not wait for the host to have room for it: the next daemon finds the same. */
  async #become(change: Partial<StoredWorkspace>): Promise<void> {
    this.#ledger.note(change);
    await this.#ledger.save({}, { durable: true }).catch(() => {});
  }

  /** Undefined when it does not run any more, or is not this one's. */
  async #machineOf(machineId: string, known: KnownVms): Promise<Machine | undefined> {
    const vm = known.get(machineId);
    // It was labelled before it was written down.
    const isOwn = vm?.running === true && vm.labels.workspace === this.workspaceId;
    return isOwn ? await adoptMachine(this.#context.launcher, machineId) : undefined;
  }
}
