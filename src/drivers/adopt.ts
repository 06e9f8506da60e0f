// Takes up a microVM that runs already, whichever driver started it: a new daemon finds what an earlier one left.
import type { Launcher } from "../launcher/launcher.ts";
import type { Machine } from "./driver.ts";
import { FirecrackerMachine } from "./firecracker/machine.ts";
import { QemuMachine } from "./qemu/machine.ts";

/** Undefined when it does not run any more, or when its driver is not known to this version. */
export async function adoptMachine(launcher: Launcher, vmId: string): Promise<Machine | undefined> {
  const end = launcher.whenEnded(vmId);
  const vm = (await launcher.vms()).find((candidate) => candidate.vmId === vmId);
  if (vm?.running && vm.labels.driver === "qemu") return new QemuMachine(launcher, vmId, vm.directory, end);
  if (vm?.running && vm.labels.driver === "firecracker") return new FirecrackerMachine(launcher, vmId, vm, end, true);
  launcher.forget(vmId);
  return undefined;
}
