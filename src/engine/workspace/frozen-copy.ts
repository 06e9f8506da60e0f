// A copy of the disk of a workspace that runs, as it stands whole: the guest's writers wait while it is made, and a guest
// whose host is gone thaws by itself.
import { rm } from "node:fs/promises";
import { ConnectError } from "@connectrpc/connect";
import { PyroError } from "../../errors/error.ts";
import { copyDisk, settleDisk } from "../disk-copy.ts";
import type { MicroVm } from "../microvm.ts";

/** How long a frozen disk waits for its host before the guest thaws it, and how often it is told to go on waiting, ms. */
const FROZEN_MS = 30_000;
const RENEW_MS = 10_000;
const CALL_MS = 60_000;

export interface FrozenCopyOptions {
  /** With the list of what /workspace holds written on it first. */
  readonly writeManifest: boolean;
  /** The file `to` is there already, and is filled. */
  readonly existing?: boolean;
  readonly signal: AbortSignal;
}

/**
 * Nothing is at `to` after a failure.
 * Errors: HOST_DISK_FULL, HOST_IO_FAILED, GUEST_UNRESPONSIVE, MICROVM_LOST; the signal's reason.
 */
export async function copyFrozen(
  vm: MicroVm,
  from: string,
  to: string,
  { writeManifest, existing = false, signal }: FrozenCopyOptions,
): Promise<void> {
  await freeze(vm, writeManifest, signal);
  let renewed: Promise<unknown> = Promise.resolve();
  const renew = setInterval(() => {
    renewed = freeze(vm, false, signal).catch(() => {});
  }, RENEW_MS);
  try {
    await copyDisk(from, to, signal, existing);
  } catch (error) {
    clearInterval(renew);
    await renewed;
    // Who gives up does not wait for a guest: it thaws by itself, if it is not ended before.
    const thawed = thaw(vm).catch(() => {});
    if (!signal.aborted) await thawed;
    throw error;
  }
  clearInterval(renew);
  // One that came behind the thaw would freeze it again.
  await renewed;
  try {
    if (!(await thaw(vm))) {
      throw new PyroError("GUEST_UNRESPONSIVE", "The guest did not keep its disk still while it was copied.");
    }
    signal.throwIfAborted();
  } catch (error) {
    await rm(to, { force: true });
    throw error;
  }
  // Nobody in the guest waits for this any more.
  await settleDisk(to);
}

async function freeze(vm: MicroVm, writeManifest: boolean, signal: AbortSignal): Promise<void> {
  const wanted = { deadlineMilliseconds: BigInt(FROZEN_MS), writeManifest };
  await vm.guest
    .call((calls, call) => calls.freezeDisk(wanted, call), { timeoutMs: CALL_MS, signal })
    .catch(refused("hold its disk still"));
}

/** Lets a guest that may still be held go on. False when it was not held any more: what was copied is torn then. */
export async function thaw(vm: MicroVm): Promise<boolean> {
  const { wasFrozen } = await vm.guest
    .call((calls, call) => calls.thawDisk({}, call), { timeoutMs: CALL_MS })
    .catch(refused("go on with its disk"));
  return wasFrozen;
}

function refused(what: string): (error: unknown) => never {
  return (error) => {
    if (!(error instanceof ConnectError)) throw error;
    throw new PyroError("GUEST_UNRESPONSIVE", `The guest could not ${what}: ${error.rawMessage}`, { cause: error });
  };
}
