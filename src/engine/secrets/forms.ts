// In which forms a value may leave a workspace: as it is, in base64, percent-encoded, or with a backslash before what a
// text in quotes cannot hold. Each form is an alphabet and the patterns that a value makes in it.
import { Automaton, type Pattern } from "./automaton.ts";
import {
  type Alphabet,
  BEHIND_BREAK,
  BREAK,
  ESCAPE,
  INNER_ESCAPE,
  Lane,
  NO_SEQUENCE,
  SILENT,
  type Span,
  UNFINISHED,
} from "./lane.ts";

const TAB = 0x09;
const LF = 0x0a;
const CR = 0x0d;
const ESC = 0x1b;
const SPACE = 0x20;
const PERCENT = 0x25;
const PLUS = 0x2b;
const BACKSLASH = 0x5c;
const LETTER_U = 0x75;
const BRACKET = 0x5b;
/** Of a terminal, bytes. */
const LONGEST_SEQUENCE = 24;

const SAME = Uint8Array.from({ length: 256 }, (_, byte) => byte);
const nothing = () => NO_SEQUENCE;

/** The kinds of bytes that are more than symbols. */
function kinds(special: Readonly<Record<number, number>>): Uint8Array {
  return Uint8Array.from({ length: 256 }, (_, byte) => special[byte] ?? 0);
}

/** A terminal prints a line end as two bytes. */
const PLAIN: Alphabet = { symbols: SAME, kinds: kinds({ [CR]: BREAK }), decode: nothing };

/**
 * As a program shows a value that is wider than its terminal, or that it draws in colours: with sequences in it that move the
 * cursor. A shell that echoes goes on to the next row by a space and a return, or by the next character, a return, and that
 * character again.
 */
const DRAWN: Alphabet = {
  symbols: SAME,
  kinds: kinds({ [CR]: INNER_ESCAPE, [SPACE]: INNER_ESCAPE, [ESC]: INNER_ESCAPE }),
  decode: (sequence, before) => {
    const last = sequence.at(-1) ?? 0;
    if (sequence.length === 1) return UNFINISHED;
    if (sequence[0] === CR) return last === before && last !== LF ? SILENT : NO_SEQUENCE;
    if (sequence[0] === SPACE) return last === CR ? SILENT : NO_SEQUENCE;
    if (sequence.length === 2) return last === BRACKET ? UNFINISHED : NO_SEQUENCE;
    if (last >= 0x40 && last <= 0x7e) return SILENT;
    return last >= SPACE && last < 0x40 && sequence.length < LONGEST_SEQUENCE ? UNFINISHED : NO_SEQUENCE;
  },
};

/** Both alphabets as one; whatever is no digit is a symbol that no pattern has. Lines may be broken, and indented. */
const BASE64: Alphabet = {
  symbols: SAME.map((byte) => {
    const character = String.fromCharCode(byte).replace("-", "+").replace("_", "/");
    return /[A-Za-z0-9+/]/.test(character) ? character.charCodeAt(0) : 0;
  }),
  kinds: kinds({ [CR]: BREAK, [LF]: BREAK, [SPACE]: BEHIND_BREAK, [TAB]: BEHIND_BREAK }),
  decode: nothing,
};

/** A form's plus is its space: the two are one symbol, in values too. */
const PERCENT_ENCODED: Alphabet = {
  symbols: SAME.map((byte) => (byte === PLUS ? SPACE : byte)),
  kinds: kinds({ [CR]: BREAK, [PERCENT]: ESCAPE }),
  decode: (sequence) => {
    if (sequence.length === 1) return UNFINISHED;
    if (digitOf(sequence.at(-1)) < 0) return NO_SEQUENCE;
    return sequence.length === 2 ? UNFINISHED : digitOf(sequence[1]) * 16 + digitOf(sequence[2]);
  },
};

const LETTERS: Readonly<Record<string, number>> = { b: 0x08, t: TAB, n: LF, f: 0x0c, r: CR };

/** As in a string of JSON, or of a program. */
const BACKSLASHED: Alphabet = {
  symbols: SAME,
  kinds: kinds({ [CR]: BREAK, [BACKSLASH]: ESCAPE }),
  decode: (sequence) => {
    if (sequence.length === 1) return UNFINISHED;
    const second = sequence[1] as number;
    if (second !== LETTER_U) {
      const character = String.fromCharCode(second);
      return LETTERS[character] ?? (/["'\\/]/.test(character) ? second : NO_SEQUENCE);
    }
    if (sequence.length === 2) return UNFINISHED;
    if (digitOf(sequence.at(-1)) < 0) return NO_SEQUENCE;
    if (sequence.length < 6) return UNFINISHED;
    const code = sequence.slice(2).reduce((sum, byte) => sum * 16 + digitOf(byte), 0);
    return code < 0x80 ? code : NO_SEQUENCE;
  },
};

/** What makes a text in quotes write a value in another way. */
const NEEDS_BACKSLASH = /["'\\/<>&]|\p{Cc}/u;

interface Form {
  readonly alphabet: Alphabet;
  readonly automaton: Automaton;
}

export class Forms {
  readonly #forms: readonly Form[];

  /** By their places in the list values are named in what is found. Each is without the line ends at its end. */
  constructor(values: readonly Buffer[]) {
    const bare = values.map((value) => Buffer.from(withoutReturns(value)));
    const plain = bare.map((bytes, owner) => ({ bytes, owner }));
    const escaped = plain.filter(({ bytes }) => NEEDS_BACKSLASH.test(bytes.toString("latin1")));
    const percent = plain.map(({ bytes, owner }) => ({ owner, bytes: inSymbols(bytes, PERCENT_ENCODED) }));
    const base64 = values.flatMap((value, owner) => base64Of(value).map((bytes) => ({ bytes, owner })));
    const form = (alphabet: Alphabet, patterns: readonly Pattern[]) =>
      patterns.length === 0 ? [] : [{ alphabet, automaton: new Automaton(patterns) }];
    const asTheyAre = form(PLAIN, plain);
    this.#forms = [
      ...asTheyAre,
      ...asTheyAre.map(({ automaton }) => ({ alphabet: DRAWN, automaton })),
      ...form(BASE64, base64),
      ...form(PERCENT_ENCODED, percent),
      ...form(BACKSLASHED, escaped),
    ];
  }

  /** For one stream. */
  lanes(found: (span: Span) => void): Lane[] {
    return this.#forms.map(({ automaton, alphabet }) => new Lane(automaton, alphabet, found));
  }
}

/** A value without the line ends at its end: what a shell's `$(cat file)` prints of it. */
export function withoutLineEnds(value: Buffer): Buffer {
  let end = value.length;
  while (end > 0 && (value[end - 1] === LF || value[end - 1] === CR)) end--;
  return value.subarray(0, end);
}

/** Of each of the three ways in which a value can lie in groups of three bytes, the digits that it alone determines. */
function base64Of(value: Buffer): Buffer[] {
  return [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), value]).toString("base64");
    const end = Math.floor(((before + value.length) * 8) / 6);
    return Buffer.from(text.slice(Math.ceil((before * 8) / 6), end));
  });
}

function inSymbols(bytes: Uint8Array, { symbols }: Alphabet): Uint8Array {
  return bytes.map((byte) => symbols[byte] as number);
}

function withoutReturns(value: Uint8Array): Uint8Array {
  return value.filter((byte) => byte !== CR);
}

function digitOf(byte = 0): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}
