// Random numbers with a seed, so that what a test found can be had again: the seed is printed, PYRO_SEED repeats it.
import { randomInt } from "node:crypto";

export class Seeded {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#state = seed >>> 0;
  }

  /** The seed that PYRO_SEED names, else a fresh one. */
  static fromEnvironment(): Seeded {
    return new Seeded(Number(process.env.PYRO_SEED || randomInt(2 ** 31)));
  }

  /** At least 0, less than 1. */
  next(): number {
    // mulberry32: unlike a linear congruence its low bits are as good as its high ones.
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number of at least 0, below the limit. */
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }

  chance(probability: number): boolean {
    return this.next() < probability;
  }

  pick<T>(list: readonly T[]): T {
    const picked = list[this.below(list.length)];
    if (picked === undefined) throw new Error("nothing to pick from");
    return picked;
  }

  bytes(length: number): Buffer {
    return Buffer.from(Array.from({ length }, () => this.below(256)));
  }
}

/** A count that a longer run than the usual one raises by a variable. */
export function countFrom(variable: string, usual: number): number {
  const text = process.env[variable];
  if (text === undefined || text === "") return usual;
  const count = Number(text);
  if (!Number.isInteger(count) || count < 0) throw new Error(`${variable} is ${text}; it takes a whole number`);
  return count;
}
