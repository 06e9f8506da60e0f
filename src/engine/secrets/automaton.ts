// Finds many patterns in one pass (Aho and Corasick's automaton): a byte costs the same however many patterns there are and
// however long they are. Its table grows with the patterns' bytes, and takes about 20 bytes for each.

export interface Pattern {
  readonly bytes: Uint8Array;
  /** What whoever made the patterns knows it by. */
  readonly owner: number;
}

export class Automaton {
  /** The state behind each byte at the root: 0 where no pattern begins so. */
  readonly first = new Int32Array(256);
  /** Not 0 where a pattern begins with these two bytes, the first times 256 plus the second. */
  readonly pairs = new Uint8Array(65_536);
  /** How many bytes of a pattern have been seen, by state. */
  readonly depth: Int32Array;
  /** Whose pattern a state is the beginning of. */
  readonly owner: Int32Array;
  /** Length of the longest pattern that ends in a state, 0 for none. */
  readonly match: Int32Array;
  readonly #child: Int32Array;
  readonly #sibling: Int32Array;
  readonly #byte: Uint8Array;
  readonly #fail: Int32Array;
  #count = 1;

  constructor(patterns: readonly Pattern[]) {
    const most = patterns.reduce((sum, { bytes }) => sum + bytes.length, 1);
    this.depth = new Int32Array(most);
    this.owner = new Int32Array(most);
    this.match = new Int32Array(most);
    this.#child = new Int32Array(most);
    this.#sibling = new Int32Array(most);
    this.#byte = new Uint8Array(most);
    this.#fail = new Int32Array(most);
    for (const pattern of patterns) this.#add(pattern);
    this.#link();
  }

  /** The state behind a byte. */
  step(from: number, byte: number): number {
    for (let state = from; state !== 0; state = this.#fail[state] as number) {
      const next = this.#below(state, byte);
      if (next !== 0) return next;
    }
    return this.first[byte] as number;
  }

  /** The same state, or where no pattern goes on from there, the longest of its ends that one does. */
  settled(from: number): number {
    let state = from;
    while (state !== 0 && this.#child[state] === 0) state = this.#fail[state] as number;
    return state;
  }

  #below(state: number, byte: number): number {
    if (state === 0) return this.first[byte] as number;
    let child = this.#child[state] as number;
    while (child !== 0 && this.#byte[child] !== byte) child = this.#sibling[child] as number;
    return child;
  }

  #add({ bytes, owner }: Pattern): void {
    let state = 0;
    for (const byte of bytes) {
      let next = this.#below(state, byte);
      if (next === 0) {
        next = this.#count++;
        this.#byte[next] = byte;
        this.owner[next] = owner;
        this.depth[next] = (this.depth[state] as number) + 1;
        if (state === 0) this.first[byte] = next;
        else {
          this.#sibling[next] = this.#child[state] as number;
          this.#child[state] = next;
        }
      }
      state = next;
    }
    if (state === 0) return;
    this.pairs[((bytes[0] as number) << 8) | (bytes[1] ?? 0)] = 1;
    this.match[state] = bytes.length;
    this.owner[state] = owner;
  }

  /** From each state to the longest of its ends that is a beginning too, those near the root first. */
  #link(): void {
    const queue = new Int32Array(this.#count);
    let end = 0;
    for (const state of this.first) if (state !== 0) queue[end++] = state;
    for (let at = 0; at < end; at++) {
      const state = queue[at] as number;
      for (let child = this.#child[state] as number; child !== 0; child = this.#sibling[child] as number) {
        const fail = this.step(this.#fail[state] as number, this.#byte[child] as number);
        this.#fail[child] = fail;
        // A pattern that ends here is longer than any that ends there.
        if (this.match[child] === 0) this.match[child] = this.match[fail] as number;
        queue[end++] = child;
      }
    }
  }
}
