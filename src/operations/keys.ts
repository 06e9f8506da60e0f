// Keys by the names that tmux gives them, as the bytes that a terminal sends for them.

import { PyroError } from "../errors/error.ts";
import { nearest } from "../errors/nearest.ts";

const ESC = "\x1b";

/** Keys that send the same whatever a program has asked of its terminal. */
const PLAIN: Readonly<Record<string, string>> = {
  Enter: "\r",
  Tab: "\t",
  BTab: `${ESC}[Z`,
  Space: " ",
  Escape: ESC,
  BSpace: "\x7f",
};

/** Keys whose sequence ends with a letter: in application mode they begin with ESC O. */
const CURSOR: Readonly<Record<string, string>> = { Up: "A", Down: "B", Right: "C", Left: "D", Home: "H", End: "F" };

/** Keys whose sequence is a number and a tilde. */
const NUMBERED: Readonly<Record<string, number>> = {
  Insert: 2,
  Delete: 3,
  PageUp: 5,
  PageDown: 6,
  F5: 15,
  F6: 17,
  F7: 18,
  F8: 19,
  F9: 20,
  F10: 21,
  F11: 23,
  F12: 24,
};

const FUNCTION: Readonly<Record<string, string>> = { F1: "P", F2: "Q", F3: "R", F4: "S" };

/** Other names for the same keys. */
const ALIASES: Readonly<Record<string, string>> = {
  Esc: "Escape",
  Return: "Enter",
  Backspace: "BSpace",
  IC: "Insert",
  DC: "Delete",
  PgUp: "PageUp",
  PPage: "PageUp",
  PgDn: "PageDown",
  NPage: "PageDown",
};

const NAMES: readonly string[] = [
  ...Object.keys(PLAIN),
  ...Object.keys(CURSOR),
  ...Object.keys(NUMBERED),
  ...Object.keys(FUNCTION),
];

interface Modifiers {
  readonly control: boolean;
  readonly meta: boolean;
  readonly shift: boolean;
}

/** True when what these keys send depends on the mode that a program has put its terminal into. */
export function dependOnMode(keys: string): boolean {
  return words(keys).some((word) => Object.hasOwn(CURSOR, split(word).name));
}

/**
 * The bytes of keys that are named with spaces between them: a name, a single character, either with C-, M- or S- in
 * front. `application`: the program has asked for application cursor keys. Errors: INVALID_INPUT, with the names there are.
 */
export function keyBytes(keys: string, application: boolean): Buffer {
  return Buffer.from(
    words(keys)
      .map((word) => sequenceOf(word, application))
      .join(""),
  );
}

function words(keys: string): string[] {
  return keys.split(/\s+/).filter((word) => word !== "");
}

function split(word: string): Modifiers & { readonly name: string } {
  let name = word;
  const found = new Set<string>();
  // "C--" is control and a dash.
  for (let front = /^([CMS])-(.+)$/s.exec(name); front !== null; front = /^([CMS])-(.+)$/s.exec(name)) {
    found.add(front[1] ?? "");
    name = front[2] ?? "";
  }
  return {
    control: found.has("C"),
    meta: found.has("M"),
    shift: found.has("S"),
    name: Object.hasOwn(ALIASES, name) ? (ALIASES[name] ?? name) : name,
  };
}

function sequenceOf(word: string, application: boolean): string {
  const { name, ...modifiers } = split(word);
  const named = namedSequence(name, modifiers, application);
  if (named !== undefined) return named;
  if ([...name].length !== 1) throw unknown(word);
  const meta = modifiers.meta ? ESC : "";
  const typed = modifiers.shift ? name.toUpperCase() : name;
  return meta + (modifiers.control ? controlled(typed, word) : typed);
}

/** Undefined for what is no key with a name. */
function namedSequence(name: string, modifiers: Modifiers, application: boolean): string | undefined {
  const { control, meta, shift } = modifiers;
  const code = 1 + (shift ? 1 : 0) + (meta ? 2 : 0) + (control ? 4 : 0);
  if (Object.hasOwn(PLAIN, name)) {
    if (name === "Tab" && shift) return `${meta ? ESC : ""}${PLAIN.BTab}`;
    if (name === "Space" && control) return `${meta ? ESC : ""}\0`;
    return `${meta ? ESC : ""}${PLAIN[name]}`;
  }
  if (Object.hasOwn(CURSOR, name)) {
    if (code > 1) return `${ESC}[1;${code}${CURSOR[name]}`;
    return `${ESC}${application ? "O" : "["}${CURSOR[name]}`;
  }
  if (Object.hasOwn(FUNCTION, name)) return code > 1 ? `${ESC}[1;${code}${FUNCTION[name]}` : `${ESC}O${FUNCTION[name]}`;
  if (Object.hasOwn(NUMBERED, name)) return `${ESC}[${NUMBERED[name]}${code > 1 ? `;${code}` : ""}~`;
  return undefined;
}

/** What a key sends while control is held. */
function controlled(name: string, word: string): string {
  if (name === "?") return "\x7f";
  const code = name.toUpperCase().charCodeAt(0);
  // @ A-Z [ \ ] ^ _
  if (code < 0x40 || code > 0x5f) throw unknown(word);
  return String.fromCharCode(code & 0x1f);
}

function unknown(word: string): PyroError {
  const near = nearest(word, NAMES);
  const guess = near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : "";
  const hint = `There are single characters, and ${NAMES.join(", ")}; C-, M- and S- go in front.`;
  return new PyroError("INVALID_INPUT", `There is no key ${word}.${guess}`, { hint, details: { keys: [...NAMES] } });
}
