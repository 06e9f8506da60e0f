// What the tests in real microVMs share: the command as a user runs it, homes of their own, and the processes of one.
import { type ChildProcess, spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { type Paths, pathsFor } from "../../src/engine/paths.ts";

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
export const PYRO = join(ROOT, "bin", "pyro.js");

/** The first word of a VMM's command line, whichever driver it is of. Of a jailed one that is a path in its sandbox. */
export const VMM = /qemu-system|^\/firecracker$/;
/** The same, and what is around it. */
export const VMM_OR_SANDBOX = /qemu-system|firecracker$|jailer$|bwrap/;

export interface Finished {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: Buffer;
  readonly stderr: Buffer;
}

export interface Started {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
  /** Resolves when stdout holds the text. */
  untilOutput(text: string): Promise<void>;
  /** Stdout holds the text by now. */
  printed(text: string): boolean;
}

export interface StartOptions {
  readonly input?: Uint8Array | string;
  readonly env?: NodeJS.ProcessEnv;
  /** Stdin stays open and is the test's to write. */
  readonly keepStdin?: boolean;
}

/** The home that all tests share unless they need one of their own; scripts/test sets it. */
export function sharedHome(): string {
  const home = process.env.PYRO_HOME;
  if (home === undefined || home === "")
    throw new Error("PYRO_HOME must be set: run `make test`, or set it to a directory");
  return home;
}

export function startProgram(program: string, args: readonly string[], options: StartOptions = {}): Started {
  const child = spawn(program, args, { env: { ...process.env, ...options.env }, stdio: ["pipe", "pipe", "pipe"] });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
  child.stdin.on("error", () => {});
  if (!options.keepStdin) child.stdin.end(options.input ?? "");
  const finished = new Promise<Finished>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status, signal) =>
      resolve({ status, signal, stdout: Buffer.concat(out), stderr: Buffer.concat(err) }),
    );
  });
  const printed = (text: string) => Buffer.concat(out).includes(text);
  const untilOutput = async (text: string) => {
    const deadline = Date.now() + 120_000;
    while (!printed(text)) {
      if (child.exitCode !== null || Date.now() > deadline) {
        throw new Error(`no ${JSON.stringify(text)} on stdout: ${Buffer.concat(out)}${Buffer.concat(err)}`);
      }
      await sleep(20);
    }
  };
  return { child, finished, untilOutput, printed };
}

export function startPyro(args: readonly string[], options: StartOptions = {}): Started {
  return startProgram(process.execPath, [PYRO, ...args], options);
}

export async function pyro(args: readonly string[], options: StartOptions = {}): Promise<Finished> {
  return await startPyro(args, options).finished;
}

/** `pyro run ARGS`, which must succeed; gives its stdout as text. */
export async function runOk(args: readonly string[], options: StartOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await pyro(["run", ...args], options);
  if (status !== 0) throw new Error(`pyro run ${args.join(" ")}: status ${status}\n${stdout}${stderr}`);
  return stdout.toString();
}

/**
 * A home that shares the environments of the tests' home (and its templates, if asked) and nothing else. Without a pool
 * unless one is asked for: every microVM is then one that a test started.
 */
export async function ownHome(options: { templates: boolean; poolSize?: number }): Promise<OwnHome> {
  const shared = sharedHome();
  await runOk(["--", "true"]);
  const path = await mkdtemp(join(tmpdir(), "pyro-home-"));
  await symlink(join(shared, "environments"), join(path, "environments"));
  if (options.templates) await symlink(join(shared, "cache"), join(path, "cache"));
  else await mkdir(join(path, "cache"));
  return new OwnHome(path, options.poolSize);
}

export class OwnHome {
  readonly path: string;
  readonly paths: Paths;
  readonly #poolSize: number;

  constructor(path: string, poolSize = 0) {
    this.path = path;
    this.#poolSize = poolSize;
    this.paths = pathsFor({ PYRO_HOME: path }, process.getuid?.() ?? 0);
  }

  get env(): NodeJS.ProcessEnv {
    return { PYRO_HOME: this.path, PYRO_POOL_SIZE: String(this.#poolSize) };
  }

  async pid(): Promise<number> {
    const { stdout } = await pyro(["daemon", "status", "--json"], { env: this.env });
    return (JSON.parse(stdout.toString()) as { pid: number }).pid;
  }

  /** Pids of processes whose command line names this home's sockets: launcher, bwrap and VMMs. */
  async processes(program: RegExp): Promise<number[]> {
    return await processesOf(this.paths, program);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Those of a test that failed: a daemon that stops keeps them, and their microVMs.
    const left = await readdir(this.paths.workspaces).catch(() => []);
    if (left.length > 0) await pyro(["workspace", "delete", "--all", "--yes"], { env: this.env });
    await pyro(["daemon", "stop"], { env: this.env });
    await untilGone(() => processesOf(this.paths, /./));
    await rm(this.path, { recursive: true, force: true });
    await rm(this.paths.sockets, { recursive: true, force: true });
  }
}

/**
 * Processes that belong to a home: those that have its sockets' directory in their arguments, and their descendants
 * (a confined VMM knows its directory only as /vm).
 */
export async function processesOf(paths: Paths, program: RegExp): Promise<number[]> {
  const all = new Map<number, { parent: number; args: string }>();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const args = (await readFile(`/proc/${name}/cmdline`, "utf8")).replaceAll("\0", " ");
      const stat = await readFile(`/proc/${name}/stat`, "utf8");
      const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
      if (args !== "") all.set(Number(name), { parent, args });
    } catch {
      // It ended while we looked.
    }
  }
  const belongs = (pid: number): boolean => {
    const process = all.get(pid);
    if (process === undefined) return false;
    return process.args.includes(paths.sockets) || belongs(process.parent);
  };
  return [...all]
    .filter(([pid, { args }]) => belongs(pid) && program.test(args.split(" ")[0] ?? ""))
    .map(([pid]) => pid);
}

export async function untilGone(list: () => Promise<unknown[]>, ms = 30_000): Promise<void> {
  const deadline = Date.now() + ms;
  for (;;) {
    const left = await list();
    if (left.length === 0) return;
    if (Date.now() > deadline) throw new Error(`still there: ${left.join(" ")}`);
    await sleep(50);
  }
}

export function sha256(data: Uint8Array): string {
  return createHash("sha256").update(data).digest("hex");
}
