// Runs one program of a build, keeps its log, and says what went wrong in words of pyro's.
import { appendFile, mkdir, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { PyroError } from "../errors/error.ts";
import { runProgram } from "../host/spawn.ts";

const TAIL_LINES = 30;

/** Where a build works. */
export interface StepPlace {
  /** An empty directory of the caller's, on the file system where the image goes. */
  readonly staging: string;
  /** Where the whole log is kept, whatever happens. */
  readonly logPath: string;
  readonly signal?: AbortSignal;
}

export interface StepOptions extends StepPlace {
  readonly aptPackage: string;
  readonly deadlineMs: number;
  /** What must be so for it to work, where that is known: part of the hint. */
  readonly needs?: string;
  readonly env: Record<string, string>;
  readonly graceMs: number;
  readonly onLine: (line: string) => void;
}

/** Makes the log, empty. */
export async function beginLog(logPath: string): Promise<void> {
  await mkdir(dirname(logPath), { recursive: true, mode: 0o711 });
  await writeFile(logPath, "", { mode: 0o600 });
}

/**
 * Runs `command`, in which `name` is the program that matters. Errors: HOST_TOOL_MISSING, HOST_DISK_FULL,
 * ENVIRONMENT_BUILD_FAILED; the signal's reason.
 */
export async function step(name: string, command: readonly string[], options: StepOptions): Promise<void> {
  await requireProgram(name, options.aptPackage, options.signal);
  const log: string[] = [];
  const [program = name, ...args] = command;
  const result = await runProgram(program, args, {
    deadlineMs: options.deadlineMs,
    aptPackage: program === name ? options.aptPackage : "util-linux",
    cwd: options.staging,
    env: options.env,
    signal: options.signal,
    graceMs: options.graceMs,
    onLine: (line) => {
      log.push(line);
      options.onLine(line);
    },
  }).finally(() => appendFile(options.logPath, `$ ${command.join(" ")}\n${log.join("\n")}\n`));
  if (result.exitCode === 0) return;
  const details = { program: name, log_path: options.logPath, log_tail: log.slice(-TAIL_LINES).join("\n") };
  if (log.some((line) => line.includes("No space left on device"))) {
    throw new PyroError("HOST_DISK_FULL", `There is no space left to build the environment.`, { details });
  }
  const how = result.timedOut ? "did not finish in time" : `failed (${result.signal ?? `status ${result.exitCode}`})`;
  throw new PyroError("ENVIRONMENT_BUILD_FAILED", `${name} ${how}; its log is ${options.logPath}.`, {
    hint: userHint(log) ?? `Read ${options.logPath}${options.needs === undefined ? "" : `; ${options.needs}`}.`,
    details,
  });
}

/** Programs that are started through another would else be missed with a message of the other's. */
async function requireProgram(name: string, aptPackage: string, signal: AbortSignal | undefined): Promise<void> {
  await runProgram(name, ["--version"], { deadlineMs: 10_000, aptPackage, signal });
}

/** Building as an ordinary user needs subordinate ids: the one thing that is often missing. */
function userHint(log: readonly string[]): string | undefined {
  if (process.getuid?.() === 0 || !log.some((line) => /newuidmap|subuid|subgid|user namespace/i.test(line))) {
    return undefined;
  }
  return "Install the package uidmap and give this user subordinate ids in /etc/subuid and /etc/subgid (`usermod --add-subuids`).";
}
