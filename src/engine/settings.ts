// What the user set for the daemon: environment variables first, then config.json, then the default.
import { readFile } from "node:fs/promises";
import { homedir } from "node:os";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { PyroError } from "../errors/error.ts";

const DRIVERS = ["auto", "qemu"] as const;

const DEFAULT_POOL_SIZE = 2;
const MAX_POOL_SIZE = 64;
const DEFAULT_TEMPLATES = 8;
const MAX_TEMPLATES = 1000;

const configFile = z.object({
  driver: z.enum(DRIVERS).optional(),
  /** Runs VMMs without bubblewrap. */
  unconfined: z.boolean().optional(),
  /** microVMs kept ready for the next run; 0 for none. */
  pool_size: z.int().min(0).max(MAX_POOL_SIZE).optional(),
  /** Templates kept on disk; the least recently used go. */
  template_limit: z.int().min(1).max(MAX_TEMPLATES).optional(),
});

export interface Settings {
  readonly driver: (typeof DRIVERS)[number];
  readonly unconfined: boolean;
  readonly poolSize: number;
  readonly templateLimit: number;
}

/** Errors: INVALID_INPUT naming the variable or file that cannot be understood. */
export async function readSettings(environment: NodeJS.ProcessEnv): Promise<Settings> {
  const file = await readConfig(environment);
  return {
    driver: driverFrom(environment.PYRO_DRIVER) ?? file.driver ?? "auto",
    unconfined: flagFrom("PYRO_UNCONFINED", environment.PYRO_UNCONFINED) ?? file.unconfined ?? false,
    poolSize:
      countFrom("PYRO_POOL_SIZE", environment.PYRO_POOL_SIZE, MAX_POOL_SIZE) ?? file.pool_size ?? DEFAULT_POOL_SIZE,
    templateLimit: file.template_limit ?? DEFAULT_TEMPLATES,
  };
}

async function readConfig(environment: NodeJS.ProcessEnv): Promise<z.infer<typeof configFile>> {
  const base = environment.XDG_CONFIG_HOME;
  const path = join(base !== undefined && isAbsolute(base) ? base : join(homedir(), ".config"), "pyro", "config.json");
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
    throw new PyroError("HOST_IO_FAILED", `${path} cannot be read: ${(error as Error).message}`);
  }
  try {
    return configFile.parse(JSON.parse(text));
  } catch (error) {
    throw new PyroError("INVALID_INPUT", `${path} cannot be understood: ${(error as Error).message}`, {
      hint: `Mend or remove ${path}.`,
    });
  }
}

function driverFrom(value: string | undefined): Settings["driver"] | undefined {
  if (value === undefined || value === "") return undefined;
  const driver = DRIVERS.find((known) => known === value);
  if (driver !== undefined) return driver;
  throw new PyroError("INVALID_INPUT", `PYRO_DRIVER is ${value}; it takes ${DRIVERS.join(" or ")}.`, {
    hint: "Correct or unset PYRO_DRIVER, then stop the daemon and try again.",
  });
}

function flagFrom(name: string, value: string | undefined): boolean | undefined {
  if (value === undefined || value === "") return undefined;
  if (["1", "true", "yes"].includes(value)) return true;
  if (["0", "false", "no"].includes(value)) return false;
  throw new PyroError("INVALID_INPUT", `${name} is ${value}; it takes 1 or 0.`, {
    hint: `Correct or unset ${name}, then stop the daemon and try again.`,
  });
}

function countFrom(name: string, value: string | undefined, most: number): number | undefined {
  if (value === undefined || value === "") return undefined;
  const count = /^\d{1,6}$/.test(value) ? Number(value) : Number.NaN;
  if (count <= most) return count;
  throw new PyroError("INVALID_INPUT", `${name} is ${value}; it takes a whole number from 0 to ${most}.`, {
    hint: `Correct or unset ${name}, then stop the daemon and try again.`,
  });
}
