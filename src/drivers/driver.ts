// The contract between the engine and a VMM. A driver starts, freezes, restores, attaches to and ends virtual
// machines; it knows nothing of workspaces, environments or commands.
import type { Duplex } from "node:stream";

export interface Kernel {
  /** Host path of the kernel, compressed as distributions have it, and its sha256. */
  readonly path: string;
  readonly sha256: string;
  /** Host path of the same kernel as an ELF file; made by the first call. */
  uncompressed(): Promise<string>;
}

/** What a template is made of; every field is part of its key. */
export interface MachineSpec {
  readonly vcpuCount: number;
  readonly memMib: number;
  readonly kernel: Kernel;
  /** Host path of the initramfs and its sha256. */
  readonly initramfs: { readonly path: string; readonly sha256: string };
}

/** A host file that becomes a drive. `virtualBytes` is what the guest sees as its size. */
export interface DriveFile {
  readonly path: string;
  readonly readOnly: boolean;
  readonly virtualBytes: number;
}

/**
 * The drives every microVM has from its first day; one that is not given is an empty placeholder. `base` and `baseline` are
 * read-only in the VMM itself: whatever the guest does, their files stay as they are.
 */
export interface Drives {
  readonly base?: DriveFile;
  readonly writable?: DriveFile;
  readonly aux?: DriveFile;
  readonly baseline?: DriveFile;
}

export type PortName = "control" | "net";

/** A running microVM, however it came up. */
export interface Machine {
  readonly vmId: string;
  /** The name, in the VMM's present directory, of the socket that its guest ports are reached by; none where each has its own. */
  readonly vsockSocket?: string;
  /** Resolves, with why in a sentence, when the microVM has ended for whatever reason. Never rejects. */
  readonly ended: Promise<string>;
  /**
   * Opens a byte stream to a guest port: one session of it, framed where the transport needs that.
   * Only one may be open per port; a second open ends the first.
   * Errors: MICROVM_LOST when the VMM has gone, GUEST_UNRESPONSIVE when the guest does not answer in time.
   */
  openPort(port: PortName, signal: AbortSignal): Promise<Duplex>;
  /** Attaches a file to a drive of a running microVM that has a placeholder there. */
  attach(role: keyof Drives, file: DriveFile): Promise<void>;
  /** Makes the guest see another size of a writable drive, bytes; the file has it already. */
  resize(role: "writable" | "aux", virtualBytes: number): Promise<void>;
  /**
   * Whether it stands still because the host had no room for what the guest wrote. Nothing is lost: `resume` writes it
   * again. `hostFreeMib` is what is free where its disk is: one whose VMM does not stop by itself is stopped here, while
   * there is some room left.
   */
  outOfRoom(hostFreeMib?: number): Promise<boolean>;
  /** With so much free, MiB, it may go on after that. */
  readonly roomToGoOnMib: number;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Ends it at once and returns when its processes are gone. Idempotent. */
  kill(): Promise<void>;
  /** The last part of the guest's console and the VMM's own messages, for errors. Never throws. */
  consoleTail(): Promise<string>;
  /** Lets go of the machine without ending it (the daemon stops, it runs on). */
  release(): void;
}

export interface Features {
  readonly acceleration: "kvm" | "tcg";
  readonly pause: boolean;
  /** A drive's file can be given to a microVM that runs already. */
  readonly hotAttach: boolean;
  /** The drives writable and aux take files that are read-only too. Where not, they get a copy. */
  readonly readOnlyDrives: boolean;
  /**
   * A microVM whose writes find no room on the host stands still at that very write. Where not, it is stopped with some
   * room left, and what it writes faster than that is looked at fails in the guest.
   */
  readonly stopsWhenFull: boolean;
}

/** A booted, frozen microVM on disk. */
export interface Template {
  /** sha256 over everything that went into it. */
  readonly key: string;
  readonly directory: string;
}

export interface Driver {
  readonly name: "qemu" | "firecracker";
  readonly features: Features;
  /** What shuts its VMM in, as a part of a sentence for people. */
  readonly fence: string;
  /** Names everything beside the MachineSpec that a template of this driver depends on: VMM build, arguments, CPU. */
  fingerprint(): Promise<string>;
  /**
   * Boots a machine until guestd says it is idle, freezes it and leaves the template in `directory` (which exists
   * and is empty). `ready` is given the control port and resolves when the guest may be frozen.
   */
  prepare(
    key: string,
    spec: MachineSpec,
    directory: string,
    ready: (control: Duplex) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<Template>;
  /** Lets go of what is held in memory for a template; microVMs that run on it keep theirs. Idempotent. */
  discard(key: string): Promise<void>;
  /** Checks the template and starts a microVM from it. Throws TemplateDamaged when it is not what was written. */
  restore(template: Template, spec: MachineSpec, vmId: string, options: RestoreOptions): Promise<Machine>;
}

export interface RestoreOptions {
  readonly drives: Drives;
  /** Ended when no daemon has claimed it for 60 s. */
  readonly ephemeral: boolean;
  readonly signal?: AbortSignal;
}

/** A template's bytes are not those that were frozen. The engine drops it and prepares another. */
export class TemplateDamaged extends Error {
  override readonly name = "TemplateDamaged";
}
