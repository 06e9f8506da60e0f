// Runs files of tests in lanes: side by side, each lane one file at a time and with a home of its own, so that no two
// files share a daemon. Tests of microVMs wait for most of their time, and not for the processor.
import { spawn } from "node:child_process";
import { join, relative } from "node:path";
import { takeEventLines } from "./event-lines.ts";
import { FILE_TIMEOUT_MS } from "./node-tests.ts";
import type { Tally } from "./tally.ts";
import { TestEvents } from "./test-events.ts";

/** `homes`: a directory for each lane, its PYRO_HOME. Files are taken in order, by whichever lane is free. */
export async function runInLanes(
  root: string,
  files: readonly string[],
  homes: readonly string[],
  tally: Tally,
): Promise<void> {
  const waiting = [...files];
  // Whoever interrupts the run waits for what runs to end, and for no file more.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => waiting.splice(0));
  const lane = async (home: string) => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) await runFile(root, file, home, tally);
  };
  await Promise.all(homes.map(lane));
}

async function runFile(root: string, file: string, home: string, tally: Tally): Promise<void> {
  const begin = performance.now();
  // A test that failed may have left something open, which must not keep the others waiting.
  const words = [
    ...["--test", "--test-force-exit", `--test-timeout=${FILE_TIMEOUT_MS}`],
    ...[`--test-reporter=${join(root, "scripts", "testing", "lines-reporter.ts")}`, file],
  ];
  const env = { ...process.env, PYRO_HOME: home };
  const node = spawn(process.execPath, words, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  const { problem } = await takeEventLines(node, "node", new TestEvents(root, tally));
  if (problem === "") return;
  const durationMs = performance.now() - begin;
  tally.add({ status: "failed", name: relative(root, file), durationMs, text: problem });
}
