// The disk of a workspace while that is stopped: who may look at it and when, by an inspector that is kept a while for whoever
// comes next. Nobody starts the workspace for it, and whoever starts the workspace waits until nobody looks any more.
import { orAborted } from "../../abort/or-aborted.ts";
import type { DriveFile } from "../../drivers/driver.ts";
import { PyroError } from "../../errors/error.ts";
import type { GuestCalls, GuestClient } from "../../guest/client.ts";
import type { Inspector } from "../inspector.ts";
import type { Prepared } from "../preparation.ts";
import type { Progress } from "../templates.ts";
import type { Ledger } from "./ledger.ts";
import { failedError, shapeOf, type WorkspaceContext } from "./life.ts";
import { layoutOf, type StoredWorkspace } from "./record.ts";

/** How long an inspector waits for another call, ms. */
const KEPT_MS = 5000;

/** What is looked at beside the disk, and for how long. */
export interface InspectOptions {
  /**
   * Another disk of the workspace, `readOnly`, such as its baseline; or a file with a new file system on it, which the guest
   * may fill. Such an inspector is its caller's alone and ends with the work.
   */
  readonly aux?: DriveFile | undefined;
  /** It takes its time: whoever wants to start the workspace meanwhile is refused and does not wait. */
  readonly long?: boolean;
  readonly progress?: Progress;
}

/** What the work has to do with. */
export interface Inspection {
  readonly guest: GuestClient;
  /** A call to it; what its failure means for the disk is said in the error. */
  ask<T>(timeoutMs: number, method: (calls: GuestCalls, options: { signal: AbortSignal }) => Promise<T>): Promise<T>;
}

interface Kept {
  readonly inspector: Promise<Inspector>;
  users: number;
  timer: NodeJS.Timeout | undefined;
}

export class StoppedDisk {
  readonly #context: WorkspaceContext;
  readonly #ledger: Ledger;
  readonly #deleted: AbortSignal;
  readonly #inTurn: <T>(work: () => Promise<T>) => Promise<T>;
  readonly #closing = new AbortController();
  #kept: Kept | undefined;
  /** Looks under way, and how many of them are long. */
  readonly #looks = new Set<Promise<unknown>>();
  #long = 0;

  /** `deleted` aborts when the workspace is deleted; with `inTurn` changes of its state come one after the other. */
  constructor(
    context: WorkspaceContext,
    ledger: Ledger,
    deleted: AbortSignal,
    inTurn: <T>(work: () => Promise<T>) => Promise<T>,
  ) {
    this.#context = context;
    this.#ledger = ledger;
    this.#deleted = deleted;
    this.#inTurn = inTurn;
  }

  get record(): StoredWorkspace {
    return this.#ledger.record;
  }

  /**
   * Does the work with an inspector that has the disk. What the guest refuses in it comes out as a PyroError. Errors: WORKSPACE_STATE for one that is not stopped,
   * WORKSPACE_FAILED for one that never had a disk, DISK_DAMAGED, those of a start; what the work throws; the signal's
   * reason.
   */
  async inspect<T>(
    options: InspectOptions,
    signal: AbortSignal,
    work: (inspection: Inspection, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const ending = AbortSignal.any([signal, this.#deleted, this.#closing.signal]);
    // A start that is under way is waited for, and then there is nothing to look at.
    const admitted = this.#inTurn(async () => {
      ending.throwIfAborted();
      this.#check();
      return { look: this.#look(options, ending, work) };
    });
    const { look } = await orAborted(admitted, ending);
    return await look;
  }

  /** In the workspace's turn, before its disk is anybody else's. Errors: DISK_EXPORT_RUNNING. */
  async letGo(): Promise<void> {
    if (this.#long > 0) {
      const { workspace_id } = this.record;
      throw new PyroError("DISK_EXPORT_RUNNING", `The disk of the workspace ${workspace_id} is being exported.`);
    }
    await Promise.allSettled(this.#looks);
    await this.#drop(this.#kept);
  }

  /** Ends all that looks at it. */
  async close(reason: PyroError): Promise<void> {
    this.#closing.abort(reason);
    await Promise.allSettled(this.#looks);
    await this.#drop(this.#kept);
  }

  #check(): void {
    const { workspace_id, state, image, identity, resetting } = this.record;
    if (state === "started" || state === "creating") {
      const message = `The workspace ${workspace_id} is ${state}: its disk can be looked at when it is stopped.`;
      throw new PyroError("WORKSPACE_STATE", message, { hint: STOP_FIRST_HINT });
    }
    // Of one that is half reset nobody knows which disk that would be.
    if (image === null || identity === null || resetting !== null) throw failedError(this.record);
  }

  /** Counted from here on, whatever comes of it. */
  #look<T>(
    options: InspectOptions,
    signal: AbortSignal,
    work: (inspection: Inspection, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const long = options.long ? 1 : 0;
    this.#long += long;
    const look = this.#carryOut(options, signal, work).finally(() => {
      this.#long -= long;
      this.#looks.delete(look);
    });
    this.#looks.add(look);
    // Whoever began it may have gone by now.
    look.catch(() => {});
    return look;
  }

  async #carryOut<T>(
    { aux, progress }: InspectOptions,
    signal: AbortSignal,
    work: (inspection: Inspection, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    if (aux !== undefined) {
      const inspector = await this.#start(aux, signal, progress);
      try {
        return await using(inspector, signal, work);
      } finally {
        await inspector.end();
      }
    }
    const kept = this.#share();
    try {
      return await using(await orAborted(kept.inspector, signal), signal, work);
    } catch (error) {
      // One that failed is nobody's any more.
      if (error instanceof PyroError && BROKEN.has(error.code)) await this.#drop(kept);
      throw error;
    } finally {
      this.#leave(kept);
    }
  }

  #share(): Kept {
    const kept = this.#kept ?? this.#keep();
    clearTimeout(kept.timer);
    kept.users++;
    return kept;
  }

