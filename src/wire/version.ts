// The version of this pyro, from its package.json. A leaf: the faces, the client and the daemon all tell it.
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const PACKAGE = "pyro-mcp";
let known: string | undefined;

/** Semantic version, for example "0.1.0". Looks upward from this file, so it holds from source and when bundled. */
export function pyroVersion(): string {
  known ??= find(dirname(fileURLToPath(import.meta.url)));
  return known;
}

function find(from: string): string {
  for (let directory = from; ; directory = dirname(directory)) {
    const version = read(join(directory, "package.json"));
    if (version !== undefined) return version;
    if (directory === dirname(directory)) return "0.0.0";
  }
}

function read(path: string): string | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(path, "utf8"));
    if (typeof value !== "object" || value === null) return undefined;
    const { name, version } = value as { name?: unknown; version?: unknown };
    return name === PACKAGE && typeof version === "string" ? version : undefined;
  } catch {
    return undefined;
  }
}
