// Pages of what was run in a workspace: where one ends, and how much of each command it holds.
import { PyroError } from "../../errors/error.ts";
import type { OutputOf } from "../../operations/table.ts";

/** Most of a command's words in a log that would be too long with all of them, bytes. */
const WORDS_BYTES = 64 << 10;

export type Entry = OutputOf<"workspace.logs">["entries"][number];

/** `behind`: numbers behind the page before, of which this one took so many; null when that was all. */
export function nextCursor(behind: readonly number[], taken: number): string | null {
  const last = behind[taken - 1];
  return last === undefined || taken === behind.length ? null : String(last);
}

/** Errors: CURSOR_INVALID. */
export function parseSequence(cursor: string | undefined): number {
  if (cursor === undefined) return 0;
  if (!/^\d{1,15}$/.test(cursor)) throw new PyroError("CURSOR_INVALID", `${cursor} is not a cursor.`);
  return Number(cursor);
}

/** As JSON, bytes. */
export function sizeOf(entry: Entry): number {
  return Buffer.byteLength(JSON.stringify(entry));
}

/** As many of the words as there is room for. */
export function shortened(words: readonly string[]): string[] {
  const kept: string[] = [];
  let left = WORDS_BYTES;
  for (const word of words) {
    left -= Buffer.byteLength(JSON.stringify(word));
    if (left < 0) return [...kept, "..."];
    kept.push(word);
  }
  return kept;
}
