// The command line of a QEMU microVM. The device shape is an ABI between a template and everything restored from it:
// four drives, two guest ports, a random number source and a VM generation id, always and in this order.
import type { Drives, MachineSpec } from "../driver.ts";

/** Raised when the shape changes; part of every template's key. */
export const SHAPE_VERSION = 8;

export const ROLES = ["base", "writable", "aux", "baseline"] as const;
export type Role = (typeof ROLES)[number];

/** Those that no guest can write to. */
const READ_ONLY: readonly Role[] = ["base", "baseline"];

/** Sizes of drives that have no file yet. The guest keeps a read-only one's for good, so it is larger than any file there. */
const PLACEHOLDER_BYTES: Record<Role, number> = {
  base: 16 * 1024 ** 3,
  writable: 1024 ** 2,
  aux: 1024 ** 2,
  baseline: 1024 ** 4,
};

/** Names inside the microVM's directory. */
export const SOCKETS = {
  qmp: "qmp.sock",
  migration: "migration.sock",
} as const;

const MEMORY_FD = 3;
const FIRST_FILE_FD = 4;

/** Guest ports in the order of their numbers, from 1. The launcher keeps the host's end of each. */
export const PORTS = ["control", "net"] as const;

/** A file that the launcher hands over as a descriptor. Its place in the list is its descriptor. */
export interface HandedFile {
  readonly path: string;
  readonly readOnly: boolean;
}

export interface CommandLine {
  readonly args: string[];
  readonly files: HandedFile[];
}

function ports(firstFd: number): string[] {
  return PORTS.flatMap((port, index) => [
    "-chardev",
    `socket,id=${port},fd=${firstFd + index}`,
    "-device",
    `virtserialport,bus=vs.0,nr=${index + 1},chardev=${port},name=${port}`,
  ]);
}

/**
 * All that can be emulated, but for what makes each access to memory dearer: a fifth level of page tables, and a guard of
 * the guest's kernel against itself that ends a block of translated code wherever it reads what a program gave it.
 */
const EMULATED_CPU = "max,-smap,-la57";

function machine(spec: MachineSpec, kvm: boolean, sharedMemory: boolean, fileCount: number): string[] {
  return [
    "-nodefaults",
    "-no-user-config",
    "-display",
    "none",
    "-no-reboot",
    "-M",
    "q35,memory-backend=ram,smm=off,sata=off,smbus=off,usb=off,dump-guest-core=off",
    ...(kvm ? ["-accel", "kvm", "-cpu", "host"] : ["-accel", "tcg,thread=multi", "-cpu", EMULATED_CPU]),
    "-m",
    `${spec.memMib}M`,
    "-smp",
    `${spec.vcpuCount}`,
    "-object",
    `memory-backend-file,id=ram,size=${spec.memMib}M,mem-path=/proc/self/fd/${MEMORY_FD},share=${sharedMemory ? "on" : "off"}`,
    // The console goes to stdout, which the launcher keeps the head and tail of: a guest cannot fill the disk with it.
    "-chardev",
    "stdio,id=console,signal=off",
    "-serial",
    "chardev:console",
    "-device",
    "virtio-serial-pci,id=vs",
    ...ports(FIRST_FILE_FD + fileCount),
    "-qmp",
    `unix:${SOCKETS.qmp},server=on,wait=off`,
    // The launcher's own monitor, over which it passes descriptors.
    "-qmp",
    "unix:fd.sock,server=on,wait=off",
    "-object",
    "rng-random,id=rng,filename=/dev/urandom",
    "-device",
    "virtio-rng-pci,rng=rng",
    "-device",
    "vmgenid,guid=auto",
    "-sandbox",
    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
  ];
}

export function fileNode(name: string, fdSet: number, readOnly: boolean): Record<string, unknown> {
  return { driver: "file", "node-name": name, filename: `/dev/fdset/${fdSet}`, "read-only": readOnly, locking: "off" };
}

