// Runs files of tests in lanes: side by side, each lane one file at a time and with a home of its own, so that no two
// files share a daemon. Tests of microVMs wait for most of their time, and not for the processor.
import { spawn } from "node:child_process";
import { join, relative } from "node:path";
import { takeEventLines } from "./event-lines.ts";
import { FILE_TIMEOUT_MS } from "./node-tests.ts";
import { OnceMore } from "./once-more.ts";
import type { Outcome, Tally } from "./tally.ts";
import { type Report, TestEvents } from "./test-events.ts";

/**
 * `homes`: a directory for each lane, its PYRO_HOME. Files are taken in order, by whichever lane is free. A test that failed
 * beside others is run once more with nothing beside it, and said to be: times of a machine that is full are no promise.
 */
export async function runInLanes(
  root: string,
  files: readonly string[],
  homes: readonly string[],
  tally: Tally,
): Promise<void> {
  const crowded = new OnceMore(tally, () => homes.length > 1);
  const waiting = [...files];
  // Whoever interrupts the run waits for what runs to end, and for no file more.
  for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => waiting.splice(0));
  const lane = async (home: string, add: (outcome: Outcome) => void) => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift())
      await runFile(root, file, home, { add });
  };
  await Promise.all(homes.map((home) => lane(home, (outcome) => crowded.first(outcome))));
  waiting.push(...crowded.files(root, files, "with nothing beside it"));
  await lane(homes[0] ?? "", (outcome) => crowded.second(outcome));
  crowded.finish();
}

async function runFile(root: string, file: string, home: string, report: Report): Promise<void> {
  const begin = performance.now();
  // A test that failed may have left something open, which must not keep the others waiting.
  const words = [
    ...["--test", "--test-force-exit", `--test-timeout=${FILE_TIMEOUT_MS}`],
    ...[`--test-reporter=${join(root, "scripts", "testing", "lines-reporter.ts")}`, file],
  ];
  const env = { ...process.env, PYRO_HOME: home };
  const node = spawn(process.execPath, words, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  const { problem } = await takeEventLines(node, "node", new TestEvents(root, report));
  if (problem === "") return;
  const durationMs = performance.now() - begin;
  report.add({ status: "failed", name: relative(root, file), durationMs, text: problem });
}
