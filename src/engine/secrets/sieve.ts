// One stream of bytes on its way out of a workspace: what is surely no value goes through, a value becomes its name, and what
// may be the beginning of one waits for what comes behind it. Where the stream is cut makes no difference.
import { endingOf } from "./ending.ts";
import type { Forms } from "./forms.ts";
import type { Lane, Span } from "./lane.ts";

/** So much of a value, and no less, counts as the value where nothing can come behind it any more: symbols. */
const TELLING_SYMBOLS = 6;
/** Most of a value that goes through because the stream is quiet: what is being typed would not be seen otherwise. */
const QUIET_SYMBOLS = 3;
/** Of a short value, less. */
const SHORT_VALUE_BYTES = 12;

/** A part of the stream, in the order of the stream and without holes. */
export interface Piece {
  /** Places in the stream, of the bytes as they came. */
  readonly start: number;
  readonly end: number;
  /** Those bytes, or what stands for them. */
  readonly data: Buffer;
  readonly redacted: boolean;
}

/** What is looked for. */
export interface Sought {
  readonly forms: Forms;
  /** What stands for a value, by its place in the forms. */
  readonly marks: readonly Buffer[];
  /** Themselves, in the same order. */
  readonly values: readonly Buffer[];
  /** Of the shortest value, bytes. */
  readonly shortest: number;
}

export class Sieve {
  readonly #sought: Sought;
  readonly #lanes: readonly Lane[];
  readonly #quiet: number;
  /** Undecided bytes, and where the first of them is. */
  #kept: Buffer[] = [];
  #from: number;
  #position: number;
  #spans: Span[] = [];
  #afterLoss = false;

  constructor(sought: Sought, position = 0) {
    this.#sought = sought;
    this.#from = position;
    this.#position = position;
    this.#quiet = sought.shortest < SHORT_VALUE_BYTES ? 1 : QUIET_SYMBOLS;
    this.#lanes = sought.forms.lanes((span) => this.#spans.push(span));
  }

  /** Count of bytes that wait. */
  get held(): number {
    return this.#position - this.#from;
  }

  /** The next bytes of the stream. */
  push(data: Buffer): Piece[] {
    if (this.#afterLoss) this.#lookForEnds(data);
    for (const lane of this.#lanes) lane.push(data, this.#position);
    this.#kept.push(data);
    this.#position += data.length;
    const held = this.#lanes.map(({ heldFrom }) => heldFrom ?? this.#position);
    return this.#decide(Math.min(this.#position, ...held));
  }

  /** What comes next does not follow what came: it may begin with the end of a value. To be called behind `end`. */
  lost(): void {
    this.#afterLoss = true;
  }

  /**
   * Nothing has come for a while. The few characters that begin a value by chance go through, and it is still known when
   * the rest of it comes.
   */
  quiet(): Piece[] {
    if (this.held === 0 || this.#lanes.some(({ depth }) => depth > this.#quiet)) return [];
    return this.#decide(this.#position);
  }

  /** Nothing comes behind what has come. The greater part of a value counts as one. */
  end(): Piece[] {
    for (const lane of this.#lanes) {
      const { depth, heldFrom, owner } = lane;
      if (heldFrom !== undefined && depth >= TELLING_SYMBOLS) {
        this.#spans.push({ start: heldFrom, end: this.#position, owner });
      }
      lane.reset();
    }
    return this.#decide(this.#position);
  }

  #lookForEnds(data: Buffer): void {
    this.#afterLoss = false;
    this.#sought.values.forEach((value, owner) => {
      const length = endingOf(value, data);
      if (length < TELLING_SYMBOLS) return;
      this.#spans.push({ start: this.#position, end: this.#position + length, owner });
    });
  }

  /** Lets go of everything before a place, or before the value that this place is in. */
  #decide(upTo: number): Piece[] {
    if (this.#spans.length === 0) return this.#literal(upTo);
    const merged = this.#merged();
    const pieces: Piece[] = [];
    this.#spans = merged.filter(({ end }) => end > upTo);
    const most = Math.min(upTo, this.#spans[0]?.start ?? upTo);
    for (const { start, end, owner } of merged) {
      if (end > upTo) break;
      pieces.push(...this.#literal(start));
      const from = this.#from;
      this.#take(end);
      pieces.push({ start: from, end, data: this.#sought.marks[owner] ?? Buffer.alloc(0), redacted: true });
    }
    pieces.push(...this.#literal(most));
    return pieces;
  }

  /** In order; those that overlap as one, under the name of the longest. */
  #merged(): Span[] {
    const sorted = this.#spans
      .map(({ start, ...span }) => ({ ...span, start: Math.max(start, this.#from) }))
      .filter(({ start, end }) => end > start)
      .sort((a, b) => a.start - b.start || b.end - a.end);
    const merged: Span[] = [];
    for (const span of sorted) {
      const last = merged.at(-1);
      if (last === undefined || span.start >= last.end) {
        merged.push(span);
        continue;
      }
      const owner = span.end - span.start > last.end - last.start ? span.owner : last.owner;
      merged[merged.length - 1] = { start: last.start, end: Math.max(last.end, span.end), owner };
    }
    return merged;
  }

  #literal(upTo: number): Piece[] {
    if (upTo <= this.#from) return [];
    const start = this.#from;
    return [{ start, end: upTo, data: this.#take(upTo), redacted: false }];
  }

  #take(upTo: number): Buffer {
    const taken: Buffer[] = [];
    let whole = 0;
    for (const part of this.#kept) {
      const wanted = upTo - this.#from;
      if (part.length > wanted) break;
      taken.push(part);
      this.#from += part.length;
      whole++;
    }
    this.#kept.splice(0, whole);
    const [cut] = this.#kept;
    if (cut !== undefined && this.#from < upTo) {
      taken.push(cut.subarray(0, upTo - this.#from));
      this.#kept[0] = cut.subarray(upTo - this.#from);
      this.#from = upTo;
    }
    return taken.length === 1 && taken[0] !== undefined ? taken[0] : Buffer.concat(taken);
  }
}
