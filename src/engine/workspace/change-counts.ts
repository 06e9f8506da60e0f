// The changes of a workspace in numbers: how many of each kind, and in which of its directories. Names are counted, not kept.
import type { ChangeEntry, ChangesSink } from "./changes.ts";

/** Most directories that are told apart: their names are a guest's. */
const MOST_DIRECTORIES = 10_000;

export class ChangeCounts implements ChangesSink {
  readonly counts = { total: 0, added: 0, modified: 0, deleted: 0, type_changed: 0, insertions: 0, deletions: 0 };
  readonly #directories = new Map<string, number>();
  /** Those beyond what is told apart. */
  #others = 0;

  async change({ path, status, insertions, deletions }: ChangeEntry): Promise<void> {
    this.counts.total++;
    this.counts[status]++;
    this.counts.insertions += insertions;
    this.counts.deletions += deletions;
    const slash = path.indexOf("/");
    const directory = slash < 0 ? "." : path.slice(0, slash);
    const known = this.#directories.get(directory);
    if (known !== undefined || this.#directories.size < MOST_DIRECTORIES) {
      this.#directories.set(directory, (known ?? 0) + 1);
    } else this.#others++;
  }

  async patch(): Promise<void> {}

  /** The most first, of as many by name. */
  get directories(): { path: string; total: number }[] {
    const found = [...this.#directories].map(([path, total]) => ({ path, total }));
    return found.sort((a, b) => b.total - a.total || (a.path < b.path ? -1 : 1));
  }

  /** How many directories there are that are not in `directories`, at most. */
  get untold(): number {
    return this.#others;
  }
}
