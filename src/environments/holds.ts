// Which images are in use, so that none is removed under its user. In memory: whoever uses one across daemons keeps a
// record of its own and registers who reads it.

/** Tells the digests of the images that somebody uses, from records of its own. */
export type DigestsInUse = () => Promise<Iterable<string>>;

export class Holds {
  readonly #digests = new Map<string, number>();
  readonly #names = new Map<string, number>();
  readonly #users: DigestsInUse[] = [];
  #last: Promise<unknown> = Promise.resolve();

  /** Holds an image until the function that is returned is called, once or more often. */
  hold(digest: string): () => void {
    return count(this.#digests, digest);
  }

  /** Holds whatever image a name stands for, now and while it changes. */
  holdName(environment: string): () => void {
    return count(this.#names, environment);
  }

  register(users: DigestsInUse): void {
    this.#users.push(users);
  }

  isWanted(environment: string): boolean {
    return this.#names.has(environment);
  }

  /** Names that are being pulled or acquired. */
  wanted(): string[] {
    return [...this.#names.keys()];
  }

  /** All digests in use at this moment. */
  async inUse(): Promise<ReadonlySet<string>> {
    const used = new Set(this.#digests.keys());
    for (const users of this.#users) for (const digest of await users()) used.add(digest);
    // Those that were taken meanwhile.
    for (const digest of this.#digests.keys()) used.add(digest);
    return used;
  }

  /**
   * Does one thing at a time of those that make, find or remove images: nothing can come between finding an image and
   * holding it. For short things only.
   */
  async exclusively<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work);
    this.#last = mine.catch(() => {});
    return await mine;
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
