// The keys that leave a shell alone: found in what is typed, and never sent on.
import { PyroError } from "../errors/error.ts";
import { keyBytes } from "../operations/keys.ts";

export const DEFAULT_DETACH_KEY = "C-]";

export class DetachKey {
  /** As it is told to a person. */
  readonly name: string;
  readonly #bytes: Buffer;
  /** How much of it was typed so far. */
  #typed = 0;

  /** One key or several in a row: `C-]`, `C-p C-q`, `ctrl-p,ctrl-q`. Errors: INVALID_INPUT. */
  constructor(keys: string) {
    this.name = keys
      .replaceAll(/ctrl-/gi, "C-")
      .replaceAll(/(?<=.),(?=.)/g, " ")
      .trim();
    this.#bytes = keyBytes(this.name, false);
    if (this.#bytes.length === 0) throw new PyroError("INVALID_INPUT", "A detach key must not be empty.");
  }

  /** What of it is for the shell; with `detached` what follows is nobody's. */
  take(typed: Uint8Array): { readonly data: Uint8Array; readonly detached: boolean } {
    const out: number[] = [];
    for (const byte of typed) {
      // What looked like the key and is none is sent after all.
      while (this.#typed > 0 && byte !== this.#bytes[this.#typed]) out.push(...this.#giveBack());
      if (byte === this.#bytes[this.#typed]) this.#typed++;
      else out.push(byte);
      if (this.#typed === this.#bytes.length) return { data: Uint8Array.from(out), detached: true };
    }
    return { data: Uint8Array.from(out), detached: false };
  }

  /** The first byte that was held back; the longest part of the rest that may still be the key is held on. */
  #giveBack(): Uint8Array {
    const held = this.#bytes.subarray(0, this.#typed);
    for (let skip = 1; skip <= held.length; skip++) {
      if (!this.#bytes.subarray(0, held.length - skip).equals(held.subarray(skip))) continue;
      this.#typed = held.length - skip;
      return held.subarray(0, skip);
    }
    return new Uint8Array();
  }
}
