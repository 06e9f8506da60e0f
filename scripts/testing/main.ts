// Runs all tests: Go, unit, command line, microVMs, and those in the lab; then looks for anything they left behind. Ends with one line of
// counts over all of them. Arguments, if any, are parts of paths: only test files whose path has one are run, no Go.
import { globSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { fuzzGo, goFuzzTargets } from "./fuzz-go.ts";
import { runGoTests } from "./go-tests.ts";
import { runLabTests } from "./lab-tests.ts";
import { runInLanes } from "./lanes.ts";
import { runNodeTests } from "./node-tests.ts";
import { Scratch } from "./scratch.ts";
import { Tally } from "./tally.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const only = process.argv.slice(2);
const scratch = new Scratch(root);
const tally = new Tally(join(root, "test", "expected-skips.txt"), Boolean(process.env.CI));
const groups: readonly (readonly [string, string, number])[] = [
  ["Unit tests", "test/unit/**/*.test.ts", 2],
  ["Command line tests", "test/cli/**/*.test.ts", 1],
];
/** What reads a stranger's bytes on this host is fuzzed for a while each time; `make soak` goes on with all targets. */
const FUZZED = ["netd", "sniff", "link", "broker", "redact"].map((name) => `go/internal/${name}`);
const FUZZ_SECONDS = 10;
/** Of microVM tests at a time. */
const LANES = 2;

if (only.length === 0) {
  console.log("Go tests");
  await runGoTests(root, tally);
  console.log("Fuzzing");
  for (const target of await goFuzzTargets(root)) {
    if (FUZZED.some((path) => target.package.endsWith(path))) await fuzzGo(root, target, FUZZ_SECONDS, tally);
  }
}
const started = new Set<string>();
for (const [title, pattern, concurrency] of groups) {
  const files = select(pattern);
  for (const file of files) started.add(file);
  if (files.length > 0) console.log(title);
  await runNodeTests(root, files, concurrency, tally);
}
// Those below it, test/vm/long, are for `make soak`.
const vmFiles = select("test/vm/*.test.ts");
for (const file of vmFiles) started.add(file);
if (vmFiles.length > 0) {
  console.log("MicroVM tests");
  await runInLanes(root, vmFiles, scratch.homes(Math.min(LANES, vmFiles.length)), tally);
}
// Those below it, test/lab/long, are for `make soak`: everything is some tens of times slower there.
const labFiles = select("test/lab/*.test.ts");
if (labFiles.length > 0) {
  console.log("Tests in the lab, on Firecracker");
  await runLabTests(root, scratch.environments(), labFiles, tally);
}
for (const file of labFiles) started.add(file);
for (const file of select("test/{lab,vm}/long/**/*.test.ts")) started.add(file);
for (const file of select("test/**/*.test.ts")) {
  // A test that no group runs would rot unseen.
  if (started.has(file)) continue;
  tally.add({
    status: "failed",
    name: file,
    durationMs: 0,
    text: "no group of scripts/testing/main.ts runs this file",
  });
}

console.log("Afterwards");
await scratch.check(tally);
scratch.close();
process.exitCode = tally.finish() ? 0 : 1;

function select(pattern: string): string[] {
  const files = globSync(pattern, { cwd: root }).sort();
  return files
    .filter((file) => only.length === 0 || only.some((part) => file.includes(part)))
    .map((file) => join(root, file));
}