  #keep(): Kept {
    const signal = AbortSignal.any([this.#deleted, this.#closing.signal]);
    const kept: Kept = { inspector: this.#start(undefined, signal), users: 0, timer: undefined };
    const drop = () => this.#drop(kept);
    kept.inspector.then(({ ended }) => ended.then(drop), drop);
    this.#kept = kept;
    return kept;
  }

  #leave(kept: Kept): void {
    kept.users--;
    if (kept.users > 0 || this.#kept !== kept) return;
    kept.timer = setTimeout(() => void this.#drop(kept), KEPT_MS).unref();
  }

  /** Never rejects: what cannot be ended is ended by the next daemon. */
  async #drop(kept: Kept | undefined): Promise<void> {
    if (kept === undefined) return;
    clearTimeout(kept.timer);
    if (this.#kept === kept) this.#kept = undefined;
    await kept.inspector.then((inspector) => inspector.end()).catch(() => {});
  }

  /** Size of the image that it stands on, bytes. Errors: those of Preparation.prepareAgain. */
  async imageBytes(signal: AbortSignal): Promise<number> {
    const { environment } = await this.#prepare(signal, () => {});
    environment.release();
    return environment.size_bytes;
  }

  async #prepare(signal: AbortSignal, progress: Progress): Promise<Prepared> {
    const { record } = this.#ledger;
    const { image, environment } = record;
    if (image === null) throw failedError(record);
    return await this.#context.preparation.prepareAgain(shapeOf(record), { ...image, environment }, progress, signal);
  }

  async #start(aux: DriveFile | undefined, signal: AbortSignal, progress?: Progress): Promise<Inspector> {
    const { record, directory } = this.#ledger;
    const { stop_reason, state, disk_mib } = record;
    const tell: Progress = progress ?? (() => {});
    const prepared = await this.#prepare(signal, tell);
    try {
      tell({ stage: "inspect", message: "Looking at the disk", fraction: null });
      const { disk: path, baseline: baselinePath } = layoutOf(directory);
      const disk = { path, readOnly: true, virtualBytes: disk_mib * 2 ** 20 };
      const dirty = stop_reason === "lost" || state === "failed";
      return await this.#context.inspections.start(prepared, { disk, dirty, aux, baselinePath }, signal, tell);
    } finally {
      prepared.environment.release();
    }
  }
}

/** With these an inspector is of no further use; damage that it could tell of is no such thing. */
const BROKEN: ReadonlySet<string> = new Set(["GUEST_UNRESPONSIVE", "MICROVM_LOST", "HOST_DISK_FULL"]);

async function using<T>(
  inspector: Inspector,
  signal: AbortSignal,
  work: (inspection: Inspection, signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const ending = AbortSignal.any([signal, inspector.failed]);
  const { guest } = inspector;
  try {
    return await work({ guest, ask: (timeoutMs, method) => guest.call(method, { timeoutMs, signal: ending }) }, ending);
  } catch (error) {
    throw await inspector.explain(error);
  }
}

/** For what is possible only when a workspace is stopped, and it is started. */
export const STOP_FIRST_HINT = "Stop the workspace first; while it is started, look at it with a command in it.";
