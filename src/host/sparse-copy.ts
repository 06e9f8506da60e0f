// Copies disk files with their holes, sharing their blocks where the host's file system can.
import { open, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { PyroError } from "../errors/error.ts";
import { syncPath } from "./records.ts";
import { runProgram } from "./spawn.ts";

export interface SparseCopyOptions {
  readonly signal?: AbortSignal;
  /** Synced, with its directory, before it is there: survives a crash of the host. */
  readonly durable?: boolean;
  /** The file `to` is there, and is filled: it stays after a failure, with who knows what in it. */
  readonly existing?: boolean;
  /** Longest time it may take, ms. */
  readonly deadlineMs?: number;
  /** Where the file system cannot share blocks, fail and copy none. */
  readonly onlyShared?: boolean;
}

/** A full disk of some GiB, where nothing can be shared. */
const DEADLINE_MS = 900_000;

/**
 * Copies the file `from` to `to` (mode 0600), which must not exist and is gone again after a failure, unless told otherwise.
 * Errors: HOST_DISK_FULL, HOST_IO_FAILED, HOST_TOOL_MISSING; the signal's reason.
 */
export async function copySparse(from: string, to: string, options: SparseCopyOptions = {}): Promise<void> {
  const { signal, durable = false, existing = false, deadlineMs = DEADLINE_MS, onlyShared = false } = options;
  signal?.throwIfAborted();
  try {
    if (!existing) await (await open(to, "wx", 0o600)).close();
  } catch (error) {
    throw failed(from, to, error);
  }
  try {
    await copy(from, to, { deadlineMs, onlyShared, signal });
    if (durable) {
      await syncPath(to);
      await syncPath(dirname(to));
    }
  } catch (error) {
    if (!existing) await rm(to, { force: true });
    throw failed(from, to, error);
  }
}

async function copy(
  from: string,
  to: string,
  { deadlineMs, onlyShared, signal }: { deadlineMs: number; onlyShared: boolean; signal: AbortSignal | undefined },
): Promise<void> {
  const reflink = onlyShared ? "--reflink=always" : "--reflink=auto";
  // Into the file that is there, so that its mode and its name are this function's own doing.
  const args = [reflink, "--sparse=auto", "--no-target-directory", "--", from, to];
  const result = await runProgram("cp", args, { deadlineMs, aptPackage: "coreutils", bound: true, signal });
  if (result.exitCode === 0) return;
  if (/No space left on device|Disk quota exceeded/.test(result.tail)) {
    throw new PyroError("HOST_DISK_FULL", `There is no space left to copy ${from} to ${to}.`);
  }
  const why = result.timedOut ? `cp took longer than ${deadlineMs / 1000} s` : "cp failed";
  throw new PyroError("HOST_IO_FAILED", `${from} cannot be copied to ${to}: ${why}.`, {
    details: { output: result.tail },
  });
}

function failed(from: string, to: string, error: unknown): unknown {
  const { code, syscall } = error as NodeJS.ErrnoException;
  if (error instanceof PyroError || syscall === undefined) return error;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new PyroError("HOST_DISK_FULL", `There is no space left to copy ${from} to ${to}.`, { cause: error });
  }
  const reason = (error as Error).message;
  return new PyroError("HOST_IO_FAILED", `${from} cannot be copied to ${to}: ${reason}`, { cause: error });
}
