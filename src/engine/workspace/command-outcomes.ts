// How many of a workspace's commands ended well, how many did not, and of how many that is not known. Each record is read
// once: of those that end later their end is noted.
import type { CommandHistory } from "./command-history.ts";
import type { CommandRecord } from "./command-record.ts";

type Outcome = "succeeded" | "failed" | "lost";
export type Outcomes = { readonly [O in Outcome]: number };

/** Records read at once. */
const AT_ONCE = 32;

export class CommandOutcomes {
  readonly #known = new Map<number, Outcome>();

  /** One is over. */
  note(record: CommandRecord): void {
    this.#known.set(record.sequence, outcomeOf(record));
  }

  /** Of all that have ended. */
  async of(history: CommandHistory): Promise<Outcomes> {
    const unknown = history.ended.filter((sequence) => !this.#known.has(sequence));
    while (unknown.length > 0) {
      const some = unknown.splice(0, AT_ONCE).map((sequence) => history.read(sequence));
      for (const record of await Promise.all(some)) this.note(record);
    }
    const counts = { succeeded: 0, failed: 0, lost: 0 };
    for (const outcome of this.#known.values()) counts[outcome]++;
    return counts;
  }
}

function outcomeOf({ end }: CommandRecord): Outcome {
  if (end === null) return "lost";
  return end.exitCode === 0 && !end.timedOut ? "succeeded" : "failed";
}
