// Which images are in use, so that none is removed under its user. In memory: whoever uses one across daemons keeps a
// record of its own, and holds it again before anything is removed.
import { Turns } from "../abort/turns.ts";

export class Holds {
  readonly #digests = new Map<string, number>();
  readonly #names = new Map<string, number>();
  readonly #turns = new Turns();

  /** Holds an image until the function that is returned is called, once or more often. */
  hold(digest: string): () => void {
    return count(this.#digests, digest);
  }

  /** Holds whatever image a name stands for, now and while it changes. */
  holdName(environment: string): () => void {
    return count(this.#names, environment);
  }

  isHeld(digest: string): boolean {
    return this.#digests.has(digest);
  }

  isWanted(environment: string): boolean {
    return this.#names.has(environment);
  }

  /** Names that are being pulled or acquired. */
  wanted(): string[] {
    return [...this.#names.keys()];
  }

  /**
   * Does one thing at a time of those that make, find or remove images: nothing can come between finding an image and
   * holding it. For short things only.
   */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    return await this.#turns.take(work);
  }
}

function count(counts: Map<string, number>, key: string): () => void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
  let held = true;
  return () => {
    if (!held) return;
    held = false;
    const left = (counts.get(key) ?? 1) - 1;
    if (left > 0) counts.set(key, left);
    else counts.delete(key);
  };
}
