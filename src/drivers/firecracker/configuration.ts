// What a Firecracker microVM is made of, as requests to its API. The device shape is an ABI between a template and
// everything restored from it: four drives, vsock for the guest ports and a random number source, always and in this
// order; the VM generation id is Firecracker's own doing. Files go by names in the VMM's present directory, the same in
// every microVM: the launcher puts there what is meant.
import type { DriveFile, Drives, MachineSpec, PortName } from "../driver.ts";
import type { Action } from "./api.ts";

/** Raised when the shape, the names or the boot arguments change; part of every template's key. */
export const SHAPE_VERSION = 2;

export const ROLES = ["base", "writable", "aux", "baseline"] as const;
export type Role = (typeof ROLES)[number];

/** Those that no guest can write to. */
const READ_ONLY: readonly Role[] = ["base", "baseline"];

/** Sockets that the VMM makes in its present directory. */
export const SOCKETS = { api: "api.sock", vsock: "v.sock" } as const;

/** Files that the launcher puts there. */
const NAMES = { kernel: "kernel", initramfs: "initramfs", state: "state", memory: "memory" } as const;

/** Guest ports by vsock's numbers (go/internal/ports). */
export const PORTS: Readonly<Record<PortName, number>> = { control: 1024, net: 1025 };

/** Sizes of drives that have no file yet. The guest looks at a base before it has heard of its size, so none is larger. */
const PLACEHOLDER_BYTES: Readonly<Record<Role, number>> = {
  base: 16 * 1024 ** 3,
  writable: 1024 ** 2,
  aux: 1024 ** 2,
  baseline: 1024 ** 2,
};

/** The memory that the launcher lends a VMM which inherits descriptors. */
const LENT_MEMORY = "/proc/self/fd/3";

/**
 * A guest ends by a reset, there is no other way (reboot=k, which guestd goes by); what Firecracker has not got is not
 * looked for.
 */
const BOOT_ARGUMENTS =
  "console=ttyS0 quiet reboot=k panic=-1 pci=off i8042.noaux i8042.nomux i8042.nopnp i8042.dumbkbd";

/** A file for the launcher to put into the VMM's present directory: VmFile in proto/pyro/launch/v1. */
export interface NamedFile {
  readonly name: string;
  readonly path?: string;
  readonly emptyBytes?: bigint;
  readonly readOnly: boolean;
}

/** Where a template's state and memory are, on the host. */
export interface FrozenFiles {
  readonly state: string;
  readonly memory: string;
}

export const PROGRAM_ARGUMENTS = ["--api-sock", SOCKETS.api, "--level", "Warning"] as const;

/** Everything a first boot needs, and the two files that it is frozen into. */
export function bootFiles(spec: MachineSpec, kernel: string, frozen: FrozenFiles): NamedFile[] {
  return [
    { name: NAMES.kernel, path: kernel, readOnly: true },
    { name: NAMES.initramfs, path: spec.initramfs.path, readOnly: true },
    { name: NAMES.state, path: frozen.state, readOnly: false },
    { name: NAMES.memory, path: frozen.memory, readOnly: false },
    ...driveFiles({}),
  ];
}

export function bootActions(spec: MachineSpec): [Action, ...Action[]] {
  return [
    put("/machine-config", {
      vcpu_count: spec.vcpuCount,
      mem_size_mib: spec.memMib,
      smt: false,
      // For freezeAction.
      track_dirty_pages: true,
    }),
    put("/boot-source", {
      kernel_image_path: NAMES.kernel,
      initrd_path: NAMES.initramfs,
      boot_args: BOOT_ARGUMENTS,
    }),
    ...ROLES.map((role) =>
      put(`/drives/${role}`, {
        drive_id: role,
        path_on_host: role,
        is_root_device: false,
        is_read_only: READ_ONLY.includes(role),
        // What a guest has synced is on the host's disk.
        cache_type: READ_ONLY.includes(role) ? "Unsafe" : "Writeback",
        // A write that fails is the guest's I/O error, in its turn.
        io_engine: "Sync",
      }),
    ),
    put("/vsock", { guest_cid: 3, uds_path: SOCKETS.vsock }),
    put("/entropy", {}),
    put("/actions", { action_type: "InstanceStart" }),
  ];
}

/**
 * What changed since a boot is all there is: the rest of the memory is zeros, and holes in the file. A full snapshot would
 * write every byte of it, 4 s against 1 s for 512 MiB in the lab; apart from what Firecracker itself does to the guest at
 * a snapshot, the two files were the same.
 */
export function freezeAction(): Action {
  return put("/snapshot/create", {
    snapshot_type: "Diff",
    snapshot_path: NAMES.state,
    mem_file_path: NAMES.memory,
  });
}

/** `memory` is not given for a VMM that is lent one. */
export function restoreFiles(state: string, memory: string | undefined, drives: Drives): NamedFile[] {
  return [
    { name: NAMES.state, path: state, readOnly: true },
    ...(memory === undefined ? [] : [{ name: NAMES.memory, path: memory, readOnly: true }]),
    ...driveFiles(drives),
  ];
}

export function loadAction(memoryByName: boolean): Action {
  return put("/snapshot/load", {
    snapshot_path: NAMES.state,
    mem_backend: { backend_type: "File", backend_path: memoryByName ? NAMES.memory : LENT_MEMORY },
    resume_vm: false,
  });
}

/** The guest knows the size of the template's drive: it is told that of the file which is there now. */
export function resizeAction(role: Role): Action {
  return { method: "PATCH", path: `/drives/${role}`, body: { drive_id: role, path_on_host: role } };
}

export function stateAction(state: "Paused" | "Resumed"): Action {
  return { method: "PATCH", path: "/vm", body: { state } };
}

function driveFiles(drives: Drives): NamedFile[] {
  return ROLES.map((role) => {
    const file: DriveFile | undefined = drives[role];
    if (file !== undefined) return { name: role, path: file.path, readOnly: file.readOnly };
    return { name: role, emptyBytes: BigInt(PLACEHOLDER_BYTES[role]), readOnly: READ_ONLY.includes(role) };
  });
}

function put(path: string, body: Readonly<Record<string, unknown>>): Action {
  return { method: "PUT", path, body };
}
