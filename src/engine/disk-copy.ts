// Copies of workspaces' disks: only where the host keeps room for what runs on it, and whole on the disk when they are there.
import { lstat, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { PyroError } from "../errors/error.ts";
import { syncPath } from "../host/records.ts";
import { freeDiskMib } from "../host/resources.ts";
import { copySparse } from "../host/sparse-copy.ts";

/** What a copy leaves free, MiB: with less nothing is begun, and what runs is about to be stopped for want of room. */
const LEFT_FREE_MIB = 256;
const MIB = 2 ** 20;

/** Bytes of the host's disk that a file holds, those that it shares with others included; 0 where there is none. */
export async function bytesHeld(path: string): Promise<number> {
  return await lstat(path).then(
    ({ blocks }) => blocks * 512,
    () => 0,
  );
}

/**
 * Copies a disk to a path where nothing is, or with `existing` into the file there; nothing is there after a failure. `settleDisk` is to follow. Errors:
 * HOST_DISK_FULL, before anything is written where it would leave too little; HOST_IO_FAILED; the signal's reason.
 */
export async function copyDisk(from: string, to: string, signal: AbortSignal, existing = false): Promise<void> {
  const [held, free] = await Promise.all([bytesHeld(from), freeDiskMib(dirname(to))]);
  const needed = Math.ceil(held / MIB) + LEFT_FREE_MIB;
  if (free >= needed) return await copySparse(from, to, { signal, existing });
  await copySparse(from, to, { signal, existing, onlyShared: true }).catch((error: unknown) => {
    if (signal.aborted || PyroError.from(error).code === "HOST_TOOL_MISSING") throw error;
    const short = `${free} MiB are free below ${dirname(to)}; a copy of the disk needs ${needed} MiB.`;
    throw new PyroError("HOST_DISK_FULL", short, { cause: error });
  });
}

/** Has a copy survive a crash of the host from here on; on failure it is gone. Errors: HOST_DISK_FULL, HOST_IO_FAILED. */
export async function settleDisk(path: string): Promise<void> {
  try {
    await syncPath(path);
    await syncPath(dirname(path));
  } catch (error) {
    await rm(path, { force: true });
    throw PyroError.from(error);
  }
}
