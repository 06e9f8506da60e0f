// Where Firecracker is on this host, and whether it is one that pyro can use. Looks, and runs nothing but --version.
import { execFile } from "node:child_process";
import { access, constants, realpath } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { findProgram } from "../../host/resources.ts";

/** A snapshot's drives and vsock are put on other files as 1.12 does it; another major may do anything. */
const LEAST = [1, 12] as const;
const VERSION_MS = 10_000;

export interface FoundFirecracker {
  /** Absolute path without links. */
  readonly program: string;
  /** As it says: 1.12.1 */
  readonly version: string;
  /** Absolute path without links; undefined where none is needed. */
  readonly jailer: string | undefined;
}

/** One that is there and cannot be used. */
export interface Unusable {
  readonly message: string;
  readonly fix: string;
}

export interface Search {
  /** The user's own choice, instead of all places. */
  readonly given: string | undefined;
  /** pyro's own directory of programs, the last place. */
  readonly tools: string;
  /** Where pyro is root, microVMs are confined by the jailer. */
  readonly needsJailer: boolean;
}

export const GET_FIRECRACKER =
  "get firecracker and jailer 1.12 or newer from a release of the Firecracker project (firecracker-microvm), into PATH or where PYRO_FIRECRACKER says";

/** Undefined when there is none anywhere and the user named none. */
export async function findFirecracker(search: Search): Promise<FoundFirecracker | Unusable | undefined> {
  const place =
    search.given ?? (await findProgram("firecracker")) ?? (await executable(join(search.tools, "firecracker")));
  if (place === undefined) return undefined;
  const program = await realpath(place).catch(() => undefined);
  if (program === undefined || (await executable(program)) === undefined) {
    return { message: `${place} is no program that can be run`, fix: GET_FIRECRACKER };
  }
  const version = await versionOf(program, "Firecracker");
  if (version === undefined) return { message: `${program} does not say that it is Firecracker`, fix: GET_FIRECRACKER };
  if (!isUsable(version)) {
    const message = `${program} is Firecracker ${version}; pyro needs ${LEAST.join(".")} or newer of the same major version`;
    return { message, fix: GET_FIRECRACKER };
  }
  if (!search.needsJailer) return { program, version, jailer: undefined };
  const beside =
    (await executable(join(dirname(place), "jailer"))) ?? (await executable(join(dirname(program), "jailer")));
  const jailer = beside ?? (await findProgram("jailer"));
  if (jailer === undefined) {
    const message = `Firecracker's jailer is neither beside ${program} nor in PATH, and root's microVMs are confined by it`;
    return { message, fix: GET_FIRECRACKER };
  }
  const found = await versionOf(jailer, "Jailer");
  if (found !== version) {
    const message = `${jailer} is of version ${found ?? "unknown"}, and ${program} of ${version}`;
    return { message, fix: GET_FIRECRACKER };
  }
  return { program, version, jailer: await realpath(jailer) };
}

/** Exported for its test. */
export function isUsable(version: string): boolean {
  const [major, minor] = version.split(".").map(Number);
  return major === LEAST[0] && minor !== undefined && minor >= LEAST[1];
}

async function versionOf(program: string, name: string): Promise<string | undefined> {
  const said = await promisify(execFile)(program, ["--version"], { timeout: VERSION_MS }).catch(() => undefined);
  return new RegExp(`^${name} v(\\d+\\.\\d+\\.\\d+)`, "m").exec(said?.stdout ?? "")?.[1];
}

async function executable(path: string): Promise<string | undefined> {
  return await access(path, constants.X_OK).then(
    () => path,
    () => undefined,
  );
}
