// The disk of a stopped workspace as a person holds it: the same calls as Pyro's, with the workspace's id filled in.
import type { Pyro } from "./pyro.ts";
import type {
  CallOptions,
  DiskExportInput,
  DiskExportResult,
  DiskList,
  DiskListInput,
  DiskReadInput,
  DiskReadResult,
  EventOptions,
  FileFacts,
  Listing,
  WorkspaceEvent,
} from "./types.ts";

/** The calls about the disk of one workspace while it is stopped. Paths are those of its whole system. */
export interface WorkspaceDisk {
  /** A page as a promise; iterated, the files of this page and of all that follow. */
  list(input?: string | Omit<DiskListInput, "workspaceId">, options?: CallOptions): Listing<DiskList, FileFacts>;
  /** At most 65,536 bytes unless `maxBytes` says otherwise; `nextOffset` goes on. */
  read(
    path: string,
    input?: Omit<DiskReadInput, "workspaceId" | "path">,
    options?: CallOptions,
  ): Promise<DiskReadResult>;
  /** Makes the file, an ext4 image of the whole system; nothing may be there yet. */
  export(
    output: string | Omit<DiskExportInput, "workspaceId">,
    options?: EventOptions<WorkspaceEvent>,
  ): Promise<DiskExportResult>;
}

export function diskCalls(pyro: Pyro, workspaceId: string): WorkspaceDisk {
  return {
    list: (input = {}, options) =>
      pyro.listWorkspaceDisk({ ...(typeof input === "string" ? { path: input } : input), workspaceId }, options),
    read: (path, input, options) => pyro.readWorkspaceDisk({ ...input, workspaceId, path }, options),
    export: (output, options) =>
      pyro.exportWorkspaceDisk(
        { ...(typeof output === "string" ? { outputPath: output } : output), workspaceId },
        options,
      ),
  };
}
