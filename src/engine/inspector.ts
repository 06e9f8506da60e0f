// An inspector: a microVM that looks at the disks of a workspace and never runs anything of them. The host parses no guest's
// file system; here one is, and what becomes of it is nobody's loss. Nothing of an inspector is left when it ends, and what a
// daemon that was killed left of it goes with the start of the next.
import { randomBytes } from "node:crypto";
import { mkdir, rm } from "node:fs/promises";
import { join } from "node:path";
import type { DriveFile } from "../drivers/driver.ts";
import { PyroError } from "../errors/error.ts";
import { Attachment } from "../gen/pyro/guest/v1/inspect_pb.js";
import type { GuestClient } from "../guest/client.ts";
import { copySparse } from "../host/sparse-copy.ts";
import type { DiskUser } from "./disk-watch.ts";
import { checkDisk } from "./limits.ts";
import type { Machines } from "./machines.ts";
import type { MicroVm } from "./microvm.ts";
import type { Paths } from "./paths.ts";
import type { Prepared } from "./preparation.ts";
import type { Progress } from "./templates.ts";
import { fileRefusal } from "./workspace/file-refusal.ts";

/** Mounting, with a journal to be replayed, on a loaded host, ms. */
const MOUNT_MS = 60_000;
const MOST_TAIL = 4000;
/** What the kernel says when it cannot go on. */
const KERNEL_DIED = /Kernel panic|kernel BUG|Oops:|general protection|BUG: /;

export interface InspectorContext {
  readonly paths: Paths;
  readonly machines: Machines;
}

/** What is looked at. */
export interface InspectedDisks {
  /** A workspace's disk: it is not written to. */
  readonly disk: DriveFile;
  /** Its journal is likely not empty, so that it is copied at once. */
  readonly dirty: boolean;
  /** Another disk of the workspace that is not written to either (`readOnly`), or a file with a new file system on it. */
  readonly aux?: DriveFile | undefined;
  /** Where what its changes are compared with is, if there is any. */
  readonly baselinePath?: string | undefined;
}

export class Inspector implements DiskUser {
  /** Calls about disks go here: ListDisk and the like, see proto/pyro/guest/v1/inspect.proto. */
  readonly guest: GuestClient;
  /** Resolves when it has ended, by itself too. */
  readonly ended: Promise<void>;
  /** Aborts, with why, when it cannot go on. */
  readonly failed: AbortSignal;
  readonly #vm: MicroVm;
  readonly #directory: string;
  readonly #failing = new AbortController();
  readonly #over = Promise.withResolvers<void>();
  #end: Promise<void> | undefined;

