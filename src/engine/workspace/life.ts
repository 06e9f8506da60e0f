// The microVM of one workspace: started when somebody needs it, stopped when nobody has for a while, noticed when it is
// lost. What it is used for is others' business.
import { randomBytes } from "node:crypto";
import { orAborted } from "../../abort/or-aborted.ts";
import { Turns } from "../../abort/turns.ts";
import { PyroError } from "../../errors/error.ts";
import type { Launcher } from "../../launcher/launcher.ts";
import type { Inspections } from "../inspections.ts";
import { checkDisk } from "../limits.ts";
import type { Machines } from "../machines.ts";
import type { MicroVm } from "../microvm.ts";
import type { Networks } from "../network.ts";
import type { Paths } from "../paths.ts";
import type { Preparation, Prepared, Shape } from "../preparation.ts";
import type { Secrets } from "../secrets/secrets.ts";
import type { Progress } from "../templates.ts";
import { Idleness } from "./idleness.ts";
import type { Ledger } from "./ledger.ts";
import { layoutOf, type StoredWorkspace } from "./record.ts";

/** What workspaces need of the house. */
export interface WorkspaceContext {
  readonly paths: Paths;
  readonly preparation: Preparation;
  readonly machines: Machines;
  readonly launcher: Launcher;
  readonly inspections: Inspections;
  readonly networks: Networks;
}

/** A start that failed is tried again by whoever comes next; every other failure stays. */
export const START_STAGE = "start";
/** Most of a guest's console in a record, characters. */
const CONSOLE_TAIL = 4000;
/** How long a daemon that stops waits for what is being done to a workspace, ms. */
const RELEASE_MS = 6000;

export class Life {
  readonly idleness: Idleness;
  /** Called, in its turn, before its microVM is started: nobody else has its disk from then on, or it throws. */
  takeDisk: () => Promise<void> = async () => {};
  readonly #context: WorkspaceContext;
  readonly #ledger: Ledger;
  readonly #secrets: Secrets;
  /** Aborts when the workspace is deleted. */
  readonly #deleted: AbortSignal;
  readonly #onEnded: (why: string) => Promise<void>;
  readonly #onStop: (reason: "workspace_idle" | "workspace_stopped") => void;
  readonly #turns = new Turns();
  readonly #listeners = new Set<Progress>();
  #vm: MicroVm | undefined;
  /** Being shut down. */
  #stopping: MicroVm | undefined;
  #starting: Promise<void> | undefined;
  readonly #releasing = new AbortController();

  /**
   * `onEnded` is called, and awaited, when its microVM is not there any more though nobody deletes it; `onStop` before it
   * is stopped, as nobody uses it or as somebody asked for that.
   */
  constructor(
    context: WorkspaceContext,
    ledger: Ledger,
    secrets: Secrets,
    deleted: AbortSignal,
    onEnded: (why: string) => Promise<void>,
    onStop: (reason: "workspace_idle" | "workspace_stopped") => void,
  ) {
    this.#context = context;
    this.#ledger = ledger;
    this.#secrets = secrets;
    this.#deleted = deleted;
    this.#onEnded = onEnded;
    this.#onStop = onStop;
    const { ttl_seconds, last_activity_at } = ledger.record;
    const stop = () => void this.#stopIdle().catch(() => {});
    this.idleness = new Idleness(ttl_seconds, new Date(last_activity_at), stop);
  }

  get vm(): MicroVm | undefined {
    return this.#vm;
  }

  /** Changes of its state come one after the other. */
  async inTurn<T>(work: () => Promise<T>): Promise<T> {
    return await this.#turns.take(work);
  }

  /**
   * Its microVM, started when it is stopped. Errors: WORKSPACE_STATE, WORKSPACE_FAILED, WORKSPACE_NOT_FOUND when it is
   * deleted meanwhile, those of a start; the signal's reason.
   */
  async running(signal: AbortSignal, progress: Progress): Promise<MicroVm> {
    this.#listeners.add(progress);
    try {
      for (;;) {
        this.#deleted.throwIfAborted();
        this.#releasing.signal.throwIfAborted();
        const { record } = this.#ledger;
        if (record.state === "started" && this.#vm !== undefined) return this.#vm;
        checkStartable(record);
        this.#starting ??= this.inTurn(() => this.#start({ asked: false })).finally(() => {
          this.#starting = undefined;
        });
        await orAborted(this.#starting, AbortSignal.any([signal, this.#deleted]));
      }
    } finally {
      this.#listeners.delete(progress);
    }
  }

