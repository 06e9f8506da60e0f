// Compares patches with git's over many pairs of released packages: the test of `make test`, with more of them and other choices.
import { go } from "./fuzz-go.ts";
import type { Tally } from "./tally.ts";

/** Random choices follow from PYRO_SEED. Packages that cannot be fetched are left out. */
export async function comparePatches(root: string, pairs: number, tally: Tally): Promise<void> {
  const begin = performance.now();
  process.env.PYRO_PATCH_PAIRS = String(pairs);
  const args = ["test", "-count=1", "-v", "-timeout", "60m", "-run", "^TestPatchesOfPackages$", "./go/internal/files"];
  const { status, output } = await go(root, args);
  const told = /\d+ pairs of \d+: .*/.exec(output)?.[0] ?? "no pairs";
  const skipped = output.includes("--- SKIP");
  tally.add({
    status: status !== 0 ? "failed" : skipped ? "skipped" : "passed",
    name: `patches of packages: ${told}`,
    durationMs: performance.now() - begin,
    text: output.slice(-20_000),
  });
}
