// Runs files of node:test in the lab (scripts/lab), where KVM works and Firecracker is found, and reports each test by
// name like any other. What they need of the host's home, environments and kernels, is brought along.
import { spawn } from "node:child_process";
import { join, relative } from "node:path";
import { takeEventLines } from "./event-lines.ts";
import { OnceMore } from "./once-more.ts";
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
  const resets = new OnceMore(tally, ({ text = "" }) => RESET.test(text));
  await runOnce(root, environments, files, options, (outcome) => resets.first(outcome));
  const again = resets.files(root, files, "a microVM of the lab has reset itself");
  await runOnce(root, environments, again, options, (outcome) => resets.second(outcome));
  resets.finish();
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