  private constructor(vm: MicroVm, directory: string) {
    this.#vm = vm;
    this.#directory = directory;
    this.guest = vm.guest;
    this.ended = this.#over.promise;
    void vm.machine.ended.then(() => this.#over.resolve());
    this.failed = this.#failing.signal;
  }

  /**
   * Starts one with the disks mounted; on failure nothing of it is left. A disk is attached read-only where the driver can,
   * and its journal is empty; else a copy of it is.
   * Errors: DISK_DAMAGED; those of Machines.inspector and copySparse; the signal's reason.
   */
  static async start(
    context: InspectorContext,
    prepared: Prepared,
    disks: InspectedDisks,
    signal: AbortSignal,
    progress: Progress = () => {},
  ): Promise<Inspector> {
    await checkDisk(context.paths);
    const name = `inspect-${randomBytes(8).toString("hex")}`;
    const directory = join(context.paths.inspections, name);
    await mkdir(directory, { recursive: true, mode: 0o700 });
    try {
      const copies = { disk: disks.dirty, aux: false };
      for (let turn = 0; ; turn++) {
        const drives = await attachable(prepared, disks, copies, directory, signal);
        const { baselinePath } = disks;
        const options = { machineId: `${name}-${turn}`, ...drives.files, baselinePath, signal };
        const vm = await context.machines.inspector(prepared, options, progress);
        const needs = await mount(vm, prepared, drives.attachments, signal);
        if (needs === undefined) return new Inspector(vm, directory);
        await vm.kill();
        // A guest that wants what it has been given is not asked for ever.
        if (turn >= 2 || (copies.disk && copies.aux)) throw damaged("Its journal cannot be replayed.");
        copies.disk ||= needs.disk;
        copies.aux ||= needs.aux;
      }
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  async outOfRoom(freeMib: number): Promise<boolean> {
    return await this.#vm.machine.outOfRoom(freeMib);
  }

  get roomToGoOnMib(): number {
    return this.#vm.machine.roomToGoOnMib;
  }

  /** What it writes is thrown away, so it does not wait for room. */
  noRoom(error: PyroError): void {
    this.#failing.abort(error);
  }

  async roomAgain(): Promise<void> {}

  /** What a failed call means: the guest's refusals as errors, and a kernel that died of what it read as a damaged disk. */
  async explain(error: unknown): Promise<unknown> {
    if (this.failed.aborted) return this.failed.reason;
    return await explained(this.#vm, error);
  }

  /** Ends it at once and removes what it had. Idempotent. */
  end(): Promise<void> {
    this.#end ??= this.#vm.kill().finally(async () => {
      await rm(this.#directory, { recursive: true, force: true });
      this.#over.resolve();
    });
    return this.#end;
  }
}

type Which = { disk: boolean; aux: boolean };

/** The drives' files, and how they are attached; copies are made where they are needed. */
async function attachable(
  { driver }: Prepared,
  { disk, aux }: InspectedDisks,
  copies: Which,
  directory: string,
  signal: AbortSignal,
) {
  const readOnly = driver.features.readOnlyDrives;
  const attach = async (file: DriveFile, asCopy: boolean, name: string): Promise<[DriveFile, Attachment]> => {
    if (readOnly && !asCopy) return [{ ...file, readOnly: true }, Attachment.READ_ONLY];
    const path = join(directory, name);
    // One of an earlier turn was written to.
    await rm(path, { force: true });
    await copySparse(file.path, path, { signal });
    return [{ ...file, path, readOnly: false }, Attachment.COPY];
  };
  const [writable, ofDisk] = await attach(disk, copies.disk, "disk.ext4");
  if (aux === undefined) return { files: { writable }, attachments: { disk: ofDisk, aux: Attachment.UNSPECIFIED } };
  const [auxFile, ofAux] = aux.readOnly ? await attach(aux, copies.aux, "aux.ext4") : [aux, Attachment.EMPTY];
  return { files: { writable, aux: auxFile }, attachments: { disk: ofDisk, aux: ofAux } };
}

/** What has to be replayed first; undefined when all is mounted. On failure the microVM is gone. */
async function mount(
  vm: MicroVm,
  { environment }: Prepared,
  attachments: { disk: Attachment; aux: Attachment },
  signal: AbortSignal,
): Promise<Which | undefined> {
  try {
    const request = { baseType: environment.baseType, ...attachments };
    const told = await vm.guest.call((calls, options) => calls.mountInspection(request, options), {
      timeoutMs: MOUNT_MS,
      signal,
    });
    if (!told.diskNeedsReplay && !told.auxNeedsReplay) return undefined;
    return { disk: told.diskNeedsReplay, aux: told.auxNeedsReplay };
  } catch (error) {
    const why = await explained(vm, error);
    await vm.kill();
    throw why;
  }
}

async function explained(vm: MicroVm, error: unknown): Promise<unknown> {
  if (!(error instanceof PyroError) || error.code !== "MICROVM_LOST") return fileRefusal(error);
  const tail = (await vm.machine.consoleTail()).trim().slice(-MOST_TAIL);
  if (!KERNEL_DIED.test(tail)) return error;
  return damaged("The inspector's kernel did not survive reading it.", { console_tail: tail }, error);
}

function damaged(why: string, details: Record<string, unknown> = {}, cause?: unknown): PyroError {
  return new PyroError("DISK_DAMAGED", `The workspace's disk cannot be read: ${why}`, { details, cause });
}
