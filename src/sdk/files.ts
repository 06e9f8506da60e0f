// The files of a workspace as a person holds them: the same calls as Pyro's, with the workspace's id filled in, and bytes where
// the table has text with its encoding.
import type { Pyro } from "./pyro.ts";
import type {
  CallOptions,
  FileEditInput,
  FileEditResult,
  FileFacts,
  FileList,
  FileListInput,
  FileReadInput,
  FileReadResult,
  FileWriteResult,
  Listing,
  PatchApplyResult,
} from "./types.ts";

/** An input without what the handle knows. */
type OfHandle<Input> = Omit<Input, "workspaceId">;
/** The same of a call about one file: its path is an argument of its own. */
type OfFile<Input> = Omit<Input, "workspaceId" | "path">;

/** The calls about the files of one workspace. Paths are relative to /workspace, or absolute below it. */
export interface WorkspaceFiles {
  /** A page as a promise; iterated, the files of this page and of all that follow. */
  list(input?: string | OfHandle<FileListInput>, options?: CallOptions): Listing<FileList, FileFacts>;
  /** At most 65,536 bytes unless `maxBytes` says otherwise; `nextOffset` goes on. */
  read(path: string, input?: OfFile<FileReadInput>, options?: CallOptions): Promise<FileReadResult>;
  /** Makes the file, or puts this in its place, whole. At most 16 MiB. */
  write(path: string, data: string | Uint8Array, options?: CallOptions): Promise<FileWriteResult>;
  /** Replaces a text: the one place where it is, or with `all` everywhere. */
  edit(path: string, input: OfFile<FileEditInput>, options?: CallOptions): Promise<FileEditResult>;
}

/** The calls about patches of one workspace. */
export interface WorkspacePatches {
  /** Applies what `git diff` or `diff -u` prints: all of it, or nothing. At most 16 MiB. */
  apply(patch: string | Uint8Array, options?: CallOptions): Promise<PatchApplyResult>;
}

export function fileCalls(pyro: Pyro, workspaceId: string): WorkspaceFiles {
  return {
    list: (input = {}, options) =>
      pyro.listWorkspaceFiles({ ...(typeof input === "string" ? { path: input } : input), workspaceId }, options),
    read: (path, input, options) => pyro.readWorkspaceFile({ ...input, workspaceId, path }, options),
    write: (path, data, options) => {
      const { text, encoding } = sent(data);
      return pyro.writeWorkspaceFile({ workspaceId, path, text, textEncoding: encoding }, options);
    },
    edit: (path, input, options) => pyro.editWorkspaceFile({ ...input, workspaceId, path }, options),
  };
}

export function patchCalls(pyro: Pyro, workspaceId: string): WorkspacePatches {
  return {
    apply: (patch, options) => {
      const { text, encoding } = sent(patch);
      return pyro.applyWorkspacePatch({ workspaceId, patch: text, patchEncoding: encoding }, options);
    },
  };
}

/** What is neither text nor bytes is refused by the row. */
function sent(data: string | Uint8Array): { text: string; encoding: "utf-8" | "base64" } {
  if (!(data instanceof Uint8Array)) return { text: data, encoding: "utf-8" };
  return { text: Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64"), encoding: "base64" };
}
