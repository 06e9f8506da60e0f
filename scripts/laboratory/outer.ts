// The outer guest: booted once, frozen when it waits for its first request, and thawed for each run.
import { closeSync, existsSync, openSync } from "node:fs";
import { link, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { sha256File } from "../../src/environments/digest.ts";
import { formatDisk } from "../../src/environments/disk.ts";
import { installation } from "../../src/host/installation.ts";
import { runProgram } from "../../src/host/spawn.ts";
import type { Cache, Recipe } from "./cache.ts";
import { GuestLost, LabError, persistently, type Say, within } from "./failure.ts";
import { firecracker } from "./firecracker.ts";
import { Machine, machineArguments, QEMU, type Shape } from "./machine.ts";
import { bootKernel, KERNEL, packInitramfs, ROOT_IMAGE, rootImage } from "./parts.ts";

/** Raised when the guest is made in another way that nothing else in the keys shows. */
const FORMAT = 1;

/** Kernel parameters that emulation needs to keep time and to be as quick as it can. */
const PARAMETERS = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable";
const DISK_MIB = 64 * 1024;
/** On a machine that is busy with something else; 10 s when it is idle. */
const BOOT_MS = 240_000;
const MIGRATION_MS = 60_000;

/** A frozen guest in the cache: paths of its files. */
export interface Outer {
  readonly root: string;
  readonly disk: string;
  readonly memory: string;
  readonly state: string;
  /** The kernel and the initramfs that it was booted with: good for a microVM in it, too. */
  readonly vmlinuz: string;
  readonly initramfs: string;
}

function filesIn(directory: string): Outer {
  const path = (name: string) => join(directory, name);
  return {
    root: path(ROOT_IMAGE),
    disk: path("disk"),
    memory: path("memory"),
    state: path("state"),
    vmlinuz: path(KERNEL),
    initramfs: path("initramfs"),
  };
}

/** The frozen guest, made when it is missing. Errors: LabError, PyroError of the builds. */
export async function outerGuest(cache: Cache, say: Say, signal: AbortSignal): Promise<Outer> {
  const labd = join(installation().root, "dist", "lab", "labd");
  if (!existsSync(labd)) throw new LabError("the lab's own program is not built yet: run `make setup`");
  const parts = { programs: firecracker(say, signal), image: rootImage(say, signal), kernel: bootKernel(say, signal) };
  const keys = Object.values(parts).map(({ key }) => key);
  const frozen: Recipe<unknown> = {
    kind: "guest",
    key: { FORMAT, keys, labd: await sha256File(labd, signal), qemu: await qemuVersion(signal), ...boot() },
    build: async (directory) => {
      const files = filesIn(directory);
      const kernel = cache.place(parts.kernel);
      // Links: what is frozen goes with these very files, and a newer root file system may take the place of this one.
      await link(join(cache.place(parts.image), ROOT_IMAGE), files.root);
      await link(join(kernel, KERNEL), files.vmlinuz);
      const sources = { labd, modules: join(kernel, "modules"), programs: cache.place(parts.programs) };
      await packInitramfs(sources, files.initramfs, join(directory, "tree"), signal);
      say("booting the outer guest, once");
      await persistently(() => freeze(files, directory, signal), say, signal);
    },
  };
  // Before the guest's own recipe: one that builds holds the cache's lock.
  if (!existsSync(cache.place(frozen))) {
    for (const part of Object.values(parts)) await cache.directoryOf(part, signal);
  }
  return filesIn(await cache.directoryOf(frozen, signal));
}

function boot() {
  return { machine: machineArguments(), PARAMETERS, DISK_MIB };
}

async function qemuVersion(signal: AbortSignal): Promise<string> {
  const options = { deadlineMs: 10_000, aptPackage: "qemu-system-x86", signal };
  return (await runProgram(QEMU, ["--version"], options)).stdout.split("\n")[0] ?? "";
}

/** Boots the guest and leaves its memory, disk and device state. Errors: GuestLost. */
async function freeze(files: Outer, directory: string, signal: AbortSignal): Promise<void> {
  for (const file of [files.disk, files.memory, files.state]) await rm(file, { force: true });
  await formatDisk(files.disk, DISK_MIB, signal);
  const machine = Machine.start(bootShape(files), directory);
  const abort = (): void => void machine.kill();
  signal.addEventListener("abort", abort, { once: true });
  try {
    await machine.channel.ready(BOOT_MS);
    await machine.qmp("stop");
    await machine.qmp("migrate-set-capabilities", { capabilities: IGNORE_SHARED });
    await machine.qmp("migrate", { uri: `exec:cat >'${files.state.replaceAll("'", "'\\''")}'` });
    await machine.migrated(MIGRATION_MS);
    await machine.qmp("quit").catch(() => {});
    await within(MIGRATION_MS, machine.ended, () => new Error("QEMU does not end"));
    if ((await stat(files.state)).size === 0) throw new Error("QEMU saved nothing");
  } catch (error) {
    signal.throwIfAborted();
    throw new GuestLost(`the outer guest could not be booted and frozen: ${(error as Error).message}\n${machine.said}`);
  } finally {
    signal.removeEventListener("abort", abort);
    await machine.kill();
  }
}

/**
 * Boots it anew, with a memory and a disk in the directory and on a network other than its own, whose state a frozen guest
 * has in it. Errors: GuestLost.
 */
export async function bootOn(netdev: string, outer: Outer, directory: string, signal: AbortSignal): Promise<Machine> {
  const files = { ...outer, disk: join(directory, "disk"), memory: join(directory, "memory") };
  await formatDisk(files.disk, DISK_MIB, signal);
  const machine = Machine.start({ ...bootShape(files), netdev }, directory);
  try {
    await machine.channel.ready(BOOT_MS);
    return machine;
  } catch (error) {
    await machine.kill();
    throw error;
  }
}

function bootShape(files: Outer): Shape {
  const more = ["-kernel", files.vmlinuz, "-initrd", files.initramfs, "-append", PARAMETERS];
  return { ...files, thawed: false, images: [], more };
}

/** Memory stays in its file, and is not part of the device state. */
const IGNORE_SHARED = [{ capability: "x-ignore-shared", state: true }];

/** Thaws the guest with a run's images on its drives. Errors: GuestLost. */
export async function thaw(outer: Outer, images: readonly number[], directory: string): Promise<Machine> {
  const state = openSync(outer.state, "r");
  try {
    const shape: Shape = { ...outer, thawed: true, images, more: ["-S", "-incoming", "defer"] };
    const machine = Machine.start(shape, directory, [state]);
    try {
      await machine.qmp("migrate-set-capabilities", { capabilities: IGNORE_SHARED });
      await machine.qmp("migrate-incoming", { uri: `fd:${Machine.firstFile(shape)}` });
      await machine.migrated(MIGRATION_MS);
      await machine.qmp("cont");
      return machine;
    } catch (error) {
      await machine.kill();
      throw new GuestLost(`the frozen outer guest could not be thawed: ${(error as Error).message}\n${machine.said}`);
    }
  } finally {
    closeSync(state);
  }
}
