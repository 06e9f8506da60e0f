// Small JSON files that are always their old or their new self: written beside, fsynced, renamed. A leaf, for whoever
// keeps records.
import { randomBytes } from "node:crypto";
import { constants, open, rename, unlink } from "node:fs/promises";
import { dirname } from "node:path";

/** No record is as large. */
const MAX_BYTES = 16 << 20;

/**
 * Writes a record so that a crash of this program at any moment leaves the old or the new one; when `durable`, a crash
 * of the host too. Mode 0600.
 */
export async function writeRecord(path: string, value: unknown, { durable = true } = {}): Promise<void> {
  const beside = `${path}.${randomBytes(6).toString("hex")}.tmp`;
  try {
    const file = await open(beside, "wx", 0o600);
    try {
      await file.writeFile(`${JSON.stringify(value, null, 2)}\n`);
      if (durable) await file.sync();
    } finally {
      await file.close();
    }
    await rename(beside, path);
  } catch (error) {
    await unlink(beside).catch(() => {});
    throw error;
  }
  if (durable) await syncPath(dirname(path));
}

/**
 * Reads a record; undefined when there is none. Throws a SyntaxError on anything that is not JSON in a regular file, a
 * pipe too: nobody waits for what is in it.
 */
export async function readRecord<T>(path: string): Promise<T | undefined> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const found = await file.stat();
      if (!found.isFile()) throw new SyntaxError(`${path} is not a file`);
      if (found.size > MAX_BYTES) throw new SyntaxError(`${path} is too large for a record`);
      return JSON.parse(await file.readFile("utf8")) as T;
    } finally {
      await file.close();
    }
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return undefined;
    if (code === "ENOTDIR" || code === "ELOOP")
      throw new SyntaxError(`${path} is below something that is no directory`);
    // A socket, or a device that nothing drives.
    if (code === "ENXIO" || code === "ENODEV") throw new SyntaxError(`${path} is not a file`);
    throw error;
  }
}

/** Syncs one file or directory. */
export async function syncPath(path: string): Promise<void> {
  const handle = await open(path, "r");
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
