// What the tests of faults share: what the caller was told, that the next call works, and a mount namespace to break
// things in.
import assert from "node:assert/strict";
import { open, readdir } from "node:fs/promises";
import { type Finished, type OwnHome, PYRO, startProgram, startPyro, untilGone, VMM_OR_SANDBOX } from "./harness.ts";

export interface Told {
  readonly code: string;
  readonly message: string;
  readonly hint: string;
  readonly retryable: boolean;
  readonly details: Readonly<Record<string, unknown>>;
}

/** The error that `--json` printed; it must have a way out. */
export function told(stdout: Buffer | string): Told {
  const { error } = JSON.parse(stdout.toString()) as { error?: Told };
  assert.ok(error !== undefined, `no error: ${stdout}`);
  assert.ok(error.hint.length > 10, `no hint: ${stdout}`);
  return error;
}

export function codeOf(stdout: Buffer | string): string {
  return told(stdout).code;
}

/** The fault is over: a run does what it should, within a bound. */
export async function worksAgain(home: OwnHome): Promise<void> {
  const run = startPyro(["run", "--", "echo", "fine"], { env: home.env });
  const { status, stdout, stderr } = await within(run.finished, 120_000);
  assert.equal(stdout.toString(), "fine\n", stderr.toString());
  assert.equal(status, 0);
}

export async function nothingRuns(home: OwnHome): Promise<void> {
  await untilGone(() => home.processes(VMM_OR_SANDBOX));
  // A daemon that was stopped has taken its directories with it.
  for (const directory of [home.paths.runs, home.paths.vms]) await untilGone(() => readdir(directory).catch(() => []));
}

/** `pyro run --json -- ARGV`, which must fail within a bound. */
export async function refused(home: OwnHome, args: string[] = ["--", "true"], ms = 60_000): Promise<Told> {
  const run = startPyro(["run", "--json", ...args], { env: home.env });
  const { status, stdout, stderr } = await within(run.finished, ms);
  assert.equal(status, 125, `${stdout}${stderr}`);
  return told(stdout);
}

/**
 * Runs a shell script in a mount namespace of its own, with `$PYRO` as the command and `$PYRO_HOME` as the home: what
 * it mounts is seen by what it starts, daemon included. Takes root.
 */
export async function inNamespace(home: OwnHome, script: string, env: NodeJS.ProcessEnv = {}): Promise<Finished> {
  const whole = `set -e; pyro() { "$NODE" "$PYRO" "$@"; }; ${script}`;
  const program = startProgram("unshare", ["--mount", "--propagation", "private", "sh", "-c", whole], {
    env: { ...home.env, NODE: process.execPath, PYRO, ...env },
  });
  return await within(program.finished, 240_000);
}

export async function within<T>(work: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Changes one byte that is not zero; as root, modes keep nobody out. */
export async function flipByte(path: string): Promise<void> {
  const file = await open(path, "r+");
  try {
    const { size } = await file.stat();
    const byte = Buffer.alloc(1);
    // A byte with content: the memory file is mostly holes.
    let at = Math.floor(size / 2);
    for (let tries = 0; tries < size; tries += 4096, at = (at + 4096) % size) {
      await file.read(byte, 0, 1, at);
      if (byte[0] !== 0) break;
    }
    await file.write(Buffer.of((byte[0] ?? 0) ^ 1), 0, 1, at);
  } finally {
    await file.close();
  }
}
