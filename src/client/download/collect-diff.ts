// A diff that came as events and bytes, put into the result that a caller who does not stream gets.
import { isUtf8 } from "node:buffer";
import type { EventOf, OutputOf } from "../../operations/table.ts";

type Diff = OutputOf<"workspace.diff">;
type Entry = Extract<EventOf<"workspace.diff">, { type: "entry" }>["entry"];

export interface DiffLimits {
  readonly entries: number;
  /** Of the patch. */
  readonly bytes: number;
}

/** For whoever has no opinion. */
const LIMITS: DiffLimits = { entries: 100_000, bytes: 64 << 20 };

export class DiffCollector {
  readonly #limits: DiffLimits;
  readonly #keepsPatch: boolean;
  readonly #entries: Entry[] = [];
  readonly #chunks: Buffer[] = [];
  #total = 0;
  #bytes = 0;
  #truncated = false;
  /** Where the patch of the last entry begins. */
  #begin = 0;
  /** Parts of the patch, by the entry they are of. */
  readonly #parts: { readonly entry: Entry; readonly from: number; to: number }[] = [];

  constructor(limits: DiffLimits = LIMITS, keepsPatch = true) {
    this.#limits = limits;
    this.#keepsPatch = keepsPatch;
  }

  entry(entry: Entry): void {
    this.#total++;
    this.#begin = this.#bytes;
    if (this.#entries.length >= this.#limits.entries) return;
    const own = { ...entry };
    this.#entries.push(own);
    if (this.#keepsPatch && own.text) this.#parts.push({ entry: own, from: this.#begin, to: this.#begin });
  }

  patch(data: Buffer): void {
    if (!this.#keepsPatch || data.length === 0) return;
    const kept = data.subarray(0, Math.max(0, this.#limits.bytes - this.#bytes));
    if (kept.length < data.length) this.#truncated = true;
    // A copy: a frame's chunk is a view of a much larger buffer.
    if (kept.length > 0) this.#chunks.push(Buffer.from(kept));
    this.#bytes += kept.length;
    const last = this.#parts.at(-1);
    if (last !== undefined && last.from === this.#begin) last.to = this.#truncated ? last.from : this.#bytes;
  }

  /** The output with what was collected in it. */
  fill(output: Diff): Diff {
    const patch = Buffer.concat(this.#chunks.splice(0));
    for (const { entry, from, to } of this.#parts) {
      const part = patch.subarray(from, to);
      if (part.length > 0 && isUtf8(part)) entry.text_patch = part.toString("utf8");
    }
    // Cut short, it may end inside a character, which alone must not make it base64.
    const whole = this.#truncated ? patch.subarray(0, patch.lastIndexOf(0x0a) + 1) : patch;
    const text = isUtf8(whole);
    return {
      ...output,
      entries: this.#entries,
      entries_truncated: this.#total > this.#entries.length,
      patch: whole.toString(text ? "utf8" : "base64"),
      patch_encoding: text ? "utf-8" : "base64",
      patch_truncated: this.#truncated,
    };
  }
}
