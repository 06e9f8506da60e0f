// What the launcher holds when a daemon begins: whoever has a record of a microVM takes it up, the rest is nobody's.
import type { Vm } from "../gen/pyro/launch/v1/launch_pb.js";
import type { Launcher } from "../launcher/launcher.ts";

/** By the launcher's name for them. */
export type KnownVms = Map<string, Vm>;

export async function knownVms(launcher: Launcher): Promise<KnownVms> {
  return new Map((await launcher.vms()).map((vm) => [vm.vmId, vm]));
}

/**
 * Ends what nobody took up: half-made ones, templates in the making, idle ones of a pool, and the last words of those
 * that ended while no daemon was there.
 */
export async function endUnknown(launcher: Launcher, left: KnownVms): Promise<void> {
  for (const vmId of left.keys()) {
    await launcher.call((calls, options) => calls.killVm({ vmId }, options)).catch(() => {});
  }
}
