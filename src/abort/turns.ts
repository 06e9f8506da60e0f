// One thing at a time, in the order in which it was asked for.

export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** Does the work when all before it is over, however that ended. */
  async take<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.#last.then(work, work);
    this.#last = mine.catch(() => {});
    return await mine;
  }
}
