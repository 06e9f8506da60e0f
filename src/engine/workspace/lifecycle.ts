// What becomes of a workspace after its creation: stopped and started, kept as snapshots, put back to one, copied. One thing
// at a time of each; a deletion ends all of it.
import { link } from "node:fs/promises";
import { orAborted } from "../../abort/or-aborted.ts";
import { PyroError } from "../../errors/error.ts";
import type { OutputOf } from "../../operations/table.ts";
import { copyDisk, settleDisk } from "../disk-copy.ts";
import { newIdentity } from "../microvm.ts";
import type { Progress } from "../templates.ts";
import { copyFrozen } from "./frozen-copy.ts";
import { failedError } from "./life.ts";
import { layoutOf, type StoredWorkspace } from "./record.ts";
import { makeDisk, type ResetParts, type ResetRequest, reset } from "./reset.ts";

type Snapshot = OutputOf<"snapshot.create">;

/** What of its workspace it works on. */
export interface LifecycleParts extends ResetParts {
  /** Aborts when the workspace is deleted. */
  readonly deleted: AbortSignal;
}

export class Lifecycle {
  readonly #parts: LifecycleParts;

  constructor(parts: LifecycleParts) {
    this.#parts = parts;
  }

  /** See Life.start. */
  async start(progress: Progress, signal: AbortSignal): Promise<void> {
    await this.#parts.life.start(signal, progress);
  }

  /** See Life.stop. */
  async stop(): Promise<void> {
    await this.#parts.life.stop();
  }

  /** Keeps its disk as it stands. Errors: those of Snapshots.create and of copyFrozen; the signal's reason. */
  async snapshot(name: string, requestId: string | undefined, signal: AbortSignal): Promise<Snapshot> {
    const { snapshots } = this.#parts;
    return await this.#inTurn(signal, async (until) => {
      const made = await snapshots.create(name, requestId, (to) => this.#copyDisk(to, until));
      return { workspace_id: this.#record.workspace_id, ...made };
    });
  }

  /** See Snapshots.list. */
  async listSnapshots(page: {
    readonly limit: number;
    readonly cursor?: string | undefined;
  }): Promise<OutputOf<"snapshot.list">> {
    return { workspace_id: this.#record.workspace_id, ...(await this.#parts.snapshots.list(page)) };
  }

  /** See Snapshots.delete. */
  async deleteSnapshot(name: string): Promise<OutputOf<"snapshot.delete">> {
    await this.#inTurn(this.#parts.deleted, () => this.#parts.snapshots.delete(name));
    return { workspace_id: this.#record.workspace_id, snapshot_name: name, deleted: true };
  }

  /** See reset. */
  async reset(request: ResetRequest, progress: Progress, signal: AbortSignal): Promise<void> {
    await this.#inTurn(signal, (until) => reset(this.#parts, request, progress, until));
  }

  /**
   * Gives a new workspace another's disk, as it stands or as it was in a snapshot, with what the other's changes are
   * compared with; it is `started` then. On failure nothing is removed: whoever made it does that. Errors:
   * SNAPSHOT_NOT_FOUND, those of copyFrozen and of a start; the signal's reason.
   */
  async copyFrom(
    source: Lifecycle,
    snapshotName: string | undefined,
    progress: Progress,
    signal: AbortSignal,
  ): Promise<void> {
    const { ledger, life } = this.#parts;
    await this.#inTurn(signal, async (until) => {
      const layout = layoutOf(ledger.directory);
      progress({ stage: "copy", message: "Copying the disk", fraction: null });
      await source.#inTurn(until, async (both) => {
        const { baseline, disk_mib } = source.#record;
        const from = layoutOf(source.#parts.ledger.directory);
        if (baseline === "disk") await shareBaseline(from.baseline, layout.baseline, both);
        if (snapshotName === undefined) await source.#copyDisk(layout.disk, both);
        else await makeDisk(source.#parts.snapshots.source(snapshotName), layout.disk, disk_mib, both);
      });
      until.throwIfAborted();
      await life.startInTurn(progress);
    });
  }

  get #record(): StoredWorkspace {
    return this.#parts.ledger.record;
  }

  /** Nothing else is done to its disk or its microVM meanwhile; it is in use. */
  async #inTurn<T>(signal: AbortSignal, work: (until: AbortSignal) => Promise<T>): Promise<T> {
    const { life, deleted } = this.#parts;
    const until = AbortSignal.any([signal, deleted]);
    const leave = life.idleness.use();
    try {
      const begun = Promise.withResolvers<void>();
      const done = life.inTurn(async () => {
        until.throwIfAborted();
        begun.resolve();
        return await work(until);
      });
      // Who gives up before it is his turn need not wait for it; what has begun is waited for, however it ends.
      done.catch(() => {});
      await orAborted(Promise.race([begun.promise, done]), until);
      return await done;
    } catch (thrown) {
      // Whatever a deletion has broken, it is gone.
      throw deleted.aborted ? deleted.reason : thrown;
    } finally {
      leave();
    }
  }

  /** In its turn. */
  async #copyDisk(to: string, signal: AbortSignal): Promise<void> {
    const { ledger, life } = this.#parts;
    const { state, workspace_id } = this.#record;
    if (state === "failed") throw failedError(this.#record);
    if (state === "creating") {
      throw new PyroError("WORKSPACE_STATE", `The workspace ${workspace_id} is being created.`);
    }
    const { disk } = layoutOf(ledger.directory);
    if (life.vm !== undefined) return await copyFrozen(life.vm, disk, to, { writeManifest: false, signal });
    await copyDisk(disk, to, signal);
    await settleDisk(to);
  }
}

/** It never changes, so it is one file for both; where that cannot be, a copy. */
async function shareBaseline(from: string, to: string, signal: AbortSignal): Promise<void> {
  try {
    await link(from, to);
  } catch {
    await copyDisk(from, to, signal);
  }
  await settleDisk(to);
}

/** What a clone of a workspace begins as: of its kind and with its settings, and nobody but itself. */
export function cloneRecord(of: StoredWorkspace, workspaceId: string, name: string | null): StoredWorkspace {
  const now = new Date().toISOString();
  const { image, driver_choice } = of;
  // Named one by one: what a workspace has of its own, such as its secrets, is not to be copied by mistake.
  return {
    schema_version: of.schema_version,
    workspace_id: workspaceId,
    name,
    labels: { ...of.labels },
    env: { ...of.env },
    environment: of.environment,
    image,
    driver: null,
    ...(driver_choice === undefined ? {} : { driver_choice }),
    acceleration: null,
    vcpu_count: of.vcpu_count,
    mem_mib: of.mem_mib,
    disk_mib: of.disk_mib,
    state: "creating",
    stop_reason: null,
    failure: null,
    machine_id: null,
    identity: newIdentity(),
    baseline: of.baseline,
    seed: of.seed,
    network_policy: of.network_policy,
    allow_hosts: [...of.allow_hosts],
    reset_count: 0,
    last_reset_at: null,
    last_reset_request: null,
    resetting: null,
    created_at: now,
    last_activity_at: now,
    ttl_seconds: of.ttl_seconds,
  };
}
