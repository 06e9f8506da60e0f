// One terminal as a program's output makes it: a terminal library around bytes of a guest, with what such bytes could do
// to the library held in check, and the modes remembered that it does not tell of.
import { SerializeAddon } from "@xterm/addon-serialize";
import type { Terminal } from "@xterm/headless";
import * as headless from "@xterm/headless";

// A CommonJS bundle: Node finds its exports behind `default`, a bundler by their names.
const library = (headless as unknown as { readonly default?: typeof headless }).default ?? headless;

/** Sequences that the library carries out as often as their number says, one by one. */
const REPEATED = ["b", "I", "L", "M", "S", "T", "Z"] as const;
/** More than any terminal has rows or columns: a number above this means only to keep us busy. */
const MOST_TIMES = 5000;

/** Private modes that differ from a fresh terminal's and that serializing leaves out. */
const MODES_SET = [12, 1005, 1006, 1015, 1016] as const;
const CURSOR_HIDDEN = "\x1b[?25l";
const ALTERNATE = "\x1b[?1049h";
const CURSOR_MODE = 25;

export interface Size {
  readonly cols: number;
  readonly rows: number;
}

export interface Screen {
  /** From the top, without the empty ones at the end. */
  readonly lines: readonly string[];
  /** Of the cursor, from 1. */
  readonly row: number;
  readonly column: number;
  readonly alternate: boolean;
  readonly applicationCursor: boolean;
}

export class Emulator {
  readonly terminal: Terminal;
  readonly #serializer = new SerializeAddon();
  readonly #set = new Set<number>();
  #cursorHidden = false;

  /** `scrollback`: lines kept above the screen. */
  constructor({ cols, rows }: Size, scrollback: number) {
    this.terminal = new library.Terminal({ cols, rows, scrollback, allowProposedApi: true });
    this.terminal.loadAddon(this.#serializer);
    const { parser } = this.terminal;
    for (const final of REPEATED) {
      // Handled: it is not carried out at all.
      parser.registerCsiHandler({ final }, (params) => params.some((param) => Number(param) > MOST_TIMES));
    }
    for (const final of ["h", "l"] as const) {
      parser.registerCsiHandler({ prefix: "?", final }, (params) => {
        for (const param of params) this.#note(Number(param), final === "h");
        return false;
      });
    }
    // Both put all modes back: RIS, and DECSTR for the cursor.
    parser.registerEscHandler({ final: "c" }, () => this.#forget());
    parser.registerCsiHandler({ intermediates: "!", final: "p" }, () => this.#forget());
  }

  /** Resolves when the screen is as these bytes leave it. */
  async feed(data: Uint8Array | string): Promise<void> {
    await new Promise<void>((resolve) => this.terminal.write(data, resolve));
  }

  resize({ cols, rows }: Size): void {
    this.terminal.resize(cols, rows);
  }

  get screen(): Screen {
    const { buffer, modes, rows } = this.terminal;
    const { active } = buffer;
    const lines: string[] = [];
    for (let row = 0; row < rows; row++) lines.push(active.getLine(active.baseY + row)?.translateToString(true) ?? "");
    while (lines.at(-1) === "") lines.pop();
    return {
      lines,
      row: active.cursorY + 1,
      column: Math.min(active.cursorX, this.terminal.cols - 1) + 1,
      alternate: active.type === "alternate",
      applicationCursor: modes.applicationCursorKeysMode,
    };
  }

  /** What makes a terminal of the same size, cleared and with the cursor at the top, show the same. */
  get redraw(): string {
    const modes = [...this.#set].map((mode) => `\x1b[?${mode}h`).join("");
    // The colours of the ordinary screen would go on into the other one.
    const shown = this.#serializer.serialize({ scrollback: 0 }).replace(ALTERNATE, `${ALTERNATE}\x1b[0m`);
    return shown + modes + (this.#cursorHidden ? CURSOR_HIDDEN : "");
  }

  dispose(): void {
    this.terminal.dispose();
  }

  #note(mode: number, set: boolean): void {
    if (mode === CURSOR_MODE) this.#cursorHidden = !set;
    if (!(MODES_SET as readonly number[]).includes(mode)) return;
    if (set) this.#set.add(mode);
    else this.#set.delete(mode);
  }

  #forget(): boolean {
    this.#set.clear();
    this.#cursorHidden = false;
    return false;
  }
}
