// What the runners report to: counts, shows each test as it ends and keeps failures for the end.
import { readFileSync } from "node:fs";

export interface Outcome {
  readonly status: "passed" | "failed" | "skipped";
  /** Where it is and its full name, for example "test/unit/x.test.ts: a > b". */
  readonly name: string;
  readonly durationMs: number;
  /** Why it was skipped, or everything known of a failure. */
  readonly text?: string;
}

export class Tally {
  readonly #expected: ReadonlySet<string>;
  readonly #strict: boolean;
  readonly #failures: Outcome[] = [];
  readonly #skips: Outcome[] = [];
  #passed = 0;

  /** `strict`: a skip that the file does not name is a failure. */
  constructor(expectedSkips: string, strict: boolean) {
    this.#expected = new Set(readExpected(expectedSkips));
    this.#strict = strict;
  }

  add(outcome: Outcome): void {
    const time = outcome.durationMs >= 1000 ? ` (${(outcome.durationMs / 1000).toFixed(1)} s)` : "";
    if (outcome.status === "passed") {
      this.#passed++;
      console.log(`  ok    ${outcome.name}${time}`);
    } else if (outcome.status === "skipped") {
      this.#skip(outcome);
    } else {
      this.#failures.push(outcome);
      // Why it failed stands at the end, with the others.
      console.log(`  FAIL  ${outcome.name}${time}`);
    }
  }

  #skip(outcome: Outcome): void {
    const reason = outcome.text || "no reason given";
    if (this.#strict && !this.#expected.has(outcome.name)) {
      this.add({ ...outcome, status: "failed", text: `skipped (${reason}), and not named in test/expected-skips.txt` });
      return;
    }
    this.#skips.push(outcome);
    console.log(`  skip  ${outcome.name}: ${reason}`);
  }

  /** Shows failures again, all together, and the one line that sums up. True when nothing failed. */
  finish(): boolean {
    if (this.#failures.length > 0) console.log("\nFailures, in full:");
    for (const failure of this.#failures) console.log(`\n  ${failure.name}\n${indent(failure.text ?? "")}`);
    if (this.#skips.length > 0) console.log("\nSkipped:");
    for (const skip of this.#skips) console.log(`  ${skip.name}: ${skip.text || "no reason given"}`);
    console.log(`\n${this.#passed} passed, ${this.#failures.length} failed, ${this.#skips.length} skipped`);
    return this.#failures.length === 0 && this.#passed > 0;
  }
}

/** One name a line, as the runner prints it; `#` begins a comment. */
function readExpected(path: string): string[] {
  try {
    return readFileSync(path, "utf8")
      .split("\n")
      .map((line) => line.replace(/\s+#.*|^#.*/, "").trim())
      .filter(Boolean);
  } catch {
    return [];
  }
}

function indent(text: string): string {
  return text.replace(/^/gm, "        ").trimEnd();
}
