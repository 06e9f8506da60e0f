// What the terminal of one shell shows: made of the shell's output when somebody looks, and from where it was left the next
// time. The output is the truth; this can be lost and made again.
import { Turns } from "../../abort/turns.ts";
import { PyroError } from "../../errors/error.ts";
import type { Spool } from "../spool.ts";
import type { Screen, Size } from "./emulator.ts";
import type { Terminals } from "./terminals.ts";

/** Output is handed over this much at a time, bytes. */
const PIECE_BYTES = 256 << 10;

/** From which cursor on a terminal has had which size. */
export interface Sized extends Size {
  readonly at: bigint;
}

/** The output of a shell, and the sizes its terminal has had, in order and with one at least. */
export interface Shown {
  readonly spool: Spool;
  readonly sizes: readonly [Sized, ...Sized[]];
}

/** How many there were: each has a terminal of its own. */
let views = 0;

export class View {
  readonly #terminals: Terminals;
  readonly #key = String(++views);
  readonly #turns = new Turns();
  #cursor = 0n;
  /** The one that it has. */
  #size: Sized | undefined;

  constructor(terminals: Terminals) {
    this.#terminals = terminals;
  }

  /** What is shown behind a cursor, which is as far as the output goes. Errors: SHELL_NOT_RENDERED, the signal's reason. */
  async screen(shown: Shown, signal: AbortSignal): Promise<{ cursor: bigint; screen: Screen }> {
    return await this.#upToDate(shown, signal, async (cursor) => {
      return { cursor, screen: await this.#terminals.screen(this.#key) };
    });
  }

  /** What makes another terminal show the same as this one, at a cursor. Errors: those of `screen`. */
  async redraw(shown: Shown, signal: AbortSignal): Promise<{ cursor: bigint; text: string }> {
    return await this.#upToDate(shown, signal, async (cursor) => {
      return { cursor, text: await this.#terminals.redraw(this.#key) };
    });
  }

  async drop(): Promise<void> {
    await this.#terminals.drop(this.#key);
  }

  async #upToDate<T>(shown: Shown, signal: AbortSignal, look: (cursor: bigint) => Promise<T>): Promise<T> {
    return await this.#turns.take(async () => {
      for (let turn = 0; ; turn++) {
        try {
          await this.#catchUp(shown, signal);
          return await look(this.#cursor);
        } catch (error) {
          // It may have had a part of what is counted.
          await this.drop();
          // Another's terminal may have ended the thread that this one was in: once more from the beginning.
          const gone = error instanceof PyroError && error.code === "SHELL_NOT_RENDERED";
          if (!gone || turn > 0) throw error;
        }
      }
    });
  }

  async #catchUp({ spool, sizes }: Shown, signal: AbortSignal): Promise<void> {
    if (!this.#terminals.has(this.#key)) await this.#begin(spool.start, sizes);
    let piece: Buffer[] = [];
    let bytes = 0;
    const hand = async () => {
      if (bytes > 0) await this.#terminals.feed(this.#key, Buffer.concat(piece, bytes));
      piece = [];
      bytes = 0;
    };
    const sizeAt = async (cursor: bigint) => {
      const size = sizeOf(sizes, cursor);
      if (size === this.#size) return;
      await hand();
      await this.#terminals.resize(this.#key, size);
      this.#size = size;
    };
    const upTo = spool.end;
    for await (const chunk of spool.read(this.#cursor, false, signal)) {
      await sizeAt(chunk.cursor);
      piece.push(chunk.data);
      bytes += chunk.data.length;
      if (bytes >= PIECE_BYTES) await hand();
      this.#cursor = chunk.next;
      if (this.#cursor >= upTo) break;
    }
    await sizeAt(this.#cursor);
    await hand();
  }

  async #begin(cursor: bigint, sizes: Shown["sizes"]): Promise<void> {
    const size = sizeOf(sizes, cursor);
    await this.#terminals.open(this.#key, size);
    this.#cursor = cursor;
    this.#size = size;
  }
}

/** The size it had at a cursor: the last one before, or the first that is known. */
export function sizeOf(sizes: Shown["sizes"], cursor: bigint): Sized {
  return sizes.findLast(({ at }) => at <= cursor) ?? sizes[0];
}
