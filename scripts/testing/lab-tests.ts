// Runs files of node:test in the lab (scripts/lab), where KVM works and Firecracker is found, and reports each test by
// name like any other. What they need of the host's home, environments and kernels, is brought along.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join, relative } from "node:path";
import { createInterface } from "node:readline";
import type { Tally } from "./tally.ts";
import { type TestEvent, TestEvents, type TestEventsOptions } from "./test-events.ts";

/** Where the checkout and the home of the tests are in the outer guest. */
const CHECKOUT = "/pyro";
const HOME = "/home-of-tests";
/** Longest time of one file, and of all of them, s. Everything is some tens of times slower there. */
const FILE_SECONDS = 600;
const ALL_SECONDS = 1500;

export interface LabTestOptions extends TestEventsOptions {
  /** Longest time of a file and of all of them together, s. */
  readonly seconds?: number;
  /** Added to the environment of the tests. */
  readonly settings?: Readonly<Record<string, string>>;
}

const TOLD = 20_000;

/** `environments` is the directory of installed environments in the host's home: nothing can be built in there. */
export async function runLabTests(
  root: string,
  environments: string,
  files: readonly string[],
  tally: Tally,
  { seconds, settings = {}, ...options }: LabTestOptions = {},
): Promise<void> {
  if (files.length === 0) return;
  const events = new TestEvents(CHECKOUT, tally, options);
  const variables = { PYRO_HOME: HOME, PYRO_DRIVER: "firecracker", PYRO_POOL_SIZE: "0", ...settings };
  const words = [
    ...["--timeout", String(seconds ?? ALL_SECONDS), "--with", `${environments}:${HOME}/environments`, "--"],
    ...["env", ...Object.entries(variables).map(([name, value]) => `${name}=${value}`), "node", "--test"],
    ...["--test-concurrency=1", `--test-timeout=${(seconds ?? FILE_SECONDS) * 1000}`],
    "--test-reporter=./scripts/testing/lines-reporter.ts",
    ...files.map((file) => relative(root, file)),
  ];
  const lab = spawn(join(root, "scripts", "lab"), words, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(lab, "close");
  let said = "";
  const keep = (text: string) => {
    said = (said + text).slice(-TOLD);
  };
  lab.stderr.on("data", (chunk: Buffer) => keep(chunk.toString("utf8")));
  let ended = 0;
  for await (const line of createInterface({ input: lab.stdout })) {
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
  if (ended > 0 && (status === 0 || status === 1)) return;
  const text = `${ended === 0 ? "no test was run; " : ""}scripts/lab ended with ${status}\n${said}`;
  tally.add({ status: "failed", name: "the lab runs its tests to the end", durationMs: 0, text });
}

function parse(line: string): TestEvent | undefined {
  try {
    const event: unknown = JSON.parse(line);
    return typeof Object(event).type === "string" ? (event as TestEvent) : undefined;
  } catch {
    return undefined;
  }
}
