// Puts the names of secrets in the place of their values, in bytes and in texts. What leaves a workspace goes through one of
// these: output on its way into a spool (output.ts), and everything else on its way to whoever asked.
import { Forms, withoutLineEnds } from "./forms.ts";
import { type Piece, Sieve, type Sought } from "./sieve.ts";

/** How much longer than itself a value may be as it is written: percent-encoded, with line ends in it. */
const LONGEST_FORM = 3;
const MARGIN_BYTES = 256;

export interface Redacted {
  readonly data: Buffer;
  /** True when something was replaced. */
  readonly redacted: boolean;
}

export interface NamedValue {
  readonly name: string;
  readonly value: Buffer;
}

export class Redactor {
  /** Knows no secrets and changes nothing. */
  static readonly none = new Redactor([]);

  readonly #secrets: readonly NamedValue[];
  #sought: Sought | undefined;

  constructor(secrets: readonly NamedValue[]) {
    this.#secrets = secrets.map(({ name, value }) => ({ name, value: withoutLineEnds(value) }));
  }

  /** There is nothing to replace. */
  get idle(): boolean {
    return this.#secrets.length === 0;
  }

  /** Whoever shows a part of something looks at so much before and behind it too, bytes. */
  get margin(): number {
    if (this.idle) return 0;
    return LONGEST_FORM * Math.max(...this.#secrets.map(({ value }) => value.length)) + MARGIN_BYTES;
  }

  /** For one stream whose first byte has this place. */
  sieve(position = 0): Sieve {
    // Made when it is first needed: most workspaces that a daemon takes up are not looked at.
    this.#sought ??= {
      forms: new Forms(this.#secrets.map(({ value }) => value)),
      values: this.#secrets.map(({ value }) => value),
      marks: this.#secrets.map(({ name }) => Buffer.from(markOf(name))),
      shortest: Math.min(...this.#secrets.map(({ value }) => value.length)),
    };
    return new Sieve(this.#sought, position);
  }

  /** Whole bytes: nothing comes before or behind them. */
  bytes(data: Buffer): Redacted {
    if (this.idle) return { data, redacted: false };
    const sieve = this.sieve();
    return joined([...sieve.push(data), ...sieve.end()]);
  }

  /** A text that stands for itself. */
  text(text: string): string {
    if (this.idle || text === "") return text;
    const { data, redacted } = this.bytes(Buffer.from(text));
    return redacted ? data.toString() : text;
  }

  /** The bytes from `from` to before `to` of data that reaches a `margin` further on both sides, where there is more. */
  window(data: Buffer, from: number, to: number): Redacted {
    if (this.idle) return { data: data.subarray(from, to), redacted: false };
    const sieve = this.sieve();
    const pieces: Piece[] = [];
    for (const piece of [...sieve.push(data), ...sieve.end()]) {
      if (piece.end <= from || piece.start >= to) continue;
      if (piece.redacted) pieces.push(piece);
      else {
        const cut = piece.data.subarray(Math.max(0, from - piece.start), to - piece.start);
        pieces.push({ ...piece, data: cut });
      }
    }
    return joined(pieces);
  }

  /** A stream, for what is too long to be held. `noted` is called when something was replaced. */
  async *stream(source: AsyncIterable<Uint8Array>, noted: () => void = () => {}): AsyncGenerator<Buffer> {
    const sieve = this.idle ? undefined : this.sieve();
    for await (const chunk of source) {
      const data = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
      if (sieve === undefined) yield data;
      else yield* told(sieve.push(data), noted);
    }
    if (sieve !== undefined) yield* told(sieve.end(), noted);
  }
}

export function markOf(name: string): string {
  return `[redacted:${name}]`;
}

function joined(pieces: readonly Piece[]): Redacted {
  return { data: Buffer.concat(pieces.map(({ data }) => data)), redacted: pieces.some(({ redacted }) => redacted) };
}

function* told(pieces: readonly Piece[], noted: () => void): Generator<Buffer> {
  for (const { data, redacted } of pieces) {
    if (redacted) noted();
    yield data;
  }
}
