// The lab: one command in an outer guest where /dev/kvm works, on machines whose own KVM cannot boot a guest. This file
// owns the order of things, signals and the exit status.
import { installation } from "../../src/host/installation.ts";
import { Cache } from "./cache.ts";
import { Luggage } from "./carry.ts";
import { LabError, type Say } from "./failure.ts";
import { HELP, type Options, parseOptions, UsageError } from "./options.ts";
import { outerGuest } from "./outer.ts";
import { run } from "./run.ts";
import { selfTest } from "./self-test.ts";

const OWN_FAILURE = 125;
const SIGNALS = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

const stopping = new AbortController();
for (const [signal, status] of Object.entries(SIGNALS)) {
  process.on(signal, () => {
    process.exitCode = status;
    stopping.abort(new Error(`ended by ${signal}`));
  });
}
// Whoever reads the output may have had enough.
process.stdout.on("error", () => stopping.abort(new Error("nobody reads the output")));

try {
  process.exitCode = await main(parseOptions(process.argv.slice(2), process.cwd()));
} catch (error) {
  if (!stopping.signal.aborted) {
    console.error(`lab: ${describe(error)}`);
    if (error instanceof UsageError) console.error("lab: see `scripts/lab --help`");
  }
  process.exitCode ??= OWN_FAILURE;
}

async function main(options: Options): Promise<number> {
  if (options.task === "help") {
    console.log(HELP);
    return 0;
  }
  const { signal } = stopping;
  const tell: Say = (message) => console.error(`lab: ${message}`);
  const detail: Say = options.verbose ? tell : () => {};
  const cache = await Cache.open();
  const outer = await outerGuest(cache, tell, signal);
  if (options.task === "build") return 0;
  if (options.task === "self-test") return await selfTest(cache, outer, tell, signal);
  const luggage = new Luggage();
  try {
    const begin = performance.now();
    if (!options.bare) await luggage.packCheckout(installation().root, cache.directory, signal);
    await luggage.packOthers(options.carried, cache.directory, signal);
    detail(`packed in ${((performance.now() - begin) / 1000).toFixed(2)} s`);
    const { stdout, stderr } = process;
    return await run(cache, outer, { ...options, luggage, stdout, stderr }, detail, signal);
  } finally {
    luggage.close();
  }
}

function describe(error: unknown): string {
  if (error instanceof LabError || error instanceof UsageError) return error.message;
  const { message, hint, details } = Object(error) as { message?: string; hint?: string; details?: unknown };
  if (hint === undefined) return (error as Error).stack ?? String(error);
  return [message, hint, JSON.stringify(details ?? {})].join("\n");
}
