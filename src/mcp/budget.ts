// Keeps a tool's result within its size: what a model reads is bounded, and what is left out is counted.
import { isUtf8 } from "node:buffer";
import type { OutputStream } from "../client/stream.ts";
import { cutAfter, cutBefore } from "../client/utf8.ts";

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

/** Long strings and long lists of strings cut, at any depth; keys in `whole` are left alone. */
export function shorten(value: unknown, whole: readonly string[] = []): unknown {
  if (typeof value === "string") return shortenText(value);
  if (Array.isArray(value)) {
    if (value.length > LIST_ITEMS && value.every((item) => typeof item === "string")) {
      return [...value.slice(0, LIST_ITEMS).map((item) => shortenText(item)), `... ${value.length - LIST_ITEMS} more`];
    }
    return value.map((item) => shorten(item, whole));
  }
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).map(([key, inner]) => [
    key,
    whole.includes(key) ? inner : shorten(inner, whole),
  ]);
  return Object.fromEntries(entries);
}

function shortenText(text: string): string {
  const bytes = Buffer.from(text);
  if (bytes.length <= STRING_BYTES) return text;
  return `${bytes.subarray(0, cutBefore(bytes, STRING_BYTES)).toString("utf8")}...`;
}
