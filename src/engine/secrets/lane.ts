// One way in which a value may be written: bytes of a stream become the symbols of an automaton, whose matches are told as
// places of the stream. Which symbols there are is the business of forms.ts.
import type { Automaton } from "./automaton.ts";

/** A value that stands in the stream from `start` to before `end`. */
export interface Span {
  readonly start: number;
  readonly end: number;
  readonly owner: number;
}

/** How bytes become symbols. One that is in neither table is a symbol itself. */
export interface Alphabet {
  /** Symbol of each byte. */
  readonly symbols: Uint8Array;
  /** What a byte is beside a symbol: one of the kinds below, 0 for nothing. */
  readonly kinds: Uint8Array;
  /**
   * What a sequence stands for that begins with an ESCAPE or an INNER_ESCAPE: one symbol, or what is said below. `before` is
   * the symbol in front of it.
   */
  readonly decode: (sequence: readonly number[], before: number) => number;
}

/** May stand inside a value and says nothing. */
export const BREAK = 1;
/** The same behind a break. */
export const BEHIND_BREAK = 2;
/** Begins a sequence. */
export const ESCAPE = 3;
/** Begins one inside a value, and nowhere else. */
export const INNER_ESCAPE = 4;

/** What a sequence that has begun means: a symbol from 0 up, or one of these. */
export const UNFINISHED = -1;
export const NO_SEQUENCE = -2;
/** It says nothing, as a BREAK does. */
export const SILENT = -3;

/** No pattern has one: a terminal puts it before each line end. */
const RETURN = 0x0d;

/** Longest run of bytes that say nothing inside a value: nobody is to be kept waiting behind a thousand empty lines. */
const MOST_BREAKS = 64;
const FEWEST_PLACES = 64;

export class Lane {
  readonly #automaton: Automaton;
  readonly #alphabet: Alphabet;
  readonly #found: (span: Span) => void;
  #state = 0;
  /** Where the last symbols began, as many as the automaton has matched, in a ring. */
  #places = new Float64Array(FEWEST_PLACES);
  #count = 0;
  #breaks = 0;
  #before = 0;
  #sequence: number[] = [];
  #sequenceAt = 0;

  constructor(automaton: Automaton, alphabet: Alphabet, found: (span: Span) => void) {
    this.#automaton = automaton;
    this.#alphabet = alphabet;
    this.#found = found;
  }

  /** How much of a value has been seen, symbols. */
  get depth(): number {
    const matched = this.#automaton.depth[this.#state] as number;
    return this.#sequence.length > 0 ? matched + 1 : matched;
  }

  /** Where what may be the beginning of a value begins; undefined when there is nothing such. */
  get heldFrom(): number | undefined {
    if (this.#state !== 0) return this.#placeOf(this.#automaton.depth[this.#state] as number);
    return this.#sequence.length > 0 ? this.#sequenceAt : undefined;
  }

  /** Whose value it may be. */
  get owner(): number {
    return this.#automaton.owner[this.#state] as number;
  }

  /** `position`: of the first of these bytes. */
  push(data: Uint8Array, position: number): void {
    const { symbols, kinds } = this.#alphabet;
    const { first, pairs } = this.#automaton;
    for (let at = 0; at < data.length; at++) {
      const byte = data[at] as number;
      // Most bytes are no part of anything, and of those that are most have another behind them than a value has.
      if (this.#state === 0 && this.#sequence.length === 0 && kinds[byte] !== ESCAPE) {
        const symbol = symbols[byte] as number;
        if (first[symbol] === 0) continue;
        const next = data[at + 1];
        if (next !== undefined && kinds[next] === 0 && pairs[(symbol << 8) | (symbols[next] as number)] === 0) continue;
      }
      this.#take(byte, position + at);
    }
  }

  /** What was seen so far is the beginning of nothing. */
  reset(): void {
    this.#state = 0;
    this.#breaks = 0;
    this.#sequence = [];
  }

  #take(byte: number, place: number): void {
    const { symbols, kinds } = this.#alphabet;
    const kind = kinds[byte];
    const inside = this.#state !== 0;
    if (this.#sequence.length > 0 || kind === ESCAPE || (kind === INNER_ESCAPE && inside)) {
      this.#takeEscaped(byte, place);
      return;
    }
    if (inside && (kind === BREAK || (kind === BEHIND_BREAK && this.#breaks > 0))) {
      this.#pass();
      return;
    }
    this.#feed(symbols[byte] as number, place, place + 1);
  }

  #takeEscaped(byte: number, place: number): void {
    const { symbols, kinds, decode } = this.#alphabet;
    if (this.#sequence.length === 0) this.#sequenceAt = place;
    this.#sequence.push(byte);
    const symbol = decode(this.#sequence, this.#before);
    if (symbol === UNFINISHED) return;
    const begun = this.#sequence;
    const from = this.#sequenceAt;
    this.#sequence = [];
    if (symbol === SILENT || (symbol >= 0 && this.#state !== 0 && kinds[symbol] === BREAK)) this.#pass();
    else if (symbol >= 0) this.#feed(symbols[symbol] as number, from, place + 1);
    else {
      // It stands for itself, and its last byte may begin another.
      begun.pop();
      begun.forEach((one, index) => {
        if (one === RETURN) this.#pass();
        else this.#feed(symbols[one] as number, from + index, from + index + 1);
      });
      this.#take(byte, place);
    }
  }

  /** Over something that says nothing. */
  #pass(): void {
    if (++this.#breaks > MOST_BREAKS) this.reset();
  }

  #feed(symbol: number, start: number, end: number): void {
    const automaton = this.#automaton;
    if ((automaton.depth[this.#state] as number) + 1 >= this.#places.length) this.#grow();
    this.#breaks = 0;
    this.#before = symbol;
    this.#places[this.#count++ & (this.#places.length - 1)] = start;
    const state = automaton.step(this.#state, symbol);
    const length = automaton.match[state] as number;
    if (length > 0) this.#found({ start: this.#placeOf(length), end, owner: automaton.owner[state] as number });
    this.#state = automaton.settled(state);
  }

  #placeOf(symbolsBack: number): number {
    return this.#places[(this.#count - symbolsBack) & (this.#places.length - 1)] as number;
  }

  #grow(): void {
    const old = this.#places;
    const grown = new Float64Array(old.length * 2);
    for (let back = 1; back <= old.length; back++) {
      grown[(this.#count - back) & (grown.length - 1)] = old[(this.#count - back) & (old.length - 1)] as number;
    }
    this.#places = grown;
  }
}
