// Files of a workspace: listed, read, written, edited and patched by its guest, one call each. What the guest tells is bounded
// and looked at before it is believed.
import { randomBytes } from "node:crypto";
import { PyroError } from "../../errors/error.ts";
import type { ReadFileResponse } from "../../gen/pyro/guest/v1/files_pb.js";
import type { GuestCalls } from "../../guest/client.ts";
import { READ_BYTES } from "../../operations/file.ts";
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import type { CommandHost } from "./command-host.ts";
import { factsOf, nonsense, numberOf, patchedOf } from "./file-facts.ts";
import { bytesOf, cursorOf, linesOf, parseCursor, pathOf } from "./file-input.ts";
import { fileRefusal } from "./file-refusal.ts";
import { shownPart } from "./file-window.ts";

/** Reading, on a loaded host, under emulation, ms. */
const READ_MS = 60_000;
/** A change waits for files that are being put in their place, a million of them perhaps, ms. */
const CHANGE_MS = 100_000;
/** What the protocol allows a guest to tell at once. */
const MOST_ENTRIES = 1000;
const MOST_PATCHED = 10_000;
const MOST_LINES = 20;

interface PartRequest extends Partial<ReturnType<typeof linesOf>> {
  readonly path: Uint8Array;
  readonly from: number;
  readonly maxBytes: number;
}

/** What is done with files needs of a workspace. */
type FileHost = Pick<CommandHost, "workspaceId" | "enter" | "secrets">;

export class Files {
  readonly #host: FileHost;

  constructor(host: FileHost) {
    this.#host = host;
  }

  async list(
    { path, recursive, limit, cursor }: ParsedInputOf<"workspace.file_list">,
    signal: AbortSignal,
  ): Promise<OutputOf<"workspace.file_list">> {
    const listed = pathOf(path);
    const request = { path: listed.bytes, recursive, limit, after: parseCursor(cursor) };
    const told = await this.#ask(READ_MS, signal, (calls, options) => calls.listFiles(request, options));
    const last = told.files.at(-1);
    if (told.files.length > Math.min(limit, MOST_ENTRIES) || (told.more && last === undefined)) throw nonsense();
    return {
      workspace_id: this.#host.workspaceId,
      path: listed.absolute,
      entries: told.files.map((file) => factsOf(file)),
      next_cursor: told.more && last !== undefined ? cursorOf(listed.bytes, last.path) : null,
    };
  }

  /** Errors: beside those of the row INVALID_INPUT for an offset or lines that the file does not have. */
  async read(
    input: ParsedInputOf<"workspace.file_read">,
    signal: AbortSignal,
  ): Promise<OutputOf<"workspace.file_read">> {
    if (input.lines !== undefined && input.offset !== undefined) {
      throw new PyroError("INVALID_INPUT", "Give lines or offset, one of them.");
    }
    const maxBytes = input.max_bytes ?? READ_BYTES.standard;
    const { bytes: path } = pathOf(input.path);
    const from = input.offset ?? 0;
    const told = await this.#readPart({ path, from, maxBytes, ...linesOf(input.lines) }, signal);
    const offset = numberOf(told.offset);
    const part = { bytes: told.content, offset, more: told.more };
    const { redactor } = this.#host.secrets;
    const { content, encoding, end, redacted } = await shownPart(part, redactor, async (from, to) => {
      if (from === to) return new Uint8Array();
      return (await this.#readPart({ path, from, maxBytes: to - from }, signal)).content;
    });
    return {
      workspace_id: this.#host.workspaceId,
      ...factsOf(told.file),
      content,
      encoding,
      offset,
      next_offset: told.more ? end : null,
      truncated: told.more,
      redacted,
    };
  }

  async #readPart({ from, ...asked }: PartRequest, signal: AbortSignal): Promise<ReadFileResponse> {
    const request = { ...asked, offset: BigInt(from) };
    const told = await this.#ask(READ_MS, signal, (calls, options) => calls.readFile(request, options));
    if (told.content.length > asked.maxBytes) throw nonsense();
    return told;
  }

  async write(
    input: ParsedInputOf<"workspace.file_write">,
    signal: AbortSignal,
  ): Promise<OutputOf<"workspace.file_write">> {
    const content = bytesOf(input.text, input.text_encoding, "text");
    const request = { requestId: newRequestId(), path: pathOf(input.path).bytes, content };
    const told = await this.#ask(CHANGE_MS, signal, (calls, options) => calls.writeFile(request, options));
    return { workspace_id: this.#host.workspaceId, ...factsOf(told.file), created: told.created };
  }

  async edit(
    input: ParsedInputOf<"workspace.file_edit">,
    signal: AbortSignal,
  ): Promise<OutputOf<"workspace.file_edit">> {
    const request = {
      requestId: newRequestId(),
      path: pathOf(input.path).bytes,
      old: Buffer.from(input.old),
      new: Buffer.from(input.new),
      all: input.all,
    };
    const told = await this.#ask(CHANGE_MS, signal, (calls, options) => calls.editFile(request, options));
    return {
      workspace_id: this.#host.workspaceId,
      ...factsOf(told.file),
      replaced_count: numberOf(told.replaced),
      lines: told.lines.slice(0, MOST_LINES).map(numberOf),
    };
  }

  async patch(
    input: ParsedInputOf<"workspace.patch_apply">,
    signal: AbortSignal,
  ): Promise<OutputOf<"workspace.patch_apply">> {
    const request = { requestId: newRequestId(), patch: bytesOf(input.patch, input.patch_encoding, "patch") };
    const { files } = await this.#ask(CHANGE_MS, signal, (calls, options) => calls.applyPatch(request, options));
    if (files.length > MOST_PATCHED) throw nonsense();
    const entries = files.map(patchedOf);
    const count = (status: (typeof entries)[number]["status"]) => entries.filter((one) => one.status === status).length;
    const text = files.filter((one) => one.text).length;
    return {
      workspace_id: this.#host.workspaceId,
      changed: entries.length > 0,
      summary: {
        total: entries.length,
        added: count("added"),
        modified: count("modified"),
        deleted: count("deleted"),
        renamed: count("renamed"),
        copied: count("copied"),
        type_changed: count("type_changed"),
        text_patched: text,
        non_text: entries.length - text,
      },
      entries,
    };
  }

  /** Errors: those of entering the workspace and of the guest's refusals; the signal's reason. */
  async #ask<T>(
    timeoutMs: number,
    signal: AbortSignal,
    method: (calls: GuestCalls, options: { signal: AbortSignal }) => Promise<T>,
  ): Promise<T> {
    const { guest, leave } = await this.#host.enter(signal, () => {});
    try {
      return await guest.call(method, { timeoutMs, signal });
    } catch (error) {
      throw fileRefusal(error);
    } finally {
      leave();
    }
  }
}

/** One name for a change, however often the link makes it be asked for. */
function newRequestId(): string {
  return `fc_${randomBytes(10).toString("hex")}`;
}
