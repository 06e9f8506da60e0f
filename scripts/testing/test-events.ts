// What node:test tells of its tests, made into outcomes: the names with all that is around them, and what a file printed
// beside a failure. The events come from a run in this process or, one a line, from another machine.
import { relative } from "node:path";
import { inspect } from "node:util";
import type { Outcome } from "./tally.ts";

/** What is used of an event of node:test; errors as text, for they may have travelled. */
export interface TestEvent {
  readonly type: string;
  readonly name?: string;
  readonly file?: string;
  readonly nesting?: number;
  readonly message?: string;
  readonly durationMs?: number;
  /** True where it is a suite, whose tests are told for themselves. */
  readonly suite?: boolean;
  /** Why it was skipped or is still to do; empty without a reason. */
  readonly skip?: string;
  readonly error?: string;
  /** A suite or a test that failed only because a part of it did: the part is reported itself. */
  readonly partsFailed?: boolean;
}

/** An event of node:test, as far as it is used here. */
interface NodeEvent {
  readonly type: string;
  readonly data: object;
}

export function fromNode(event: NodeEvent): TestEvent {
  const data = event.data as {
    name?: string;
    file?: string;
    nesting?: number;
    message?: string;
    skip?: unknown;
    todo?: unknown;
    details?: { duration_ms?: number; type?: string; error?: unknown };
  };
  const { name, file, nesting, message, details } = data;
  const reason = data.skip ?? data.todo;
  return {
    type: event.type,
    ...(name === undefined ? {} : { name }),
    ...(file === undefined ? {} : { file }),
    ...(nesting === undefined ? {} : { nesting }),
    ...(message === undefined ? {} : { message }),
    ...(details?.duration_ms === undefined ? {} : { durationMs: details.duration_ms }),
    ...(details?.type === "suite" ? { suite: true } : {}),
    ...(reason === undefined ? {} : { skip: typeof reason === "string" ? reason : "" }),
    ...(details?.error === undefined ? {} : { error: explain(details.error), partsFailed: onlyParts(details.error) }),
  };
}

/** Takes what became of a test. */
export interface Report {
  add(outcome: Outcome): void;
}

export interface TestEventsOptions {
  /** Shows what tests say of themselves: figures, and what each step of a random run did. */
  readonly diagnostics?: boolean;
}

export class TestEvents {
  readonly #root: string;
  readonly #report: Report;
  readonly #options: TestEventsOptions;
  /** Names of the tests around the present one, by depth, for each file. */
  readonly #around = new Map<string, string[]>();
  readonly #printed = new Map<string, string>();

  /** `root` is the checkout that the events' files lie in. */
  constructor(root: string, report: Report, options: TestEventsOptions = {}) {
    this.#root = root;
    this.#report = report;
    this.#options = options;
  }

  take(event: TestEvent): void {
    const { type, file = "", name = "", nesting = 0, message = "" } = event;
    if (type === "test:start") {
      const names = this.#around.get(file) ?? [];
      names[nesting] = name;
      this.#around.set(file, names.slice(0, nesting + 1));
    } else if (type === "test:stdout" || type === "test:stderr") {
      this.#printed.set(file, ((this.#printed.get(file) ?? "") + message).slice(-20_000));
    } else if (type === "test:diagnostic") {
      // Those without a test are the runner's own counts.
      if (file !== "" && this.#options.diagnostics) console.log(`        ${message}`);
    } else if (type === "test:pass" || type === "test:fail") {
      this.#end(event);
    }
  }

  #end({
    type,
    file = "",
    name: own = "",
    nesting = 0,
    durationMs = 0,
    suite,
    skip,
    error,
    partsFailed,
  }: TestEvent): void {
    const shown = file === "" ? "" : relative(this.#root, file);
    const outer = (this.#around.get(file) ?? []).slice(0, nesting);
    // A file that fails before its first test is reported as a test that is called like it.
    const name = own === file ? shown : `${shown}: ${[...outer, own].join(" > ")}`;
    if (skip !== undefined) {
      if (!suite) this.#report.add({ status: "skipped", name, durationMs, text: skip });
    } else if (type === "test:pass") {
      if (!suite) this.#report.add({ status: "passed", name, durationMs });
    } else if (!partsFailed) {
      const said = this.#printed.get(file);
      const text = `${error ?? ""}${said ? `\n\nprinted by the file:\n${said}` : ""}`;
      this.#report.add({ status: "failed", name, durationMs, text });
    }
  }
}

function onlyParts(error: unknown): boolean {
  return (error as { failureType?: unknown }).failureType === "subtestsFailed";
}

function explain(error: unknown): string {
  const cause = (error as Error).cause ?? error;
  return typeof cause === "string" ? cause : inspect(cause, { depth: 8, breakLength: 120 });
}
