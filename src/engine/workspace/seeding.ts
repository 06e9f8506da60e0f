// Bringing files of a host into a workspace, and fixing what later comparisons start from.
import { posix } from "node:path";
import { PyroError } from "../../errors/error.ts";
import { copySparse } from "../../host/sparse-copy.ts";
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import type { UploadEnd } from "../../wire/protocol.ts";
import type { MicroVm } from "../microvm.ts";
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

/** How long a frozen disk waits for its host before the guest thaws it, and how often it is told to go on waiting, ms. */
const FROZEN_MS = 30_000;
const RENEW_MS = 10_000;
const CALL_MS = 60_000;

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

/**
 * Copies a workspace's disk as it stands, whole, with the list of what /workspace holds written on it. The guest's
 * writers wait meanwhile; a guest whose host is gone thaws by itself.
 */
export async function fixBaseline(
  vm: MicroVm,
  diskPath: string,
  baselinePath: string,
  signal: AbortSignal,
): Promise<void> {
  const options = { timeoutMs: CALL_MS, signal };
  const freeze = (writeManifest: boolean) =>
    vm.guest.call(
      (calls, call) => calls.freezeDisk({ deadlineMilliseconds: BigInt(FROZEN_MS), writeManifest }, call),
      options,
    );
  await freeze(true);
  let renewed: Promise<unknown> = Promise.resolve();
  const renew = setInterval(() => {
    renewed = freeze(false).catch(() => {});
  }, RENEW_MS);
  let wasFrozen = false;
  try {
    // Into the file that the microVM has on a drive.
    await copySparse(diskPath, baselinePath, { signal, durable: true, existing: true });
  } finally {
    clearInterval(renew);
    // One that came behind the thaw would freeze it again.
    await renewed;
    const thawed = vm.guest.call((calls, call) => calls.thawDisk({}, call), { timeoutMs: CALL_MS });
    const told = thawed.catch(() => ({ wasFrozen: false }));
    // Who gave up does not wait for a guest: it thaws by itself, if it is not ended before.
    if (!signal.aborted) ({ wasFrozen } = await told);
  }
  signal.throwIfAborted();
  if (!wasFrozen) {
    throw new PyroError("GUEST_UNRESPONSIVE", "The guest did not keep its disk still while it was copied.");
  }
}
