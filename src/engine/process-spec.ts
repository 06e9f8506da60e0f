// From what a caller asks to be run to what a guest is asked to start: the argument vector, the directory, the
// environment. The same for a run and for a command in a workspace.
import { posix } from "node:path";
import { PyroError } from "../errors/error.ts";
import { WORKSPACE_PATH } from "../operations/fields.ts";
import { secretEnvOf } from "../operations/secret-rules.ts";

const DEFAULT_TERMINAL = { columns: 80, rows: 24 };

/** What a guest is asked for. Paths and strings are UTF-8 here and bytes on the way. */
export interface ProcessSpec {
  readonly processId: string;
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Names of secrets by the variables that they are to be. Records hold these, and never a value. */
  readonly secretEnv?: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: string;
  readonly terminal: { readonly columns: number; readonly rows: number } | undefined;
  readonly noStdin: boolean;
  readonly timeoutMs: number;
  /** Nothing that it started outlives it. */
  readonly wholeTree?: boolean;
}

/** What a row asks for; all of it was checked by the row. */
export interface AskedProcess {
  readonly command: string | readonly string[];
  readonly cwd?: string | undefined;
  readonly env?: Readonly<Record<string, string>> | undefined;
  readonly secret_env?: readonly string[] | undefined;
  readonly user?: string | undefined;
  readonly tty: boolean;
  readonly no_stdin: boolean;
  readonly timeout_seconds?: number | undefined;
}

/** What the caller's connection says beside it. */
export interface AskedFrom {
  readonly terminal: { readonly columns: number; readonly rows: number } | undefined;
  readonly stdinClosed: boolean;
}

/** What is asked for, without what the guest's image says. Errors: INVALID_INPUT for what no process can have. */
export function specOf(processId: string, asked: AskedProcess, from: AskedFrom): ProcessSpec {
  const argv = typeof asked.command === "string" ? ["sh", "-lc", asked.command] : asked.command;
  const env: Record<string, string> = { ...(asked.tty ? { TERM: "xterm-256color" } : {}), ...asked.env };
  const texts = [...argv, ...Object.entries(env).flat(), asked.cwd ?? "", asked.user ?? ""];
  if (texts.some((text) => text.includes("\0"))) {
    throw new PyroError(
      "INVALID_INPUT",
      "A command, variable, directory or user holds a zero byte, which no process can have.",
    );
  }
  return {
    processId,
    argv,
    env,
    ...(asked.secret_env === undefined ? {} : { secretEnv: secretEnvOf(asked.secret_env) }),
    cwd: posix.resolve(WORKSPACE_PATH, asked.cwd ?? ""),
    user: asked.user ?? "",
    terminal: asked.tty ? (from.terminal ?? DEFAULT_TERMINAL) : undefined,
    noStdin: asked.no_stdin || from.stdinClosed,
    timeoutMs: (asked.timeout_seconds ?? 0) * 1000,
  };
}

/** The same where these variables are those of every process: what was asked for comes before them. */
export function within(env: Readonly<Record<string, string>>, spec: ProcessSpec): ProcessSpec {
  const whole: Record<string, string> = { ...env, ...spec.env };
  if (spec.user === "") whole.HOME ??= "/root";
  return { ...spec, env: whole };
}
