// What the outer guest is made of, and the guest itself: booted once and frozen when it waits for its first request.
import { closeSync, existsSync, openSync } from "node:fs";
import { copyFile, mkdir, readdir, rename, rm, stat, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { buildRecipe } from "../../src/environments/build.ts";
import { sha256File } from "../../src/environments/digest.ts";
import { fetchKernel } from "../../src/environments/kernel.ts";
import { installation } from "../../src/host/installation.ts";
import { runProgram } from "../../src/host/spawn.ts";
import type { Cache, Recipe } from "./cache.ts";
import { GuestLost, LabError, type Say, within } from "./failure.ts";
import { firecracker } from "./firecracker.ts";
import { Machine, machineArguments, QEMU, type Shape } from "./machine.ts";

/** Raised when the guest is made in another way that nothing else in the keys shows. */
const FORMAT = 1;

/** What pyro needs in it, and what helps to look into it. */
const ROOT = {
  environment: "lab",
  codename: "bookworm",
  variant: "minbase",
  packages: ["bubblewrap", "cpio", "curl", "e2fsprogs", "git", "iproute2", "procps", "squashfs-tools", "strace"],
  env: {},
} as const;

const MODULES = [
  ...["virtio_pci", "virtio_blk", "virtio_console", "virtio_rng", "virtio_net"],
  ...["squashfs", "overlay", "loop", "tun", "kvm_amd"],
] as const;

/** Kernel parameters that emulation needs to keep time and to be as quick as it can. */
const PARAMETERS = "console=ttyS0 quiet panic=-1 mitigations=off no_timer_check tsc=reliable";
const DISK_BYTES = 64 * 1024 ** 3;
/** On a machine that is busy with something else; 10 s when it is idle. */
const BOOT_MS = 240_000;
const MIGRATION_MS = 60_000;

/** A frozen guest in the cache. */
export interface Outer {
  readonly root: string;
  readonly disk: string;
  readonly memory: string;
  readonly state: string;
  /** The kernel and the initramfs that it was booted with: good for a microVM in it, too. */
  readonly vmlinuz: string;
  readonly initramfs: string;
}

/** The frozen guest, made when it is missing. Errors: LabError, PyroError of the builds. */
export async function outerGuest(cache: Cache, say: Say, signal: AbortSignal): Promise<Outer> {
  const labd = join(installation().root, "dist", "lab", "labd");
  if (!existsSync(labd)) throw new LabError("the lab's own program is not built yet: run `make setup`");
  const programs = firecracker(say, signal);
  const image = rootImage(say, signal);
  const kernel = bootKernel(say, signal);
  const parts = { programs: programs.key, image: image.key, kernel: kernel.key };
  const frozen: Recipe<unknown> = {
    kind: "guest",
    key: { FORMAT, parts, labd: await sha256File(labd, signal), qemu: await qemuVersion(signal), ...boot() },
    build: async (directory) => {
      const initramfs = join(directory, "initramfs");
      const sources = { labd, kernel: cache.place(kernel), programs: cache.place(programs) };
      await packInitramfs(sources, initramfs, join(directory, "tree"), signal);
      await freeze(directory, { root: join(cache.place(image), ROOT_IMAGE), kernel: cache.place(kernel) }, say, signal);
    },
  };
  // Not in the recipe of the guest: what is built holds the cache's lock.
  if (!existsSync(cache.place(frozen))) {
    for (const part of [programs, kernel, image]) await cache.directoryOf(part, signal);
  }
  const directory = await cache.directoryOf(frozen, signal);
  const root = join(await cache.directoryOf(image, signal), ROOT_IMAGE);
  const vmlinuz = join(await cache.directoryOf(kernel, signal), "vmlinuz");
  return { root, vmlinuz, ...filesIn(directory) };
}

function filesIn(directory: string) {
  const path = (name: string) => join(directory, name);
  return { disk: path("disk"), memory: path("memory"), state: path("state"), initramfs: path("initramfs") };
}

function boot() {
  return { machine: machineArguments(), PARAMETERS, DISK_BYTES };
}

async function qemuVersion(signal: AbortSignal): Promise<string> {
  const options = { deadlineMs: 10_000, aptPackage: "qemu-system-x86", signal };
  return (await runProgram(QEMU, ["--version"], options)).stdout.split("\n")[0] ?? "";
}

const ROOT_IMAGE = "root.squashfs";

function rootImage(say: Say, signal: AbortSignal): Recipe<unknown> {
  return {
    kind: "root",
    key: { FORMAT, ROOT },
    build: async (directory) => {
      say("building the outer guest's file system (a minute or two)");
      const staging = join(directory, "staging");
      await mkdir(staging);
      const logPath = join(directory, "build.log");
      const image = await buildRecipe(ROOT, { staging, logPath, signal, onProgress: () => {} });
      await rename(image, join(directory, ROOT_IMAGE));
      await rm(staging, { recursive: true });
    },
  };
}

function bootKernel(say: Say, signal: AbortSignal): Recipe<unknown> {
  return {
    kind: "kernel",
    key: { FORMAT, MODULES },
    build: async (directory) => {
      say("fetching the outer guest's kernel");
      const staging = join(directory, "staging");
      await mkdir(staging);
      const fetched = await fetchKernel(staging, () => {}, signal, MODULES);
      for (const name of await readdir(fetched.directory)) {
        await rename(join(fetched.directory, name), join(directory, name));
      }
      await rm(staging, { recursive: true });
    },
  };
}

interface InitramfsSources {
  readonly labd: string;
  readonly kernel: string;
  readonly programs: string;
}

/** Packs labd as /init, the modules and the programs; `tree` is for the while. */
async function packInitramfs(
  { labd, kernel, programs }: InitramfsSources,
  output: string,
  tree: string,
  signal: AbortSignal,
): Promise<void> {
  const names = ["init"];
  await mkdir(tree);
  await copyFile(labd, join(tree, "init"));
  for (const [name, from] of [
    ["modules", join(kernel, "modules")],
    ["programs", programs],
  ] as const) {
    await mkdir(join(tree, name));
    names.push(name);
    for (const file of (await readdir(from)).sort()) {
      await copyFile(join(from, file), join(tree, name, file));
      names.push(`${name}/${file}`);
    }
  }
  for (const name of names) await utimes(join(tree, name), 0, 0);
  const args = ["--create", "--format=newc", "--owner=+0:+0", "--quiet", `--file=${output}`];
  const options = { cwd: tree, input: `${names.join("\n")}\n`, aptPackage: "cpio", deadlineMs: 60_000, signal };
  const result = await runProgram("cpio", args, { ...options, bound: true });
  if (result.exitCode !== 0) throw new LabError(`cpio could not pack the initramfs: ${result.tail}`);
  await rm(tree, { recursive: true });
}

interface FreezeSources {
  readonly root: string;
  readonly kernel: string;
}

/** Boots the guest in `directory` and leaves its memory, disk and device state there. */
async function freeze(directory: string, sources: FreezeSources, say: Say, signal: AbortSignal): Promise<void> {
  const files = filesIn(directory);
  await writeFile(files.disk, "");
  const format = ["-q", "-E", "lazy_itable_init=1,lazy_journal_init=1", files.disk, `${DISK_BYTES / 1024}k`];
  const formatted = await runProgram("mkfs.ext4", format, { deadlineMs: 60_000, aptPackage: "e2fsprogs", signal });
  if (formatted.exitCode !== 0) throw new LabError(`mkfs.ext4 failed: ${formatted.tail}`);
  say("booting the outer guest, once");
  const shape: Shape = {
    ...files,
    root: sources.root,
    thawed: false,
    images: [],
    more: [...["-kernel", join(sources.kernel, "vmlinuz"), "-initrd", files.initramfs, "-append", PARAMETERS]],
  };
  const machine = Machine.start(shape, directory);
  const abort = (): void => void machine.kill();
  signal.addEventListener("abort", abort, { once: true });
  try {
    await machine.channel.ready(BOOT_MS);
    await machine.qmp("stop");
    await machine.qmp("migrate-set-capabilities", { capabilities: IGNORE_SHARED });
    await machine.qmp("migrate", { uri: `exec:cat >'${files.state.replaceAll("'", "'\\''")}'` });
    await machine.migrated(MIGRATION_MS);
    await machine.qmp("quit").catch(() => {});
    await within(MIGRATION_MS, machine.ended, () => new GuestLost("QEMU does not end after the freeze"));
    if ((await stat(files.state)).size === 0) throw new LabError("QEMU saved nothing of the outer guest");
  } catch (error) {
    signal.throwIfAborted();
    throw new LabError(`the outer guest could not be booted and frozen: ${(error as Error).message}\n${machine.said}`);
  } finally {
    signal.removeEventListener("abort", abort);
    await machine.kill();
  }
}

/** Memory stays in its file, and is not part of the device state. */
const IGNORE_SHARED = [{ capability: "x-ignore-shared", state: true }];

/** Thaws the guest with a run's images on its drives. Errors: whatever QEMU says. */
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
