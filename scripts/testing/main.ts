// Runs all tests: Go, unit, command line, microVMs; then looks for anything they left behind. Ends with one line of
// counts over all of them. Arguments, if any, are parts of paths: only test files whose path has one are run, no Go.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, globSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runGoTests } from "./go-tests.ts";
import { leftovers, snapshot } from "./leftovers.ts";
import { runNodeTests } from "./node-tests.ts";
import { Tally } from "./tally.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const only = process.argv.slice(2);
const before = snapshot();

// Everything of the run below one short directory: sockets in it must fit into 107 bytes. Users of microVMs and apt's
// own user pass through it.
const scratch = mkdtempSync("/tmp/pt-");
chmodSync(scratch, 0o755);
const temporary = join(scratch, "tmp");
mkdirSync(temporary);
chmodSync(temporary, 0o1777);
process.env.TMPDIR = temporary;
process.env.PYRO_HOME ??= join(scratch, "home");
// Only what a test asks for itself.
// Idle microVMs would be taken for left ones; tests of the pool have homes of their own.
process.env.PYRO_POOL_SIZE = "0";
for (const name of ["PYRO_DRIVER", "PYRO_UNCONFINED", "PYRO_ENVIRONMENT", "PYRO_LOG", "NODE_OPTIONS"]) {
  delete process.env[name];
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    stopDaemon();
    rmSync(scratch, { recursive: true, force: true });
    process.exit(130);
  });
}

const tally = new Tally(join(root, "test", "expected-skips.txt"), Boolean(process.env.CI));
const groups: readonly (readonly [string, string, number])[] = [
  ["Unit tests", "test/unit/**/*.test.ts", 2],
  ["Command line tests", "test/cli/**/*.test.ts", 1],
  ["MicroVM tests", "test/vm/**/*.test.ts", 1],
];

if (only.length === 0) {
  console.log("Go tests");
  await runGoTests(root, tally);
}
const started = new Set<string>();
for (const [title, pattern, concurrency] of groups) {
  const files = select(pattern);
  for (const file of files) started.add(file);
  if (files.length > 0) console.log(title);
  await runNodeTests(root, files, concurrency, tally);
}
for (const file of select("test/**/*.test.ts")) {
  // A test that no group runs would rot unseen. The lab has a runner of its own.
  if (started.has(file) || file.startsWith(join(root, "test", "lab"))) continue;
  tally.add({
    status: "failed",
    name: file,
    durationMs: 0,
    text: "no group of scripts/testing/main.ts runs this file",
  });
}

console.log("Afterwards");
await checkLeftovers();
rmSync(scratch, { recursive: true, force: true });
process.exitCode = tally.finish() ? 0 : 1;

function select(pattern: string): string[] {
  const files = globSync(pattern, { cwd: root }).sort();
  return files
    .filter((file) => only.length === 0 || only.some((part) => file.includes(part)))
    .map((file) => join(root, file));
}

function stopDaemon(): string {
  if (!existsSync(join(root, "dist", "cli.js"))) return "";
  const stopped = spawnSync(process.execPath, [join(root, "bin", "pyro.js"), "daemon", "stop"], {
    timeout: 60_000,
    encoding: "utf8",
  });
  return stopped.status === 0 ? "" : `daemon stop: status ${stopped.status}\n${stopped.stdout}${stopped.stderr}`;
}

async function checkLeftovers(): Promise<void> {
  const begin = performance.now();
  const stopping = stopDaemon();
  let found = leftovers(before, scratch, temporary);
  // Programs that were told to end are given a moment to do it.
  for (let attempt = 0; found.length > 0 && attempt < 50; attempt++) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    found = leftovers(before, scratch, temporary);
  }
  const problems = [stopping, ...found].filter(Boolean);
  tally.add({
    status: problems.length === 0 ? "passed" : "failed",
    name: "no process, mount, socket or temporary file is left",
    durationMs: performance.now() - begin,
    text: problems.join("\n"),
  });
}
