// Long runs of what `make test` does in small: random kills, leaks, dropped links, fuzzing. Each part is cut into slices,
// and the parts take turns. Without SOAK_MINUTES each part runs to its full count; with it they go on in turns until the
// time is over, and no slice begins after it. Arguments name the parts to run. PYRO_SEED repeats a run's random choices.
import { globSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Seeded } from "../../test/seed.ts";
import { type FuzzTarget, fuzzGo, goFuzzTargets } from "./fuzz-go.ts";
import { runLabTests } from "./lab-tests.ts";
import { runNodeTests } from "./node-tests.ts";
import { comparePatches } from "./patches.ts";
import { Scratch } from "./scratch.ts";
import { Tally } from "./tally.ts";

interface Part {
  readonly name: string;
  readonly slices: number;
  readonly slice: (index: number) => Promise<void>;
}

/** A slice that takes longer hangs, ms. */
const SLICE_MS = 3 * 3_600_000;
/** Workspaces made and deleted in the lab, on Firecracker; a slice has its own time there, s. */
const LAB_CYCLES = 200;
const LAB_SECONDS = 3 * 3600;
/** Pairs of released packages whose patches are compared with git's. */
const PATCH_PAIRS = 200;
const KILLS_PER_SLICE = { run: 16, pull: 4, workspace: 10, lifecycle: 20 };
/** Snapshots under heavy writing in a slice. */
const SNAPSHOT_ROUNDS = 10;

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const minutes = minutesFrom(process.env.SOAK_MINUTES);
/** Of each target at a time; less where the time is short, so that every part has a turn. */
const fuzzSeconds = Math.ceil(Math.min(60, 2 * minutes));
const wanted = process.argv.slice(2);
const random = Seeded.fromEnvironment();
const tally = new Tally(join(root, "test", "expected-skips.txt"), false);
const targets: readonly FuzzTarget[] = await goFuzzTargets(root);

/** Runs test files with counts of their own; what they say of themselves is shown. */
async function tests(files: readonly string[], counts: Readonly<Record<string, number>>): Promise<void> {
  for (const [name, count] of Object.entries(counts)) process.env[name] = String(count);
  const paths = files.map((file) => join(root, file));
  await runNodeTests(root, paths, 1, tally, { timeoutMs: SLICE_MS, diagnostics: true });
}

const PARTS: readonly Part[] = [
  {
    name: "kills",
    slices: 10,
    slice: () =>
      tests(["test/vm/kills.test.ts"], { PYRO_RUN_KILLS: KILLS_PER_SLICE.run, PYRO_PULL_KILLS: KILLS_PER_SLICE.pull }),
  },
  {
    name: "workspace-kills",
    slices: 10,
    slice: () => tests(["test/vm/workspace-kills.test.ts"], { PYRO_WORKSPACE_KILLS: KILLS_PER_SLICE.workspace }),
  },
  {
    name: "lifecycle-kills",
    slices: 5,
    slice: () => tests(["test/vm/lifecycle-kills.test.ts"], { PYRO_LIFECYCLE_KILLS: KILLS_PER_SLICE.lifecycle }),
  },
  {
    name: "snapshots",
    slices: 2,
    slice: () => tests(["test/vm/snapshots.test.ts"], { PYRO_SNAPSHOT_ROUNDS: SNAPSHOT_ROUNDS }),
  },
  {
    name: "leaks",
    slices: 1,
    // As many runs in a row as there is time for, where the time is short.
    slice: () =>
      tests(["test/vm/leaks.test.ts"], {
        PYRO_LEAK_RUNS: Math.ceil(Math.min(500, 10 * minutes)),
        PYRO_LEAK_AT_ONCE: 20,
      }),
  },
  {
    name: "network",
    slices: 1,
    slice: () =>
      tests(["test/vm/network.test.ts"], { PYRO_NETWORK_CONNECTIONS: 1000, PYRO_NETWORK_DOWNLOAD_MIB: 1024 }),
  },
  { name: "drops", slices: 5, slice: () => tests(["test/vm/link.test.ts"], { PYRO_LINK_DROPS: 2000 }) },
  {
    name: "fuzz-ts",
    slices: 2,
    slice: () =>
      tests(["test/unit/fuzz/guest-link.test.ts", "test/unit/fuzz/host.test.ts", "test/unit/fuzz/secrets.test.ts"], {
        PYRO_FUZZ_SECONDS: fuzzSeconds,
      }),
  },
  {
    name: "lab",
    slices: 1,
    slice: () => {
      const files = [...globSync("test/lab/long/*.test.ts", { cwd: root }).sort(), "test/lab/cycles.test.ts"];
      const settings = { PYRO_LAB_CYCLES: String(LAB_CYCLES) };
      const how = { diagnostics: true, seconds: LAB_SECONDS, settings };
      return runLabTests(
        root,
        scratch.environments(),
        files.map((file) => join(root, file)),
        tally,
        how,
      );
    },
  },
  {
    name: "disks",
    slices: 1,
    slice: () => tests(["test/vm/disks.test.ts", "test/vm/long/disk-faults.test.ts"], { PYRO_DISK_ROUNDS: 40 }),
  },
  { name: "inspector", slices: 1, slice: () => tests(["test/vm/long/inspector.test.ts"], {}) },
  { name: "patches", slices: 1, slice: () => comparePatches(root, PATCH_PAIRS, tally) },
  {
    name: "fuzz-go",
    slices: targets.length,
    slice: async (index) => {
      const target = targets[index % targets.length];
      if (target !== undefined) await fuzzGo(root, target, fuzzSeconds, tally);
    },
  },
];

const parts = PARTS.filter(({ name }) => wanted.length === 0 || wanted.includes(name));
const unknown = wanted.filter((name) => !PARTS.some((part) => part.name === name));
if (unknown.length > 0) {
  console.error(`soak: there is no part ${unknown.join(", ")}; there are ${PARTS.map(({ name }) => name).join(", ")}`);
  process.exit(2);
}

console.log(`PYRO_SEED=${random.seed}${Number.isFinite(minutes) ? `, ${minutes} minutes` : ""}`);
const scratch = new Scratch(root);
const begun = performance.now();
const minutesPassed = () => (performance.now() - begun) / 60_000;
const endless = Number.isFinite(minutes);
for (let index = 0; minutesPassed() < minutes && parts.some(({ slices }) => endless || index < slices); index++) {
  for (const part of parts) {
    if (minutesPassed() >= minutes || (!endless && index >= part.slices)) continue;
    const seed = random.below(2 ** 31);
    process.env.PYRO_SEED = String(seed);
    const of = endless ? "" : ` of ${part.slices}`;
    console.log(`${part.name}, slice ${index + 1}${of}, PYRO_SEED=${seed}, minute ${minutesPassed().toFixed(1)}`);
    await part.slice(index);
  }
}

console.log("Afterwards");
await scratch.check(tally);
scratch.close();
console.log(`PYRO_SEED=${random.seed}, ${minutesPassed().toFixed(1)} minutes`);
process.exitCode = tally.finish() ? 0 : 1;

function minutesFrom(text: string | undefined): number {
  if (text === undefined || text === "") return Number.POSITIVE_INFINITY;
  const value = Number(text);
  if (value > 0) return value;
  console.error(`soak: SOAK_MINUTES is ${text}; it takes a number of minutes`);
  process.exit(2);
}
