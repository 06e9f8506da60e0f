// Bringing files of a host into a workspace, and fixing what later comparisons start from.
import { posix } from "node:path";
import { PyroError } from "../../errors/error.ts";
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import type { UploadEnd } from "../../wire/protocol.ts";
import type { MicroVm } from "../microvm.ts";
import { copyFrozen } from "./frozen-copy.ts";
import { sendTransfer } from "./transfer.ts";

/** The content of a host path as its client sends it: a tar archive, and behind it what only the client knows. */
export interface Upload {
  readonly bytes: AsyncIterable<Uint8Array>;
  /** Once all bytes have come. */
  end(): UploadEnd;
}

export interface Limits {
  readonly maxTransferMib: number;
  readonly maxEntries: number;
}

export interface Sent {
  readonly entryCount: number;
  readonly bytesWritten: number;
  readonly end: UploadEnd;
}

/** Errors: PATH_OUTSIDE. */
export function destinationOf(given: string): string {
  const path = posix.resolve(WORKSPACE_PATH, given);
  if (path === WORKSPACE_PATH || path.startsWith(`${WORKSPACE_PATH}/`)) {
    if (!path.includes("\0")) return path;
  }
  throw new PyroError("PATH_OUTSIDE", `The destination ${given} is not below ${WORKSPACE_PATH}.`);
}

/** Errors: those of sendTransfer; what the upload throws; the signal's reason. */
export async function send(
  vm: MicroVm,
  destination: string,
  upload: Upload,
  limits: Limits,
  signal: AbortSignal,
): Promise<Sent> {
  const options = {
    destination,
    maxBytes: limits.maxTransferMib * 2 ** 20,
    maxEntries: limits.maxEntries,
    signal,
  };
  const counts = await sendTransfer(vm.guest, options, upload.bytes);
  return { ...counts, end: upload.end() };
}

/** Copies a workspace's disk as it stands, whole, with the list of what /workspace holds written on it: see copyFrozen. */
export async function fixBaseline(
  vm: MicroVm,
  { disk, baseline }: { readonly disk: string; readonly baseline: string },
  signal: AbortSignal,
): Promise<void> {
  // Into the file that the microVM has on a drive.
  await copyFrozen(vm, disk, baseline, { writeManifest: true, existing: true, signal });
}

/** As a row says them. */
export function limitsOf(input: { max_transfer_mib: number; max_entries: number }): Limits {
  return { maxTransferMib: input.max_transfer_mib, maxEntries: input.max_entries };
}

/** As the rows tell of it. */
export function factsOf({ entryCount, bytesWritten, end }: Sent) {
  return {
    mode: end.mode,
    entry_count: entryCount,
    bytes_written: bytesWritten,
    skipped: end.skipped.map((item) => ({ ...item })),
    skipped_count: end.skipped_count,
  };
}
