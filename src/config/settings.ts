// What the user may set beside flags: each setting once, with its environment variable, its key in config.json and its
// default. A leaf: the daemon reads those of the engine, the client its own, each when it starts.
import { readFileSync } from "node:fs";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { PyroError } from "../errors/error.ts";
import { nearest } from "../errors/nearest.ts";
import { LOG_LEVELS } from "../log/log.ts";

/** A kind of value, as text of a variable and as a value of JSON; undefined where it is neither. */
interface Kind<T> {
  readonly takes: string;
  fromText(text: string): T | undefined;
  fromJson(value: unknown): T | undefined;
}

export interface Setting<T> {
  readonly key: string;
  /** Null for what only config.json sets. */
  readonly variable: string | null;
  readonly kind: Kind<T>;
  readonly fallback: T;
}

export const SETTINGS = {
  driver: setting("driver", "PYRO_DRIVER", choice("auto", "qemu"), "auto"),
  /** Runs VMMs without bubblewrap. */
  unconfined: setting("unconfined", "PYRO_UNCONFINED", flag(), false),
  /** microVMs kept ready for the next run; 0 for none. */
  poolSize: setting("pool_size", "PYRO_POOL_SIZE", count(0, 64), 2),
  /** Templates kept on disk; the least recently used go. */
  templateLimit: setting("template_limit", null, count(1, 1000), 8),
  /** Environment of a run that names none; undefined for the table's own. */
  environment: setting("environment", "PYRO_ENVIRONMENT", name(), undefined),
  /** Least important of what the logs of daemon and client hold; undefined: each has its own. */
  log: setting("log", "PYRO_LOG", choice(...LOG_LEVELS), undefined),
} as const;

export interface ConfigFile {
  readonly path: string;
  readonly values: Readonly<Record<string, unknown>>;
  /** A sentence for each key that nothing reads. */
  readonly warnings: readonly string[];
}

/** The user's config.json; empty when there is none. Errors: INVALID_INPUT, HOST_IO_FAILED, naming the file. */
export function readConfig(environment: NodeJS.ProcessEnv): ConfigFile {
  const base = environment.XDG_CONFIG_HOME;
  const path = join(base !== undefined && isAbsolute(base) ? base : join(homedir(), ".config"), "pyro", "config.json");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return { path, values: {}, warnings: [] };
    throw new PyroError("HOST_IO_FAILED", `${path} cannot be read: ${(error as Error).message}`);
  }
  const values = parseObject(text);
  if (values === undefined) throw unusable(path, "It is no JSON object.");
  const keys = Object.values(SETTINGS).map(({ key }) => key);
  const warnings = Object.keys(values)
    .filter((key) => !keys.includes(key))
    .map((key) => {
      const near = nearest(key, keys);
      return `${path}: there is no setting ${key}.${near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : ""}`;
    });
  return { path, values, warnings };
}

/** The variable's value, else the file's, else the default. An empty variable is none. Errors: INVALID_INPUT. */
export function settingValue<T>(setting: Setting<T>, environment: NodeJS.ProcessEnv, file: ConfigFile): T {
  const { key, variable, kind, fallback } = setting;
  const text = variable === null ? undefined : environment[variable];
  if (text !== undefined && text !== "") {
    const value = kind.fromText(text);
    if (value !== undefined) return value;
    throw new PyroError("INVALID_INPUT", `${variable} is ${text}; it takes ${kind.takes}.`, {
      hint: `Correct or unset ${variable} and try again.`,
    });
  }
  if (!Object.hasOwn(file.values, key)) return fallback;
  const value = kind.fromJson(file.values[key]);
  if (value !== undefined) return value;
  throw unusable(file.path, `${key} is ${JSON.stringify(file.values[key])}; it takes ${kind.takes}.`);
}

function setting<T>(key: string, variable: string | null, kind: Kind<T>, fallback: T): Setting<T> {
  return { key, variable, kind, fallback };
}

function choice<const T extends string>(...choices: T[]): Kind<T | undefined> & Kind<T> {
  const find = (value: unknown) => choices.find((known) => known === value);
  return { takes: choices.join(", ").replace(/, ([^,]*)$/, " or $1"), fromText: find, fromJson: find };
}

function flag(): Kind<boolean> {
  return {
    takes: "1 or 0 (true or false in config.json)",
    fromText: (text) => {
      if (["1", "true", "yes"].includes(text)) return true;
      return ["0", "false", "no"].includes(text) ? false : undefined;
    },
    fromJson: (value) => (typeof value === "boolean" ? value : undefined),
  };
}

function count(least: number, most: number): Kind<number> {
  const within = (value: unknown) =>
    typeof value === "number" && Number.isInteger(value) && value >= least && value <= most ? value : undefined;
  return {
    takes: `a whole number from ${least} to ${most}`,
    fromText: (text) => (/^\d{1,6}$/.test(text) ? within(Number(text)) : undefined),
    fromJson: within,
  };
}

function name(): Kind<string | undefined> {
  const found = (value: unknown) => (typeof value === "string" && value !== "" ? value : undefined);
  return { takes: "a name", fromText: found, fromJson: found };
}

function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function unusable(path: string, why: string): PyroError {
  return new PyroError("INVALID_INPUT", `${path} cannot be understood: ${why}`, { hint: `Mend or remove ${path}.` });
}
