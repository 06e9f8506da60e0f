// Which modes a program has set in the caller's terminal, so that they can be put back when it is left in the middle of it.

/** Private modes that a terminal has set when nobody has touched it: wrapping, and showing the cursor. */
const SET_AT_FIRST: ReadonlySet<string> = new Set(["7", "25"]);
/** Those of the full-screen programs' own screen: left first, as leaving it brings the cursor back. */
const ALTERNATE = ["1049", "1047", "47"];
const ESC = "\x1b";
const MODE = new RegExp(`${ESC}(?:\\[\\?([\\d;]*)([hl])|([=>])|c)`, "g");
/** Longest sequence that is looked for: what is cut is put together again. */
const LONGEST = 64;

export class TerminalModes {
  readonly #changed = new Set<string>();
  #keypad = false;
  #touched = false;
  #rest = "";

  /** Output that is written to the terminal, in order. */
  note(data: Uint8Array | string): void {
    const text = this.#rest + (typeof data === "string" ? data : Buffer.from(data).toString("latin1"));
    this.#touched = true;
    let end = 0;
    for (const { 0: whole, 1: modes, 2: how, 3: keypad, index } of text.matchAll(MODE)) {
      end = index + whole.length;
      if (keypad !== undefined) this.#keypad = keypad === "=";
      else if (modes === undefined) this.#changed.clear();
      else for (const mode of modes.split(";")) this.#set(mode, how === "h");
    }
    const at = text.lastIndexOf("\x1b");
    this.#rest = at >= end && text.length - at <= LONGEST ? text.slice(at) : "";
  }

  /** What puts the terminal back; empty when nothing was written to it. */
  get restore(): string {
    if (!this.#touched) return "";
    const left = ALTERNATE.filter((mode) => this.#changed.has(mode));
    const others = [...this.#changed].filter((mode) => !ALTERNATE.includes(mode));
    const back = [...left, ...others].map((mode) => `\x1b[?${mode}${SET_AT_FIRST.has(mode) ? "h" : "l"}`);
    // The scrolling region goes too; setting it moves the cursor, which is put where it was.
    return `${back.join("")}${this.#keypad ? "\x1b>" : ""}\x1b[0m\x1b7\x1b[r\x1b8`;
  }

  #set(mode: string, set: boolean): void {
    if (mode === "") return;
    if (set === SET_AT_FIRST.has(mode)) this.#changed.delete(mode);
    else this.#changed.add(mode);
  }
}
