// What the outer guest is made of: its root file system and its kernel, as pyro makes those of microVMs, and the
// initramfs that has the guest's one program.
import { copyFile, mkdir, readdir, rename, rm, utimes } from "node:fs/promises";
import { join } from "node:path";
import { buildRecipe } from "../../src/environments/build.ts";
import { fetchKernel } from "../../src/environments/kernel.ts";
import { runProgram } from "../../src/host/spawn.ts";
import type { Recipe } from "./cache.ts";
import { LabError, type Say } from "./failure.ts";

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

/** Names in the directories that the recipes make. */
export const ROOT_IMAGE = "root.squashfs";
export const KERNEL = "vmlinuz";

/** Makes a directory with ROOT_IMAGE. */
export function rootImage(say: Say, signal: AbortSignal): Recipe<unknown> {
  return {
    kind: "root",
    key: { ROOT },
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

/** Makes a directory with KERNEL and its modules. */
export function bootKernel(say: Say, signal: AbortSignal): Recipe<unknown> {
  return {
    kind: "kernel",
    key: { MODULES },
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

export interface InitramfsSources {
  readonly labd: string;
  /** Directories: of modules, and of programs for the guest's /usr/local/bin. */
  readonly modules: string;
  readonly programs: string;
}

/** Packs labd as /init, the modules and the programs; `tree` is there for the while. */
export async function packInitramfs(
  { labd, modules, programs }: InitramfsSources,
  output: string,
  tree: string,
  signal: AbortSignal,
): Promise<void> {
  const names = ["init"];
  await mkdir(tree);
  await copyFile(labd, join(tree, "init"));
  for (const [name, from] of [
    ["modules", modules],
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
