// Formats writable disks: sparse ext4 files made from nothing.
import { open, rm } from "node:fs/promises";
import { PyroError } from "../errors/error.ts";
import { runProgram } from "../host/spawn.ts";
import { failBuild } from "./failure.ts";

const MIB = 1 << 20;

/**
 * Makes an empty ext4 file of `mib` MiB at `path` (mode 0600), which must not exist. About 10 ms and 4 MiB on disk
 * whatever the size (16 GiB measured: `time mkfs.ext4 ...`), so no pristine copy is kept.
 * Errors: HOST_TOOL_MISSING, HOST_DISK_FULL, HOST_IO_FAILED.
 */
export async function formatDisk(path: string, mib: number, signal?: AbortSignal): Promise<void> {
  const { formatted } = await beginDisk(path, mib, signal);
  await formatted;
}

/**
 * The same, as far as that the file is there, of its size, for a microVM to start with: what is on it comes while that
 * starts. `formatted` never goes unhandled; on failure the file is gone. Errors: as formatDisk.
 */
export async function beginDisk(
  path: string,
  mib: number,
  signal?: AbortSignal,
): Promise<{ readonly formatted: Promise<void> }> {
  try {
    const file = await open(path, "wx", 0o600);
    try {
      await file.truncate(mib * MIB);
    } finally {
      await file.close();
    }
  } catch (error) {
    throw failBuild("HOST_IO_FAILED", `The disk ${path} cannot be made`, error);
  }
  const formatted = makeFileSystem(path, signal).catch(async (error: unknown) => {
    await rm(path, { force: true });
    throw error;
  });
  formatted.catch(() => {});
  return { formatted };
}

async function makeFileSystem(path: string, signal: AbortSignal | undefined): Promise<void> {
  const extended = [
    // A new sparse file is zeros. Without this the guest's kernel would write all inode tables in the background,
    // 256 MiB of a 16 GiB disk, and the file would no longer be sparse.
    "assume_storage_prezeroed=1",
    "lazy_itable_init=0",
    "lazy_journal_init=0",
    "root_owner=0:0",
  ].join(",");
  const result = await runProgram("mkfs.ext4", ["-q", "-F", "-m", "0", "-E", extended, path], {
    deadlineMs: 30_000,
    aptPackage: "e2fsprogs",
    signal,
  });
  if (result.exitCode === 0) return;
  if (/No space left on device/.test(result.tail)) {
    throw new PyroError("HOST_DISK_FULL", `There is no space left for the disk ${path}.`);
  }
  throw new PyroError("HOST_IO_FAILED", `mkfs.ext4 could not format ${path}.`, { details: { output: result.tail } });
}
