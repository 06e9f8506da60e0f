// Runs a program of the host to its end: arguments as a list, a deadline, cancellation, a bounded tail of its output.
import { type ChildProcess, spawn } from "node:child_process";
import { PyroError } from "../errors/error.ts";
import { findProgram } from "./resources.ts";

export interface RunOptions {
  /** Longest time it may take, ms; then its whole process group is ended. */
  readonly deadlineMs: number;
  /** The Debian package that holds the program, named when the program is missing. */
  readonly aptPackage: string;
  readonly cwd?: string;
  /** Added to this process's environment. LC_ALL is C unless given. */
  readonly env?: Readonly<Record<string, string>>;
  /** Written to stdin, which is then closed. Without it stdin is empty. */
  readonly input?: string;
  /** Ends the process group and rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Called with each whole line of stdout and stderr. */
  readonly onLine?: (line: string) => void;
  /**
   * The kernel kills it when this process dies, even of SIGKILL: for what writes where others will clean up. What it
   * starts itself must end by its own end.
   */
  readonly bound?: boolean;
  /** Time between SIGTERM and SIGKILL when it has to be ended, ms; 0 (the default) kills at once. */
  readonly graceMs?: number;
}

export interface RunResult {
  /** Exit status; null when a signal ended it. */
  readonly exitCode: number | null;
  readonly signal: NodeJS.Signals | null;
  /** At most the first 4 MiB. */
  readonly stdout: string;
  /** The last 16 KiB of stdout and stderr together, in the order they came. */
  readonly tail: string;
  /** True when the deadline ended it. */
  readonly timedOut: boolean;
}

const MAX_STDOUT_BYTES = 4 << 20;
const TAIL_CHARACTERS = 16_384;

/**
 * Runs `program` and waits for its end; a status other than 0 resolves too.
 * Errors: HOST_TOOL_MISSING when there is no such program; whatever `signal` was aborted with.
 */
export async function runProgram(program: string, args: readonly string[], options: RunOptions): Promise<RunResult> {
  options.signal?.throwIfAborted();
  // setpriv would say in words of its own that there is no such program.
  if (options.bound && (await findProgram(program)) === undefined) throw missing(program, options.aptPackage);
  const [started, ...rest] = options.bound
    ? ["setpriv", "--pdeathsig=KILL", "--", program, ...args]
    : [program, ...args];
  const child = spawn(started, rest, {
    cwd: options.cwd,
    env: { ...process.env, PATH: searchPath(), LC_ALL: "C", ...options.env },
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
  });
  return await new Promise<RunResult>((resolve, reject) => {
    const stdout: Buffer[] = [];
    let stdoutBytes = 0;
    let tail = "";
    let timedOut = false;
    let killer: NodeJS.Timeout | undefined;

    const end = (): void => {
      if (killer !== undefined) return;
      if (options.graceMs) signalGroup(child, "SIGTERM");
      killer = setTimeout(() => signalGroup(child, "SIGKILL"), options.graceMs ?? 0);
    };
    const deadline = setTimeout(() => {
      timedOut = true;
      end();
    }, options.deadlineMs);
    const settle = (finish: () => void): void => {
      clearTimeout(deadline);
      clearTimeout(killer);
      options.signal?.removeEventListener("abort", end);
      finish();
    };
    const keep = (chunk: Buffer): void => {
      tail = (tail + chunk.toString("utf8")).slice(-TAIL_CHARACTERS);
    };
    options.signal?.addEventListener("abort", end, { once: true });

    const outLines = lineSplitter(options.onLine);
    const errorLines = lineSplitter(options.onLine);
    child.stdout.on("data", (chunk: Buffer) => {
      if (stdoutBytes < MAX_STDOUT_BYTES) stdout.push(chunk.subarray(0, MAX_STDOUT_BYTES - stdoutBytes));
      stdoutBytes += chunk.length;
      keep(chunk);
      outLines(chunk);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      keep(chunk);
      errorLines(chunk);
    });
    // A program that never reads its input is no error.
    child.stdin.on("error", () => {});
    child.stdin.end(options.input ?? "");

    child.on("error", (error: NodeJS.ErrnoException) => {
      const aptPackage = options.bound ? "util-linux" : options.aptPackage;
      settle(() => reject(error.code === "ENOENT" ? missing(started, aptPackage, error) : error));
    });
    child.on("close", (exitCode, signal) => {
      // What it left behind in its group (a program that double-forked) goes with it.
      if (timedOut || options.signal?.aborted) signalGroup(child, "SIGKILL");
      settle(() => {
        if (options.signal?.aborted) return reject(options.signal.reason);
        resolve({ exitCode, signal, stdout: Buffer.concat(stdout).toString("utf8"), tail, timedOut });
      });
    });
  });
}

function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // The group has gone already.
  }
}

/** Ordinary users often lack the directories that hold mkfs.ext4 and the like. */
function searchPath(): string {
  const path = (process.env.PATH ?? "").split(":").filter((directory) => directory !== "");
  for (const directory of ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]) {
    if (!path.includes(directory)) path.push(directory);
  }
  return path.join(":");
}

function missing(program: string, aptPackage: string, cause?: unknown): PyroError {
  return new PyroError("HOST_TOOL_MISSING", `The program ${program} is missing; the package ${aptPackage} holds it.`, {
    hint: `Install it: \`apt-get install ${aptPackage}\`.`,
    details: { program, apt_package: aptPackage },
    cause,
  });
}

function lineSplitter(onLine: ((line: string) => void) | undefined): (chunk: Buffer) => void {
  let pending = "";
  return (chunk) => {
    if (!onLine) return;
    const lines = (pending + chunk.toString("utf8")).split("\n");
    // A "line" without an end is bounded too.
    pending = (lines.pop() ?? "").slice(-TAIL_CHARACTERS);
    for (const line of lines) onLine(line);
  };
}
