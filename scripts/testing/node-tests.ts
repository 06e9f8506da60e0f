// Runs files of node:test, each in a process of its own, and reports each test by name.
import { run } from "node:test";
import type { Tally } from "./tally.ts";
import { fromNode, TestEvents, type TestEventsOptions } from "./test-events.ts";

/** Longest time of one file, ms. */
export const FILE_TIMEOUT_MS = 600_000;

export interface NodeTestOptions extends TestEventsOptions {
  /** Longest time of one file, ms; 10 minutes unless given. */
  readonly timeoutMs?: number;
}

export async function runNodeTests(
  root: string,
  files: readonly string[],
  concurrency: number,
  tally: Tally,
  options: NodeTestOptions = {},
): Promise<void> {
  if (files.length === 0) return;
  const events = new TestEvents(root, tally, options);
  const stream = run({ files: [...files], concurrency, timeout: options.timeoutMs ?? FILE_TIMEOUT_MS, cwd: root });
  for await (const event of stream) events.take(fromNode(event));
}
