// Failures that are given a second run before they count: kept back with what they said, and told with what became of them.
import { relative } from "node:path";
import type { Outcome, Tally } from "./tally.ts";

/** What is shown of a first failure. */
const TOLD = 4000;

export class OnceMore {
  readonly #tally: Tally;
  readonly #deserves: (failure: Outcome) => boolean;
  readonly #kept = new Map<string, Outcome>();

  /** `deserves` tells which failures are run again. */
  constructor(tally: Tally, deserves: (failure: Outcome) => boolean) {
    this.#tally = tally;
    this.#deserves = deserves;
  }

  /** An outcome of the first run. */
  first(outcome: Outcome): void {
    if (outcome.status === "failed" && this.#deserves(outcome)) this.#kept.set(outcome.name, outcome);
    else this.#tally.add(outcome);
  }

  /** The files to run again, of these; says which tests it is for, and how or why. */
  files(root: string, files: readonly string[], how: string): string[] {
    for (const { name, text = "" } of this.#kept.values()) {
      console.log(`  again ${name}: ${how}. It said:\n${text.slice(0, TOLD).replace(/^/gm, "        ")}`);
    }
    const names = [...this.#kept.keys()];
    return files.filter((file) => names.some((name) => name.split(":")[0] === relative(root, file)));
  }

  /** An outcome of the second run. What passed in the first has been told. */
  second(outcome: Outcome): void {
    if (this.#kept.delete(outcome.name) || outcome.status === "failed") this.#tally.add(outcome);
  }

  /** Tells those that the second run did not come to. */
  finish(): void {
    for (const outcome of this.#kept.values()) this.#tally.add(outcome);
  }
}
