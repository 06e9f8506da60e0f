// What callers say of files, as the guest is asked: paths, lines, contents, and where a list goes on.
import { posix } from "node:path";
import { PyroError } from "../../errors/error.ts";
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import { CONTENT_BYTES } from "../../operations/file.ts";

export interface WorkspacePath {
  readonly absolute: string;
  /** Relative to the workspace, empty for the workspace itself. */
  readonly bytes: Uint8Array;
}

/** Errors: INVALID_INPUT, PATH_OUTSIDE. */
export function pathOf(given: string): WorkspacePath {
  if (given.includes("\0")) throw new PyroError("INVALID_INPUT", "A path has no NUL.");
  const absolute = posix.resolve(WORKSPACE_PATH, given);
  if (absolute !== WORKSPACE_PATH && !absolute.startsWith(`${WORKSPACE_PATH}/`)) {
    throw new PyroError("PATH_OUTSIDE", `The path ${given} is not below ${WORKSPACE_PATH}.`, { hint: OUTSIDE_HINT });
  }
  return { absolute, bytes: Buffer.from(absolute.slice(WORKSPACE_PATH.length + 1)) };
}

/** Symbolic links are followed here, unlike in a push. */
export const OUTSIDE_HINT = "Name a path in the workspace that no symbolic link leads out of.";

/** "A:B" in numbers, 0 for what is not said. Errors: INVALID_INPUT. */
export function linesOf(lines: string | undefined): { firstLine: bigint; lastLine: bigint } {
  if (lines === undefined) return { firstLine: 0n, lastLine: 0n };
  const [first = "", last = first] = lines.split(":");
  const range = { firstLine: BigInt(first || 1), lastLine: BigInt(last || 0) };
  const isNone = range.firstLine === 0n || (last !== "" && range.lastLine < range.firstLine);
  if (isNone) throw new PyroError("INVALID_INPUT", `There are no lines ${lines}: they are counted from 1.`);
  return range;
}

/** Errors: INVALID_INPUT for what is no base64, LIMIT_EXCEEDED. */
export function bytesOf(text: string, encoding: "utf-8" | "base64", what: string): Buffer {
  if (encoding === "base64" && (text.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(text))) {
    throw new PyroError("INVALID_INPUT", `The ${what} is no base64.`);
  }
  const bytes = Buffer.from(text, encoding === "utf-8" ? "utf8" : "base64");
  if (bytes.length > CONTENT_BYTES) throw tooLong(what, bytes.length);
  return bytes;
}

export function tooLong(what: string, bytes: number): PyroError {
  return new PyroError("LIMIT_EXCEEDED", `The ${what} has ${bytes} bytes; ${CONTENT_BYTES} is the most of one call.`);
}

/** A list goes on behind an entry, which is told relative to the workspace and asked for relative to what is listed. */
export function cursorOf(listed: Uint8Array, last: Uint8Array): string {
  const below = listed.length === 0 ? last : last.subarray(listed.length + 1);
  return `f${Buffer.from(below).toString("base64url")}`;
}

/** Errors: CURSOR_INVALID. */
export function parseCursor(cursor: string | undefined): Uint8Array {
  if (cursor === undefined) return new Uint8Array();
  const bytes = Buffer.from(cursor.slice(1), "base64url");
  const isOurs = /^f[A-Za-z0-9_-]+$/.test(cursor) && bytes.length > 0 && !bytes.includes(0);
  if (!isOurs) throw new PyroError("CURSOR_INVALID", `${cursor.slice(0, 100)} is not a cursor.`);
  return bytes;
}
