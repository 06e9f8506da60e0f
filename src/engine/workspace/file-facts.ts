// What a guest tells of files, as the rows tell it. A guest may say anything: only what can be true comes through.
import { isUtf8 } from "node:buffer";
import { posix } from "node:path";
import { PyroError } from "../../errors/error.ts";
import { type File, FileType, type PatchedFile, PatchStatus } from "../../gen/pyro/guest/v1/files_pb.js";
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import type { OutputOf } from "../../operations/table.ts";

type Facts = OutputOf<"workspace.file_list">["entries"][number];
type Patched = OutputOf<"workspace.patch_apply">["entries"][number];

const MOST_NAME = 4096;
/** Of a tree that is deeper than a system call can say. */
const MOST_PATH = 1 << 17;
/** What a Date takes, ms on either side of 1970. */
const MOST_MS = 8.64e15;

const TYPES: { readonly [T in FileType]?: Facts["artifact_type"] } = {
  [FileType.FILE]: "file",
  [FileType.DIRECTORY]: "directory",
  [FileType.SYMLINK]: "symlink",
  [FileType.OTHER]: "other",
};
const STATUSES: { readonly [S in PatchStatus]?: Patched["status"] } = {
  [PatchStatus.ADDED]: "added",
  [PatchStatus.MODIFIED]: "modified",
  [PatchStatus.DELETED]: "deleted",
  [PatchStatus.RENAMED]: "renamed",
  [PatchStatus.COPIED]: "copied",
  [PatchStatus.TYPE_CHANGED]: "type_changed",
};

/** Paths are told relative to `root`. Errors: GUEST_UNRESPONSIVE for what makes no sense. */
export function factsOf(file: File | undefined, root: string = WORKSPACE_PATH): Facts {
  const type = file === undefined ? undefined : TYPES[file.type];
  if (file === undefined || type === undefined || file.linkTarget.length > MOST_NAME) throw nonsense();
  const path = Buffer.concat([Buffer.from(root === "/" ? "/" : `${root}/`), checked(file.path)]);
  const ms = Number(file.modifiedSeconds) * 1000 + Math.floor(file.modifiedNanoseconds / 1e6);
  return {
    ...named(file.path.length === 0 ? Buffer.from(root) : path),
    artifact_type: type,
    size_bytes: numberOf(file.size),
    mode: (file.mode & 0o7777).toString(8).padStart(4, "0"),
    mtime: new Date(Math.max(-MOST_MS, Math.min(MOST_MS, ms))).toISOString(),
    link_target: type === "symlink" ? Buffer.from(file.linkTarget).toString() : null,
  };
}

/** Errors: GUEST_UNRESPONSIVE for what makes no sense. */
export function patchedOf(file: PatchedFile): Patched {
  const type = TYPES[file.type];
  const status = STATUSES[file.status];
  if (type === undefined || status === undefined) throw nonsense();
  return {
    ...named(checked(file.path)),
    status,
    artifact_type: type,
    old_path: file.oldPath.length === 0 ? null : checked(file.oldPath).toString(),
  };
}

/**
 * A part of a file as text, or as base64 where it is none. With `more` behind it, a character that is cut at its end is left
 * to the next part; `bytes` counts what is here.
 */
export function textOf(
  data: Uint8Array,
  more: boolean,
): { content: string; encoding: "utf-8" | "base64"; bytes: number } {
  const end = more ? endOfText(data) : data.length;
  const text = data.subarray(0, end);
  if (isUtf8(text) && (end > 0 || data.length === 0)) {
    return { content: Buffer.from(text).toString(), encoding: "utf-8", bytes: end };
  }
  return { content: Buffer.from(data).toString("base64"), encoding: "base64", bytes: data.length };
}

/** Where a character begins that is not whole at the end; the end when there is none. */
function endOfText(data: Uint8Array): number {
  for (let back = 1; back <= 3 && back <= data.length; back++) {
    const byte = data[data.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return length > back ? data.length - back : data.length;
  }
  return data.length;
}

/** Errors: GUEST_UNRESPONSIVE for what no number here can be. */
export function numberOf(value: bigint): number {
  if (value < 0n || value > BigInt(Number.MAX_SAFE_INTEGER)) throw nonsense();
  return Number(value);
}

export function nonsense(): PyroError {
  return new PyroError("GUEST_UNRESPONSIVE", "The guest's answer about files makes no sense.");
}

/** Of a path that a guest tells, which may be deep. Errors: GUEST_UNRESPONSIVE for what makes no sense. */
export function pathFacts(path: Uint8Array): { path: string; path_base64?: string } {
  if (path.length === 0) throw nonsense();
  return named(checked(path, MOST_PATH));
}

/** Errors: GUEST_UNRESPONSIVE for what makes no sense. */
export function typeOf(type: FileType): Facts["artifact_type"] {
  const known = TYPES[type];
  if (known === undefined) throw nonsense();
  return known;
}

function checked(name: Uint8Array, most = MOST_NAME): Buffer {
  const text = Buffer.from(name);
  // One that climbs out would be believed by whoever joins it to a directory of the host.
  if (text.length > most || text.includes(0) || !isInside(text.toString("latin1"))) throw nonsense();
  return text;
}

function isInside(name: string): boolean {
  return name === "" || (name === posix.normalize(name) && !/^(?:\/|\.\.?(?:\/|$))/.test(name));
}

function named(bytes: Buffer): { path: string; path_base64?: string } {
  if (isUtf8(bytes)) return { path: bytes.toString() };
  return { path: bytes.toString(), path_base64: bytes.toString("base64") };
}
