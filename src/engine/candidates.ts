// The ways to run a microVM that there could be on this host, best first: a driver each, or what is in its way. Nothing
// is started here; whether a KVM that may be opened also works is acceleration.ts's to find out.
import { access, constants, realpath } from "node:fs/promises";
import type { Driver } from "../drivers/driver.ts";
import { FirecrackerDriver } from "../drivers/firecracker/driver.ts";
import { findFirecracker, GET_FIRECRACKER } from "../drivers/firecracker/find.ts";
import { QemuDriver } from "../drivers/qemu/driver.ts";
import { findProgram } from "../host/resources.ts";
import type { Launcher } from "../launcher/launcher.ts";
import type { Paths } from "./paths.ts";
import type { Settings } from "./settings.ts";

export const QEMU = "qemu-system-x86_64";

export interface Way {
  readonly name: Driver["name"];
  readonly acceleration: "kvm" | "tcg";
}

/** Something that keeps this way from being gone, and the way out of it. */
export interface Obstacle {
  readonly message: string;
  readonly fix: string;
}

export type Candidate = Way &
  ({ readonly driver: Driver } | { readonly driver: undefined; readonly obstacle: Obstacle });

export async function candidates(paths: Paths, launcher: Launcher, settings: Settings): Promise<Candidate[]> {
  const confined = !settings.unconfined;
  const kvm = await mayOpenKvm();
  const firecracker = { name: "firecracker", acceleration: "kvm" } as const;
  const found: Candidate[] = [];
  const search = { given: settings.firecracker, tools: paths.tools, needsJailer: confined && process.getuid?.() === 0 };
  const program = await findFirecracker(search);
  if (program === undefined) {
    const obstacle = { message: "Firecracker was not found", fix: GET_FIRECRACKER };
    found.push({ ...firecracker, driver: undefined, obstacle });
  } else if (!("program" in program)) {
    found.push({ ...firecracker, driver: undefined, obstacle: program });
  } else if (!kvm) {
    found.push({ ...firecracker, driver: undefined, obstacle: NO_KVM });
  } else {
    found.push({ ...firecracker, driver: new FirecrackerDriver({ launcher, found: program, confined }) });
  }
  const qemu = await findProgram(QEMU);
  if (qemu === undefined) {
    const fix = "Install it: on Debian and Ubuntu the package is qemu-system-x86.";
    const obstacle = { message: `${QEMU} is not installed.`, fix };
    found.push({ name: "qemu", acceleration: "tcg", driver: undefined, obstacle });
    return found;
  }
  // QEMU looks for its firmware beside its own path, and in the sandbox /bin is not the link to /usr/bin that it is here.
  const options = { launcher, program: await realpath(qemu), confined };
  const underKvm = { name: "qemu", acceleration: "kvm" } as const;
  if (kvm) found.push({ ...underKvm, driver: new QemuDriver({ ...options, kvm: true }) });
  else found.push({ ...underKvm, driver: undefined, obstacle: NO_KVM });
  found.push({ name: "qemu", acceleration: "tcg", driver: new QemuDriver({ ...options, kvm: false }) });
  return found;
}

const NO_KVM: Obstacle = {
  message: "there is no /dev/kvm that this user may open",
  fix: "load the kvm module, or give this user the device: see KVM in docs/host-requirements.md",
};

async function mayOpenKvm(): Promise<boolean> {
  return await access("/dev/kvm", constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}