  /**
   * Starts it when it is stopped, for whatever reason. It goes on starting when the signal aborts. Errors: those of running.
   */
  async start(signal: AbortSignal, progress: Progress): Promise<void> {
    const leave = this.idleness.use();
    const started = this.inTurn(() => this.startInTurn(progress)).finally(leave);
    await orAborted(started, AbortSignal.any([signal, this.#deleted]));
  }

  /** In its turn: the same. */
  async startInTurn(progress: Progress): Promise<void> {
    this.#listeners.add(progress);
    try {
      await this.#start({ asked: true });
    } finally {
      this.#listeners.delete(progress);
    }
  }

  /** Whether there is room for a start. Errors: HOST_DISK_FULL. */
  async checkRoom(): Promise<void> {
    await checkDisk(this.#context.paths);
  }

  /**
   * Has it end, with all that was written on its disk: only `start` starts it again. One that is stopped stays so.
   * Errors: HOST_DISK_FULL while it stands still for want of room, WORKSPACE_STATE, WORKSPACE_FAILED.
   */
  async stop(): Promise<void> {
    await this.inTurn(async () => {
      this.#checkThere();
      const { record } = this.#ledger;
      if (record.state === "stopped" && record.stop_reason === "stopped") return;
      if (record.state === "failed") throw failedError(record);
      const vm = this.#vm;
      if (vm?.guest.isHeld) {
        const message = `${record.workspace_id} stands still until the host has room for what it wrote; stopped now, that would be lost.`;
        throw new PyroError("HOST_DISK_FULL", message);
      }
      // A daemon that ends before it is done leaves word of what was asked.
      const over = vm === undefined ? ({ state: "stopped", machine_id: null } as const) : {};
      await this.#ledger.save({ ...over, stop_reason: "stopped" }, { durable: true });
      if (vm !== undefined) await this.#end(vm, "stopped");
    });
  }

  /** In its turn: the first microVM, on a disk that is made for it. */
  async begin(shape: Shape, calls: BeginCalls): Promise<{ vm: MicroVm; prepared: Prepared }> {
    const { preparation, machines } = this.#context;
    const begun = machines.begin();
    let prepared: Prepared | undefined;
    try {
      prepared = await preparation.prepare(shape, calls.progress, calls.signal);
      calls.prepared(prepared);
      const { disk, baseline } = layoutOf(this.#ledger.directory);
      const files = { diskPath: disk, ...(calls.seeded ? { baselinePath: baseline } : {}) };
      const options = { machineId: this.#newMachineId(), ...files, signal: calls.signal };
      this.#vm = await machines.obtain(prepared, options, calls.progress);
      calls.signal.throwIfAborted();
      return { vm: this.#vm, prepared };
    } finally {
      begun(prepared);
    }
  }

  /**
   * In its turn: it runs, is kept without a daemon from here on, and written down. On failure its microVM is gone.
   *
   * Every microVM of a workspace comes through here before anybody uses it, at creation, start, reset and cloning: what no
   * disk holds and has to be there again is made again here.
   */
  async settle(vm: MicroVm, { driver }: Prepared, change: Partial<StoredWorkspace>): Promise<void> {
    const vmId = vm.machine.vmId;
    try {
      this.#releasing.signal.throwIfAborted();
      const { directory, record } = this.#ledger;
      await this.#context.networks.connect(vm, record, this.#secrets, layoutOf(directory).network);
      await this.#secrets.put(vm.guest, AbortSignal.any([this.#deleted, this.#releasing.signal]));
      await this.#keep(vmId);
      await this.#ledger.save(
        {
          state: "started",
          stop_reason: null,
          failure: null,
          machine_id: vmId,
          driver: driver.name,
          acceleration: driver.features.acceleration,
          last_activity_at: new Date().toISOString(),
          ...change,
        },
        { durable: true },
      );
    } catch (error) {
      this.#vm = undefined;
      await vm.kill().catch(() => {});
      throw error;
    }
    this.#attach(vm);
  }

  /** Takes up one that an earlier daemon started and kept. */
  takeUp(vm: MicroVm): void {
    this.#attach(vm);
  }

  /** Goes on with a stop that an earlier daemon had begun. To be called when all that runs in it is known. */
  goOnStopping(): void {
    const { state, stop_reason } = this.#ledger.record;
    if (state === "started" && stop_reason === "stopped") void this.stop().catch(() => {});
  }

  /** In its turn: ends it at once. One that could not be ended is still there to be. */
  async kill(): Promise<void> {
    this.idleness.unwatch();
    const vm = this.#vm;
    // That it ends is nobody's loss.
    this.#vm = undefined;
    await vm?.kill().catch((error: unknown) => {
      this.#vm = vm;
      throw error;
    });
  }

  /**
   * Lets go of it and leaves it running. One that is being started is given up; one that is being stopped is waited for,
   * but not for long.
   */
  async release(): Promise<void> {
    this.#releasing.abort(new PyroError("CANCELLED", "The daemon is stopping."));
    this.idleness.unwatch();
    this.#vm?.release();
    await orAborted(
      this.inTurn(async () => this.#vm?.release()),
      AbortSignal.timeout(RELEASE_MS),
    ).catch(() => this.#stopping?.release());
  }

  #checkThere(): void {
    this.#deleted.throwIfAborted();
    this.#releasing.signal.throwIfAborted();
  }

  /** In its turn. `asked`: by somebody who wants it started, and not only used. */
  async #start({ asked }: { readonly asked: boolean }): Promise<void> {
    const { record } = this.#ledger;
    this.#checkThere();
    if (record.state === "started" && this.#vm !== undefined) return;
    // It may have been stopped before it was this one's turn.
    if (!asked || record.state === "failed") checkStartable(record);
    const { preparation, machines, paths } = this.#context;
    const { image, environment, identity } = record;
    const signal = AbortSignal.any([this.#deleted, this.#releasing.signal]);
    const progress: Progress = (event) => {
      for (const listener of this.#listeners) listener(event);
    };
    const begun = machines.begin();
    let prepared: Prepared | undefined;
    try {
      await checkDisk(paths);
      if (image === null || identity === null) throw failedError(record);
      await this.takeDisk();
      progress({ stage: "start", message: "Starting the workspace", fraction: null });
      prepared = await preparation.prepareAgain(shapeOf(record), { ...image, environment }, progress, signal);
      const { disk, baseline } = layoutOf(this.#ledger.directory);
      const files = { diskPath: disk, ...(record.baseline === "disk" ? { baselinePath: baseline } : {}) };
      const options = { machineId: this.#newMachineId(), ...files, identity, signal };
      this.#vm = await machines.restart(prepared, options, progress);
      signal.throwIfAborted();
      await this.settle(this.#vm, prepared, {});
    } catch (error) {
      if (!signal.aborted) await this.#noteFailure(error);
      // Its disk is another's to start from: nothing may go on writing to it.
      else if (this.#vm !== undefined) await this.kill().catch(() => {});
      throw error;
    } finally {
      prepared?.environment.release();
      begun(prepared);
    }
  }

  #attach(vm: MicroVm): void {
    this.#vm = vm;
    if (this.#releasing.signal.aborted) {
      vm.release();
      return;
    }
    vm.machine.ended.then((why) => this.#lose(vm, why)).catch(() => {});
    this.idleness.watch();
  }

  async #keep(vmId: string): Promise<void> {
    const labels = { workspace: this.#ledger.record.workspace_id };
    await this.#context.launcher.call((calls, options) => calls.keepVm({ vmId, labels }, options));
  }

  /** It ended by itself. */
  async #lose(vm: MicroVm, why: string): Promise<void> {
    if (this.#vm !== vm || this.#deleted.aborted || this.#releasing.signal.aborted) return;
    this.#vm = undefined;
    this.#ledger.note({ state: "stopped", stop_reason: "lost", machine_id: null });
    this.idleness.unwatch();
    // In its turn: nobody starts another before all know of this one's end.
    await this.inTurn(async () => {
      await vm.kill().catch(() => {});
      // What stood in it ended with it; another that runs by now is none of its affair.
      if (this.#deleted.aborted || this.#vm !== undefined) return;
      await this.#onEnded(`The microVM ended: ${why}.`);
      await this.#ledger.save({}, { durable: true });
    });
  }

  async #stopIdle(): Promise<void> {
    await this.inTurn(async () => {
      const vm = this.#vm;
      if (vm === undefined || !this.idleness.isDue) return;
      if (this.#deleted.aborted || this.#releasing.signal.aborted) return;
      // One that stands still for want of room would lose what it could not write yet: it is looked at again later.
      if (vm.guest.isHeld) return this.idleness.use()();
      if (await this.#context.networks.isReached(vm, this.#ledger.record)) return this.idleness.use()();
      // Somebody may have come while that was asked.
      if (this.#vm !== vm || !this.idleness.isDue) return;
      await this.#end(vm, "idle");
    });
  }

  /** In its turn. */
  async #end(vm: MicroVm, reason: "idle" | "stopped"): Promise<void> {
    // From here on whoever comes waits for its turn.
    this.#vm = undefined;
    this.idleness.unwatch();
    const last_activity_at = this.idleness.lastActivity.toISOString();
    // Before it is shut down: what ends with it did not end by itself.
    this.#onStop(`workspace_${reason}`);
    await this.#onEnded("The workspace was stopped.");
    this.#stopping = vm;
    try {
      await vm.shutdown(this.#deleted);
    } catch (error) {
      // Its disk is nobody else's to start from before it is gone.
      this.#vm = vm;
      throw error;
    } finally {
      this.#stopping = undefined;
    }
    if (this.#deleted.aborted) return;
    // So it is, whether or not the host has room to say so.
    this.#ledger.note({ state: "stopped", stop_reason: reason, machine_id: null, last_activity_at });
    await this.#ledger.save({}, { durable: true });
  }

  /** A guest that cannot get ready, or a base that is gone, is a failed workspace; a host that is short of something is not. */
  async #noteFailure(error: unknown): Promise<void> {
    if (!(error instanceof PyroError)) return;
    const { code, details, message } = error;
    if (code !== "ENVIRONMENT_MISSING" && !(code === "MICROVM_START_FAILED" && details.stage === "ready")) return;
    const tail = typeof details.console_tail === "string" ? details.console_tail : "";
    const { redactor } = this.#secrets;
    const failure = {
      stage: START_STAGE,
      message: redactor.text(message),
      console_tail: redactor.text(tail).slice(-CONSOLE_TAIL),
    };
    const change = { state: "failed", stop_reason: null, failure, machine_id: null } as const;
    await this.#ledger.save(change, { durable: true }).catch(() => {});
  }

  #newMachineId(): string {
    return `${this.#ledger.record.workspace_id}-${randomBytes(4).toString("hex")}`;
  }
}

export interface BeginCalls {
  readonly progress: Progress;
  /** Called when environment and template are there. */
  readonly prepared: (prepared: Prepared) => void;
  /** Its disk will be copied, as its baseline. */
  readonly seeded: boolean;
  readonly signal: AbortSignal;
}

export function shapeOf(record: StoredWorkspace): Omit<Shape, "environment"> {
  return {
    vcpuCount: record.vcpu_count,
    memMib: record.mem_mib,
    diskMib: record.disk_mib,
    driver: record.driver_choice,
  };
}

export function failedError(of: {
  readonly workspace_id: string;
  readonly failure: { readonly message: string } | null;
}): PyroError {
  return new PyroError("WORKSPACE_FAILED", `The workspace ${of.workspace_id} has failed: ${of.failure?.message ?? ""}`);
}

/** Errors: WORKSPACE_STATE, WORKSPACE_FAILED. */
function checkStartable(record: StoredWorkspace): void {
  const { workspace_id, state, stop_reason, failure } = record;
  if (state === "creating") {
    throw new PyroError("WORKSPACE_STATE", `The workspace ${workspace_id} is being created.`);
  }
  if (state === "stopped" && stop_reason === "stopped") {
    throw new PyroError("WORKSPACE_STATE", `The workspace ${workspace_id} was stopped, and does not start by itself.`);
  }
  if (state === "failed" && failure?.stage !== START_STAGE) throw failedError(record);
}
