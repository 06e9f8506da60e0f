// Keeps a tool's result within its size: what a model reads is bounded, and what is left out is counted.
import { isUtf8 } from "node:buffer";
import type { OutputStream } from "../client/stream.ts";
import { cutAfter, cutBefore } from "../client/utf8.ts";
import { encodingKey } from "./schema.ts";

/** Whole result unless max_bytes asks for more, bytes of JSON: the text and structuredContent together. */
export const RESULT_BYTES = 9000;
/** Room beside the output for a result that asked for more: the output stands in it twice, and JSON escapes. */
const ASKED_FACTOR = 3;
const ASKED_EXTRA = 4096;
/** Longest of any other string in a result. */
const STRING_BYTES = 500;
const LIST_ITEMS = 50;

/** Most bytes the whole result may have. */
export function wholeLimit(maxBytes: number | undefined): number {
  return maxBytes === undefined ? RESULT_BYTES : Math.max(RESULT_BYTES, ASKED_FACTOR * maxBytes + ASKED_EXTRA);
}

export interface Piece {
  readonly text: string;
  /** Bytes that are not UTF-8 were replaced by U+FFFD. */
  readonly lossy: boolean;
  readonly omitted: number;
}

/** Text of bytes, with U+FFFD for what is not UTF-8. */
export function toText(data: Buffer): { text: string; lossy: boolean } {
  return isUtf8(data) ? { text: data.toString("utf8"), lossy: false } : { text: data.toString("utf8"), lossy: true };
}

/** Head and tail of one stream, `limit` bytes of each kept. */
export class HeadTail {
  readonly #limit: number;
  #head = Buffer.alloc(0);
  #tail = Buffer.alloc(0);
  #total = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  get total(): number {
    return this.#total;
  }

  add(data: Buffer): void {
    this.#total += data.length;
    const room = this.#limit - this.#head.length;
    if (room > 0) this.#head = Buffer.concat([this.#head, data.subarray(0, room)]);
    const tail = data.length >= this.#limit ? data : Buffer.concat([this.#tail, data]);
    this.#tail = Buffer.from(tail.subarray(Math.max(0, tail.length - this.#limit)));
  }

  /** At most `limit` bytes of it (no more than were kept), a line in between saying what is missing. */
  cut(limit: number): Piece {
    if (this.#total <= limit && this.#total <= this.#limit) return { ...toText(this.#head), omitted: 0 };
    const most = Math.min(limit, this.#limit);
    const head = this.#head.subarray(0, cutBefore(this.#head, Math.ceil(most / 2)));
    const tail = this.#tail.subarray(cutAfter(this.#tail, this.#tail.length - Math.floor(most / 2)));
    const omitted = this.#total - head.length - tail.length;
    const first = toText(head);
    const last = toText(tail);
    return {
      text: `${first.text}\n[${omitted} bytes omitted]\n${last.text}`,
      lossy: first.lossy || last.lossy,
      omitted,
    };
  }
}

/** Both streams of a command within `limit` bytes: what one does not need the other gets. */
export function cutBoth(streams: Record<OutputStream, HeadTail>, limit: number): Record<OutputStream, Piece> {
  const { stdout, stderr } = streams;
  const half = Math.floor(limit / 2);
  const forStderr = Math.min(stderr.total, Math.max(half, limit - stdout.total));
  return { stdout: stdout.cut(Math.max(0, limit - forStderr)), stderr: stderr.cut(forStderr) };
}

/** The largest number from 0 to `most` for which `fits` holds; 0 when none does. `fits` is monotonous. */
export function largest(most: number, fits: (limit: number) => boolean): number {
  if (fits(most)) return most;
  let low = 0;
  let high = most;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (fits(middle)) low = middle;
    else high = middle;
  }
  return low;
}

/** How hard a result is shortened beside its output, from not much to what always fits. */
export interface Level {
  /** Longest of a string, bytes. */
  readonly text: number;
  /** Most strings of a list. */
  readonly words: number;
  /** Most of any other list that cannot be asked for in pages, and most labels. */
  readonly items: number;
}

const LEVELS: readonly [Level, ...Level[]] = [
  { text: STRING_BYTES, words: LIST_ITEMS, items: Number.POSITIVE_INFINITY },
  { text: 200, words: 20, items: 20 },
  { text: 80, words: 8, items: 6 },
  { text: 40, words: 3, items: 2 },
  { text: 20, words: 1, items: 1 },
];
export const GENTLE: Level = LEVELS[0];

/** What is named by these is used again in other calls, or compared: cut it would be another. */
const NEVER_CUT = /(^|_)(id|cursor|digest|at)$|^(environment|name|state|code)$/;
/** Keys of the caller's own choosing. */
const RECORDS = /^labels$/;

/** `make` at the first level whose result `fits`; at the last when none does. */
export function gently<Made>(make: (level: Level) => Made, fits: (made: Made) => boolean): Made {
  const [first, ...harder] = LEVELS;
  let made = make(first);
  for (const level of harder) {
    if (fits(made)) break;
    made = make(level);
  }
  return made;
}

/**
 * Long strings and long lists cut, at any depth. Output (a text with its encoding beside it), ids and cursors are left
 * alone, and so is the list that `next_cursor` stands beside: its length is what the cursor counts.
 */
export function shorten(value: unknown, level: Level = GENTLE): unknown {
  if (typeof value === "string") return shortenText(value, level);
  if (Array.isArray(value)) return shortenList(value, level);
  if (typeof value !== "object" || value === null) return value;
  const given = value as Readonly<Record<string, unknown>>;
  const entries = Object.entries(given).map(([key, inner]): [string, unknown] => {
    if (encodingKey(key) in given || (typeof inner === "string" && NEVER_CUT.test(key))) return [key, inner];
    if (Array.isArray(inner) && "next_cursor" in given && !inner.every((item) => typeof item === "string")) {
      return [key, inner.map((item) => shorten(item, level))];
    }
    return [key, RECORDS.test(key) ? shortenRecord(inner, level) : shorten(inner, level)];
  });
  return Object.fromEntries(entries);
}

function shortenList(list: readonly unknown[], level: Level): unknown[] {
  if (list.length > level.words && list.every((item) => typeof item === "string")) {
    return [
      ...list.slice(0, level.words).map((item) => shortenText(item, level)),
      `... ${list.length - level.words} more`,
    ];
  }
  return list.slice(0, level.items).map((item) => shorten(item, level));
}

function shortenRecord(record: unknown, level: Level): unknown {
  if (typeof record !== "object" || record === null) return record;
  const entries = Object.entries(record);
  const kept = entries.slice(0, level.items).map(([key, inner]) => [key, shorten(inner, level)]);
  if (entries.length > kept.length) kept.push(["...", `${entries.length - kept.length} more`]);
  return Object.fromEntries(kept);
}

function shortenText(text: string, { text: most }: Level): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= most) return text;
  return `${bytes.subarray(0, cutBefore(bytes, most)).toString("utf8")}...`;
}
