// What a microVM may ask of this host: the contract's limits are in the rows, the host's own are here.
import { PyroError } from "../errors/error.ts";
import { freeDiskMib, hostCpus, hostMemory } from "../host/resources.ts";
import type { Paths } from "./paths.ts";

/** Memory that stays free for the host itself, MiB. */
export const MEMORY_RESERVE_MIB = 512;
/** Least free disk with which anything is begun, MiB. A writable disk takes only what is written to it. */
const DISK_RESERVE_MIB = 256;

type Size = { readonly vcpu_count: number; readonly mem_mib: number };

/** What no state of this host could give. Errors: LIMIT_EXCEEDED. */
export async function checkSize(size: Size): Promise<void> {
  const cpus = hostCpus();
  if (size.vcpu_count > cpus) {
    throw new PyroError("LIMIT_EXCEEDED", `${size.vcpu_count} virtual CPUs were asked for; this host has ${cpus}.`);
  }
  const most = (await hostMemory()).totalMib - MEMORY_RESERVE_MIB;
  if (size.mem_mib > most) {
    throw new PyroError(
      "LIMIT_EXCEEDED",
      `${size.mem_mib} MiB of memory were asked for; this host can give ${most} MiB.`,
    );
  }
}

/** What the host cannot give just now. Errors: HOST_MEMORY_SHORT. */
export async function checkMemory(size: Size): Promise<void> {
  const free = (await hostMemory()).availableMib - MEMORY_RESERVE_MIB;
  if (size.mem_mib > free) {
    throw new PyroError(
      "HOST_MEMORY_SHORT",
      `${size.mem_mib} MiB of memory were asked for; ${Math.max(0, free)} MiB are free beside the host's reserve.`,
    );
  }
}

/** Errors: HOST_DISK_FULL. */
export async function checkDisk(paths: Paths): Promise<void> {
  const disk = await freeDiskMib(paths.state);
  if (disk < DISK_RESERVE_MIB) {
    throw new PyroError(
      "HOST_DISK_FULL",
      `${disk} MiB are free below ${paths.state}; ${DISK_RESERVE_MIB} MiB are needed.`,
    );
  }
}
