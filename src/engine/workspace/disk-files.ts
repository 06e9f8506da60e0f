// Files on the disk of a stopped workspace: listed and read by an inspector. What it tells is bounded and looked at before it is
// believed, as what any guest tells.
import { posix } from "node:path";
import { PyroError } from "../../errors/error.ts";
import type { GuestCalls } from "../../guest/client.ts";
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import { READ_BYTES } from "../../operations/file.ts";
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import type { Secrets } from "../secrets/secrets.ts";
import { factsOf, nonsense, numberOf } from "./file-facts.ts";
import { cursorOf, parseCursor } from "./file-input.ts";
import { shownPart } from "./file-window.ts";
import type { StoppedDisk } from "./stopped-disk.ts";

/** Reading, on a loaded host, under emulation, ms. */
const READ_MS = 60_000;
const MOST_ENTRIES = 1000;
const ROOT = "/";
const MISSING_HINT = "List the directory above it for what there is; relative paths begin at the workspace.";

export async function listDisk(
  disk: StoppedDisk,
  { path, recursive, limit, cursor }: ParsedInputOf<"workspace.disk_list">,
  signal: AbortSignal,
): Promise<OutputOf<"workspace.disk_list">> {
  const listed = pathOf(path);
  const request = { path: Buffer.from(listed), recursive, limit, after: parseCursor(cursor) };
  const told = await ask(disk, signal, (calls, options) => calls.listDisk(request, options));
  const last = told.files.at(-1);
  if (told.files.length > Math.min(limit, MOST_ENTRIES) || (told.more && last === undefined)) throw nonsense();
  return {
    workspace_id: disk.record.workspace_id,
    path: listed,
    entries: told.files.map((file) => factsOf(file, ROOT)),
    next_cursor: told.more && last !== undefined ? cursorOf(Buffer.from(listed.slice(1)), last.path) : null,
  };
}

/** Errors: beside those of the row INVALID_INPUT for an offset that the file does not have. */
export async function readDisk(
  { disk, secrets }: { readonly disk: StoppedDisk; readonly secrets: Secrets },
  input: ParsedInputOf<"workspace.disk_read">,
  signal: AbortSignal,
): Promise<OutputOf<"workspace.disk_read">> {
  const maxBytes = input.max_bytes ?? READ_BYTES.standard;
  const offset = input.offset ?? 0;
  const path = Buffer.from(pathOf(input.path));
  const part = async (from: number, most: number) => {
    const request = { path, offset: BigInt(from), maxBytes: most };
    const told = await ask(disk, signal, (calls, options) => calls.readDisk(request, options));
    if (told.content.length > most) throw nonsense();
    return told;
  };
  const { content: bytes, more, file } = await part(offset, maxBytes);
  const shown = await shownPart({ bytes, offset, more }, secrets.redactor, async (from, to) =>
    from === to ? new Uint8Array() : (await part(from, to - from)).content,
  );
  return {
    workspace_id: disk.record.workspace_id,
    ...factsOf(file, ROOT),
    content: shown.content,
    encoding: shown.encoding,
    offset,
    next_offset: more ? numberOf(BigInt(shown.end)) : null,
    truncated: more,
    redacted: shown.redacted,
  };
}

async function ask<T>(
  disk: StoppedDisk,
  signal: AbortSignal,
  method: (calls: GuestCalls, options: { signal: AbortSignal }) => Promise<T>,
): Promise<T> {
  try {
    return await disk.inspect({}, signal, (inspection) => inspection.ask(READ_MS, method));
  } catch (error) {
    if (!(error instanceof PyroError) || error.code !== "FILE_NOT_FOUND") throw error;
    throw new PyroError(error.code, error.message, { hint: MISSING_HINT, details: error.details, cause: error.cause });
  }
}

/** Absolute in the workspace's system. Errors: INVALID_INPUT. */
function pathOf(given: string): string {
  if (given.includes("\0")) throw new PyroError("INVALID_INPUT", "A path has no NUL.");
  return posix.resolve(WORKSPACE_PATH, given);
}
