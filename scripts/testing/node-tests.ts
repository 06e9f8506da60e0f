// Runs files of node:test, each in a process of its own, and reports each test by name.
import { relative } from "node:path";
import { run } from "node:test";
import { inspect } from "node:util";
import type { Tally } from "./tally.ts";

/** Longest time of one file, ms. */
const FILE_TIMEOUT_MS = 600_000;

export interface NodeTestOptions {
  /** Longest time of one file, ms; 10 minutes unless given. */
  readonly timeoutMs?: number;
  /** Shows what tests say of themselves: figures, and what each step of a random run did. */
  readonly diagnostics?: boolean;
}

export async function runNodeTests(
  root: string,
  files: readonly string[],
  concurrency: number,
  tally: Tally,
  options: NodeTestOptions = {},
): Promise<void> {
  if (files.length === 0) return;
  const stream = run({ files: [...files], concurrency, timeout: options.timeoutMs ?? FILE_TIMEOUT_MS, cwd: root });
  /** Names of the tests around the present one, by depth, for each file. */
  const around = new Map<string, string[]>();
  const printed = new Map<string, string>();
  for await (const event of stream) {
    if (event.type === "test:start") {
      const names = around.get(event.data.file ?? "") ?? [];
      names[event.data.nesting] = event.data.name;
      around.set(event.data.file ?? "", names.slice(0, event.data.nesting + 1));
    } else if (event.type === "test:stdout" || event.type === "test:stderr") {
      const earlier = printed.get(event.data.file) ?? "";
      printed.set(event.data.file, (earlier + event.data.message).slice(-20_000));
    } else if (event.type === "test:diagnostic") {
      // Those without a test are the runner's own counts.
      if (event.data.file !== undefined && options.diagnostics) console.log(`        ${event.data.message}`);
    } else if (event.type === "test:pass" || event.type === "test:fail") {
      const { data } = event;
      const file = data.file ? relative(root, data.file) : "";
      const outer = (around.get(data.file ?? "") ?? []).slice(0, data.nesting);
      // A file that fails before its first test is reported as a test that is called like it.
      const name = data.name === data.file ? file : `${file}: ${[...outer, data.name].join(" > ")}`;
      const durationMs = data.details.duration_ms;
      if (data.skip !== undefined || data.todo !== undefined) {
        const reason = data.skip ?? data.todo;
        if (data.details.type !== "suite") {
          tally.add({ status: "skipped", name, durationMs, text: typeof reason === "string" ? reason : "" });
        }
      } else if (event.type === "test:pass") {
        // A suite is its tests.
        if (data.details.type !== "suite") tally.add({ status: "passed", name, durationMs });
      } else if (!onlyPartsFailed(event.data.details.error)) {
        const said = printed.get(data.file ?? "");
        const text = `${explain(event.data.details.error)}${said ? `\n\nprinted by the file:\n${said}` : ""}`;
        tally.add({ status: "failed", name, durationMs, text });
      }
    }
  }
}

/** A suite or a test that failed only because a part of it did: the part is reported itself. */
function onlyPartsFailed(error: unknown): boolean {
  return (error as { failureType?: unknown }).failureType === "subtestsFailed";
}

function explain(error: unknown): string {
  const cause = (error as Error).cause ?? error;
  return typeof cause === "string" ? cause : inspect(cause, { depth: 8, breakLength: 120 });
}
