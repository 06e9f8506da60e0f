// Reads what a runner with lines-reporter.ts prints: events, one a line, and whatever else it says.
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import type { TestEvent, TestEvents } from "./test-events.ts";

/** What is kept of the rest. */
const TOLD = 20_000;

export interface RunnerEnd {
  /** Tests that have ended. */
  readonly ended: number;
  /** Empty when the runner came to its end, whatever became of its tests; else why it did not, and what it said last. */
  readonly problem: string;
}

/** Gives the events to `events` until the runner's end. Its stdout and stderr must be pipes; `name` is told in a problem. */
export async function takeEventLines(runner: ChildProcess, name: string, events: TestEvents): Promise<RunnerEnd> {
  const exited = once(runner, "close");
  let said = "";
  const keep = (text: string) => {
    said = (said + text).slice(-TOLD);
  };
  runner.stderr?.on("data", (chunk: Buffer) => keep(chunk.toString("utf8")));
  let ended = 0;
  for await (const line of createInterface({ input: runner.stdout as NodeJS.ReadableStream })) {
    const event = parse(line);
    if (event === undefined) {
      keep(`${line}\n`);
      continue;
    }
    if (event.type === "test:pass" || event.type === "test:fail") ended++;
    events.take(event);
  }
  const [status] = (await exited) as [number | null];
  // 1 is node's own for a failed test, which was told.
  const whole = ended > 0 && (status === 0 || status === 1);
  const problem = whole ? "" : `${ended === 0 ? "no test was run; " : ""}${name} ended with ${status}\n${said}`;
  return { ended, problem };
}

function parse(line: string): TestEvent | undefined {
  try {
    const event: unknown = JSON.parse(line);
    return typeof Object(event).type === "string" ? (event as TestEvent) : undefined;
  } catch {
    return undefined;
  }
}
