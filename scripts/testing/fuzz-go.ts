// Runs one of Go's fuzz targets for a while. An input that fails is left by Go in the package's testdata, to be kept.
import { spawn } from "node:child_process";
import type { Tally } from "./tally.ts";

export interface FuzzTarget {
  readonly name: string;
  readonly package: string;
}

/** Beyond the time it fuzzes for: compiling, the corpus, and making a failing input small. */
const GRACE_SECONDS = 180;

/** Every fuzz target there is. */
export async function goFuzzTargets(root: string): Promise<FuzzTarget[]> {
  const { status, output } = await go(root, ["test", "-list", "^Fuzz", "./go/..."]);
  if (status !== 0) throw new Error(`go test -list: status ${status}\n${output}`);
  const targets: FuzzTarget[] = [];
  let names: string[] = [];
  // The names of a package's targets stand before the line of the package itself.
  for (const line of output.split("\n")) {
    if (line.startsWith("Fuzz")) names.push(line.trim());
    const found = /^ok\s+(\S+)/.exec(line)?.[1];
    if (found === undefined) continue;
    targets.push(...names.map((name) => ({ name, package: found })));
    names = [];
  }
  return targets;
}

export async function fuzzGo(root: string, target: FuzzTarget, seconds: number, tally: Tally): Promise<void> {
  const begin = performance.now();
  const limits = ["-fuzztime", `${seconds}s`, "-fuzzminimizetime", "20s", "-timeout", `${seconds + GRACE_SECONDS}s`];
  const { status, output } = await go(root, [
    "test",
    "-run",
    "^$",
    "-fuzz",
    `^${target.name}$`,
    ...limits,
    target.package,
  ]);
  const rounds = [...output.matchAll(/execs: (\d+)/g)].at(-1)?.[1] ?? "0";
  tally.add({
    status: status === 0 ? "passed" : "failed",
    name: `${target.package.replace(/^.*?\/go\//, "go/")}: ${target.name}, ${rounds} rounds`,
    durationMs: performance.now() - begin,
    text: output.slice(-20_000),
  });
}

/** Runs Go, and gives what it prints. */
export async function go(root: string, args: readonly string[]): Promise<{ status: number | null; output: string }> {
  const child = spawn("go", args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8");
    stream.on("data", (text: string) => {
      output += text;
    });
  }
  return await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve({ status, output }));
  });
}
