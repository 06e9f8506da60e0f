// A piece of a terminal's output as the text that a person would have seen: escape sequences are gone, what was overwritten
// or erased is too, and lines that were only wrapped are whole.
import type { IBuffer, IMarker } from "@xterm/headless";
import { Emulator, type Size } from "./emulator.ts";

/** Output is shown this much at a time, bytes, and the lines that have left the screen are taken in between. */
const STEP_BYTES = 2048;
/** Lines above the screen: more than a step of ordinary output scrolls. */
const SCROLLBACK = 2 * STEP_BYTES;
/** Most text of one piece, characters: a few bytes can print a whole row. */
const MOST_CHARACTERS = 8 << 20;

/** Stops at `MOST_CHARACTERS`. */
export async function plainText(data: Uint8Array, { cols, rows }: Size): Promise<string> {
  const emulator = new Emulator({ cols, rows }, SCROLLBACK);
  try {
    const taken = new Lines();
    const { terminal } = emulator;
    let mark: IMarker | undefined;
    for (let at = 0; at < data.length && taken.length < MOST_CHARACTERS; at += STEP_BYTES) {
      await emulator.feed(data.subarray(at, at + STEP_BYTES));
      const { active, normal } = terminal.buffer;
      // Only the ordinary screen scrolls; markers are made in the one that is shown.
      if (active.type === "alternate") continue;
      // A marker goes with its line; one whose line was dropped had all of it scroll by at once.
      const from = mark === undefined || mark.line < 0 ? 0 : mark.line;
      taken.take(normal, from, normal.baseY);
      mark?.dispose();
      mark = terminal.registerMarker(-normal.cursorY);
    }
    const { active, normal } = terminal.buffer;
    const from = mark === undefined || mark.line < 0 ? 0 : mark.line;
    taken.take(normal, from, normal.length);
    if (active.type !== "alternate") return taken.text + (endsLine(normal) ? "\n" : "");
    taken.end();
    taken.take(active, 0, active.length);
    return taken.text;
  } finally {
    emulator.dispose();
  }
}

class Lines {
  readonly #lines: string[] = [];
  #open = false;
  length = 0;

  take(buffer: IBuffer, from: number, to: number): void {
    for (let row = from; row < to; row++) {
      const line = buffer.getLine(row);
      if (line === undefined) return;
      const text = line.translateToString(true);
      this.length += text.length + 1;
      if (line.isWrapped && this.#open) this.#lines[this.#lines.length - 1] += text;
      else this.#lines.push(text);
      this.#open = true;
    }
  }

  /** What follows begins a line of its own. */
  end(): void {
    while (this.#lines.at(-1) === "") this.#lines.pop();
    this.#open = false;
  }

  /** Without empty lines at its end. */
  get text(): string {
    while (this.#lines.at(-1) === "") this.#lines.pop();
    return this.#lines.join("\n");
  }
}

/** The cursor is where another line begins: what was printed ended with a newline. */
function endsLine(buffer: IBuffer): boolean {
  const row = buffer.baseY + buffer.cursorY;
  return buffer.cursorX === 0 && row > 0 && buffer.getLine(row)?.translateToString(true) === "";
}
