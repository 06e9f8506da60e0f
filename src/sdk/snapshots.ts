// The snapshots of a workspace as a person holds them: the same calls as Pyro's, with the workspace's id filled in.
import type { Pyro } from "./pyro.ts";
import type {
  CallOptions,
  EventOptions,
  Listing,
  SnapshotDeleteResult,
  SnapshotFacts,
  SnapshotList,
  SnapshotListInput,
  SnapshotRecord,
  WorkspaceEvent,
} from "./types.ts";

/** The calls about the snapshots of one workspace. */
export interface WorkspaceSnapshots {
  /** Keeps the disk as it stands now; what runs goes on. */
  create(snapshotName: string, options?: EventOptions<WorkspaceEvent>): Promise<SnapshotRecord>;
  /** The baseline first, then from the oldest. */
  list(input?: Omit<SnapshotListInput, "workspaceId">, options?: CallOptions): Listing<SnapshotList, SnapshotFacts>;
  delete(snapshotName: string, options?: CallOptions): Promise<SnapshotDeleteResult>;
}

export function snapshotCalls(pyro: Pyro, workspaceId: string): WorkspaceSnapshots {
  return {
    create: (snapshotName, options) => pyro.createSnapshot({ workspaceId, snapshotName }, options),
    list: (input, options) => pyro.listSnapshots({ ...input, workspaceId }, options),
    delete: (snapshotName, options) => pyro.deleteSnapshot({ workspaceId, snapshotName }, options),
  };
}
