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

export interface Setting<T, Fallback = T | undefined> {
  readonly key: string;
  /** Null for what only config.json sets. */
  readonly variable: string | null;
  readonly kind: Kind<T>;
  readonly fallback: Fallback;
  readonly meaning: string;
}

export const SETTINGS = {
  driver: {
    key: "driver",
    variable: "PYRO_DRIVER",
    kind: choice("auto", "firecracker", "qemu"),
    fallback: "auto",
    meaning: "What runs microVMs, where a call names nothing else; the daemon reads it when it starts",
  },
  /** Undefined: PATH, then pyro's own directory of tools. */
  firecracker: {
    key: "firecracker",
    variable: "PYRO_FIRECRACKER",
    kind: absolutePath(),
    fallback: undefined,
    meaning: "The program firecracker, its jailer beside it; the daemon reads it when it starts",
  },
  unconfined: {
    key: "unconfined",
    variable: "PYRO_UNCONFINED",
    kind: flag(),
    fallback: false,
    meaning: "Runs the VMM without bubblewrap, at your own risk; the daemon reads it when it starts",
  },
  poolSize: {
    key: "pool_size",
    variable: "PYRO_POOL_SIZE",
    kind: count(0, 64),
    fallback: 2,
    meaning: "microVMs kept ready for the next run, 0 for none; the daemon reads it when it starts",
  },
  /** Undefined: the host's own. For hosts with several networks, and for tests. */
  networkNamespace: {
    key: "network_namespace",
    variable: "PYRO_NETWORK_NAMESPACE",
    kind: absolutePath(),
    fallback: undefined,
    meaning:
      "Network namespace (a file such as /run/netns/x) that microVMs' connections are made in, where pyro is root; the daemon reads it when it starts",
  },
  /** Undefined: those of /etc/resolv.conf. */
  nameServers: {
    key: "name_servers",
    variable: "PYRO_NAME_SERVERS",
    kind: words(),
    fallback: undefined,
    meaning:
      "Name servers, addresses with commas between, that are asked for microVMs instead of /etc/resolv.conf's; the daemon reads it when it starts",
  },
  publicRanges: {
    key: "public_ranges",
    variable: "PYRO_PUBLIC_RANGES",
    kind: words(),
    fallback: undefined,
    meaning:
      "Address ranges such as 10.1.0.0/16, with commas between, that microVMs may reach as if they were public; the daemon reads it when it starts",
  },
  networkMibPerSecond: {
    key: "network_mib_per_second",
    variable: "PYRO_NETWORK_MIB_PER_SECOND",
    kind: count(0, 100_000),
    fallback: 100,
    meaning:
      "MiB a second that each microVM's network carries each way at most, 0 for no limit; the daemon reads it when it starts",
  },
  brokerAuthorities: {
    key: "broker_authorities",
    variable: "PYRO_BROKER_AUTHORITIES",
    kind: absolutePath(),
    fallback: undefined,
    meaning:
      "File of certificates, PEM, of authorities that hosts of brokered secrets may have beside this system's; the daemon reads it whenever a network is set up",
  },
  templateLimit: {
    key: "template_limit",
    variable: null,
    kind: count(1, 1000),
    fallback: 8,
    meaning: "Templates kept on disk, the least recently used go; the daemon reads it when it starts",
  },
  /** Undefined: the table's own default. */
  environment: {
    key: "environment",
    variable: "PYRO_ENVIRONMENT",
    kind: name(),
    fallback: undefined,
    meaning: "Environment of a run that names none",
  },
  /** Undefined: each side has its own. */
  log: {
    key: "log",
    variable: "PYRO_LOG",
    kind: choice(...LOG_LEVELS),
    fallback: undefined,
    meaning:
      "Least important of what the daemon's log (default info, `pyro daemon status` names it) and a client's stderr (default warn; `--verbose` is debug) hold",
  },
} as const satisfies Record<string, Setting<unknown>>;

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
  const keys: readonly string[] = Object.values(SETTINGS).map(({ key }) => key);
  const warnings = Object.keys(values)
    .filter((key) => !keys.includes(key))
    .map((key) => {
      const near = nearest(key, keys);
      return `${path}: there is no setting ${key}.${near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : ""}`;
    });
  return { path, values, warnings };
}

/** The variable's value, else the file's, else the default. An empty variable is none. Errors: INVALID_INPUT. */
export function settingValue<T, Fallback>(
  setting: Setting<T, Fallback>,
  environment: NodeJS.ProcessEnv,
  file: ConfigFile,
): T | Fallback {
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

function choice<const T extends string>(...choices: T[]): Kind<T> {
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

function absolutePath(): Kind<string> {
  const found = (value: unknown) => (typeof value === "string" && isAbsolute(value) ? value : undefined);
  return { takes: "an absolute path", fromText: found, fromJson: found };
}

function words(): Kind<readonly string[]> {
  const found = (list: readonly unknown[]) => {
    const fit = list.filter(
      (one): one is string => typeof one === "string" && /^[0-9A-Fa-f:.]+(\/\d{1,3})?$/.test(one),
    );
    return fit.length === list.length && fit.length > 0 ? fit : undefined;
  };
  return {
    takes: "addresses or ranges with commas between (a list in config.json)",
    fromText: (text) => found(text.split(",").map((one) => one.trim())),
    fromJson: (value) => (Array.isArray(value) ? found(value) : undefined),
  };
}

function name(): Kind<string> {
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
