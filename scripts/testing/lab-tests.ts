// Runs files of node:test in the lab (scripts/lab), where KVM works and Firecracker is found, and reports each test by
// name like any other. What they need of the host's home, environments and kernels, is brought along.
import { spawn } from "node:child_process";
import { join, relative } from "node:path";
import { takeEventLines } from "./event-lines.ts";
import type { Outcome, Tally } from "./tally.ts";
import { TestEvents, type TestEventsOptions } from "./test-events.ts";

/** Where the checkout and the home of the tests are in the outer guest. */
const CHECKOUT = "/pyro";
const HOME = "/home-of-tests";
/** Longest time of one file, and of all of them, s. Everything is some tens of times slower there. */
const FILE_SECONDS = 600;
const ALL_SECONDS = 2400;

export interface LabTestOptions extends TestEventsOptions {
  /** Longest time of a file and of all of them together, s. */
  readonly seconds?: number;
  /** Added to the environment of the tests. */
  readonly settings?: Readonly<Record<string, string>>;
}

/**
 * A microVM that reset itself without a word: the processor that its KVM runs on is emulated, and one restore in some tens
 * ends so under load, panic or not. A test that met it is run once more; one that fails by pyro's fault fails again.
 */
const RESET = /Firecracker exited with 0/;

/** `environments` is the directory of installed environments in the host's home: nothing can be built in there. */
export async function runLabTests(
  root: string,
  environments: string,
  files: readonly string[],
  tally: Tally,
  options: LabTestOptions = {},
): Promise<void> {
  const reset = new Map<string, Outcome>();
  await runOnce(root, environments, files, options, (outcome) => {
    if (outcome.status === "failed" && RESET.test(outcome.text ?? "")) reset.set(outcome.name, outcome);
    else tally.add(outcome);
  });
  if (reset.size === 0) return;
  console.log(`  again ${[...reset.keys()].join(", ")}: a microVM of the lab has reset itself`);
  const again = files.filter((file) => [...reset.keys()].some((name) => name.startsWith(`${relative(root, file)}: `)));
  await runOnce(root, environments, again, options, (outcome) => {
    if (reset.delete(outcome.name)) tally.add(outcome);
    // What passed before has been told.
    else if (outcome.status === "failed") tally.add(outcome);
  });
  for (const outcome of reset.values()) tally.add(outcome);
}

async function runOnce(
  root: string,
  environments: string,
  files: readonly string[],
  { seconds, settings = {}, ...options }: LabTestOptions,
  add: (outcome: Outcome) => void,
): Promise<void> {
  if (files.length === 0) return;
  const events = new TestEvents(CHECKOUT, { add }, options);
  const variables = { PYRO_HOME: HOME, PYRO_DRIVER: "firecracker", PYRO_POOL_SIZE: "0", ...settings };
  const words = [
    ...["--timeout", String(seconds ?? ALL_SECONDS), "--with", `${environments}:${HOME}/environments`, "--"],
    ...["env", ...Object.entries(variables).map(([name, value]) => `${name}=${value}`), "node", "--test"],
    ...["--test-concurrency=1", `--test-timeout=${(seconds ?? FILE_SECONDS) * 1000}`],
    "--test-reporter=./scripts/testing/lines-reporter.ts",
    ...files.map((file) => relative(root, file)),
  ];
  const lab = spawn(join(root, "scripts", "lab"), words, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const { problem } = await takeEventLines(lab, "scripts/lab", events);
  if (problem !== "") {
    add({ status: "failed", name: "the lab runs its tests to the end", durationMs: 0, text: problem });
  }
}