/** The node a drive's device sits on; what is below it can be exchanged. */
export function driveNode(role: Role, file: string, readOnly = READ_ONLY.includes(role)): Record<string, unknown> {
  return {
    driver: "raw",
    "node-name": role,
    file,
    "read-only": readOnly,
    ...(readOnly ? {} : { discard: "unmap" }),
  };
}

function drives(given: Drives, files: HandedFile[]): string[] {
  const args: string[] = [];
  ROLES.forEach((role, index) => {
    const file = given[role];
    const below = `${role}-file`;
    if (file === undefined) {
      args.push(
        "-blockdev",
        JSON.stringify({
          driver: "null-co",
          "node-name": below,
          size: PLACEHOLDER_BYTES[role],
          "read-zeroes": true,
          "read-only": READ_ONLY.includes(role),
        }),
      );
    } else {
      const fdSet = index + 1;
      args.push("-add-fd", `fd=${FIRST_FILE_FD + files.length},set=${fdSet}`);
      args.push("-blockdev", JSON.stringify(fileNode(below, fdSet, file.readOnly)));
      files.push({ path: file.path, readOnly: file.readOnly });
    }
    args.push("-blockdev", JSON.stringify(driveNode(role, below, role === "base" || file?.readOnly)));
    // A full host disk stops the microVM until there is room, and the guest hears of nothing; any other failure is the
    // guest's I/O error.
    args.push("-device", `virtio-blk-pci,drive=${role},id=drive-${role},werror=enospc,rerror=report`);
  });
  return args;
}

/**
 * What the guest leaves undone under emulation, where every instruction is dear when it runs and takes memory when it is
 * translated. None of it is anything that pyro's promises rest on.
 */
const EMULATED = [
  // Guards against the speculation of a CPU that there is not; its root would be the attacker anyway. A sixth of a start.
  "mitigations=off",
  // Security modules that ask for a policy: each file that is opened asks them. Landlock and the small ones stay.
  "lsm=landlock,lockdown,yama,bpf",
  // Statistics of pressure, and of the kernel's own memory by cgroup, at every switch and allocation.
  "psi=0",
  "cgroup.memory=nokmem,nosocket",
  // Pages of 2 MB, which emulation does not have, made of zeros before they are used; and zeros written twice.
  "transparent_hugepage=madvise",
  "init_on_alloc=0",
  // Watching over a clock that cannot drift from itself, and over CPUs that others already watch.
  "tsc=reliable",
  "nowatchdog",
  // For guestd, whose environment it is: no signals to its own goroutines, each of which runs for long enough to get some.
  "GODEBUG=asyncpreemptoff=1",
];

/** Boots a machine on memory that is shared with the template to be. */
export function prepareCommand(spec: MachineSpec, kvm: boolean): CommandLine {
  // By descriptor, as everything else: the VMM's user cannot reach the paths.
  const files: HandedFile[] = [
    { path: spec.kernel.path, readOnly: true },
    { path: spec.initramfs.path, readOnly: true },
  ];
  const boot = ["-kernel", `/proc/self/fd/${FIRST_FILE_FD}`, "-initrd", `/proc/self/fd/${FIRST_FILE_FD + 1}`];
  const kernel = [...boot, "-append", ["console=ttyS0 quiet panic=-1", ...(kvm ? [] : EMULATED)].join(" ")];
  return { args: [...machine(spec, kvm, true, files.length), ...drives({}, files), ...kernel], files };
}

/** Waits, stopped, for the device state on `stateFd` (QMP migrate-incoming), with the real files on its drives. */
export function restoreCommand(
  spec: MachineSpec,
  kvm: boolean,
  statePath: string,
  given: Drives,
): CommandLine & { stateFd: number } {
  const files: HandedFile[] = [{ path: statePath, readOnly: true }];
  const disks = drives(given, files);
  const args = [...machine(spec, kvm, false, files.length), ...disks, "-S", "-incoming", "defer"];
  return { args, files, stateFd: FIRST_FILE_FD };
}
