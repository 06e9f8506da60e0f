// Directories in which things are built before they are renamed into place, and the removal of those that dead
// builders left.
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { readRecord, syncPath, writeRecord } from "../host/records.ts";
import { log } from "../log/log.ts";
import { stagingPrefix } from "./layout.ts";

interface Owner {
  readonly pid: number;
  /** Field 22 of /proc/<pid>/stat: with the boot id it tells a process from a later one of the same pid. */
  readonly start_time: string;
  readonly boot_id: string;
}

/** Those of this process, which need no record to be known as alive. */
const own = new Set<string>();

/** Makes a staging directory below `parent`, calls `work` with its path and removes what is left of it. */
export async function withStaging<T>(parent: string, work: (directory: string) => Promise<T>): Promise<T> {
  await mkdir(parent, { recursive: true, mode: 0o711 });
  const directory = join(parent, `${stagingPrefix}${randomBytes(8).toString("hex")}`);
  own.add(directory);
  try {
    await mkdir(directory, { mode: 0o711 });
    await writeRecord(join(directory, "owner.json"), await identityOf(process.pid));
    return await work(directory);
  } finally {
    try {
      await rm(directory, { recursive: true, force: true });
    } finally {
      own.delete(directory);
    }
  }
}

/**
 * Removes the staging directories below `parent` whose builder lives no more. One that cannot be removed, because a
 * program of the dead builder is not quite quiet, stays for the next start: it is in nobody's way.
 */
export async function removeStale(parent: string): Promise<void> {
  for (const directory of await staleStaging(parent)) {
    await rm(directory, { recursive: true, force: true }).catch((error: Error) => {
      log(`what a dead builder left cannot be removed yet: ${error.message}`, "warn");
    });
  }
}

/** The staging directories below `parent` whose builder lives no more. */
export async function staleStaging(parent: string): Promise<string[]> {
  const stale: string[] = [];
  for (const name of await readdir(parent).catch(() => [])) {
    if (!name.startsWith(stagingPrefix)) continue;
    const directory = join(parent, name);
    if (!own.has(directory) && !(await ownerLives(directory))) stale.push(directory);
  }
  return stale;
}

async function ownerLives(directory: string): Promise<boolean> {
  // What cannot be read was half made or half removed.
  const owner = await readRecord<Partial<Owner>>(join(directory, "owner.json")).catch(() => undefined);
  if (!Number.isSafeInteger(owner?.pid)) return false;
  const now = await identityOf(Number(owner?.pid));
  return now !== undefined && now.start_time === owner?.start_time && now.boot_id === owner.boot_id;
}

async function identityOf(pid: number): Promise<Owner | undefined> {
  try {
    const stat = await readFile(`/proc/${pid}/stat`, "utf8");
    // The command's name stands in parentheses and may hold anything: fields are counted from behind it.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // One that has ended stays listed until its parent, or whoever took it over, asks for its end.
    if (fields[0] === "Z" || fields[0] === "X") return undefined;
    const start = fields[19];
    const boot = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim();
    return start === undefined ? undefined : { pid, start_time: start, boot_id: boot };
  } catch {
    return undefined;
  }
}

/**
 * Moves a finished directory to its final place. One that is there already is replaced when `replace` is set and else
 * kept: what is content-addressed is the same.
 */
export async function publish(from: string, to: string, replace = false): Promise<void> {
  await syncPath(from);
  await mkdir(dirname(to), { recursive: true, mode: 0o711 });
  if (replace) await rm(to, { recursive: true, force: true });
  try {
    await rename(from, to);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
  }
  await syncPath(dirname(to));
}
