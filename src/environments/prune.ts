// Removes what nothing needs any more: images without a name and without a user, boot artifacts that newer ones took the
// place of, what killed builds left, and logs.
import { lstat, readdir, rename, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Paths } from "../engine/paths.ts";
import type { Boot } from "./boot.ts";
import type { Holds } from "./holds.ts";
import { readDigests, readNames } from "./images.ts";
import { layout } from "./layout.ts";
import { staleStaging, withStaging } from "./staging.ts";

export interface PruneOptions {
  /** Also images that have a name, when nothing uses them. */
  readonly all: boolean;
  /** Removes nothing, only says what would be. */
  readonly dryRun: boolean;
}

/** In the names of the wire. */
export interface RemovedThing {
  readonly kind: "image" | "kernel" | "boot" | "staging" | "log";
  /** Digest of an image, else the name of what it was on disk. */
  readonly name: string;
  /** Names that stood for the image. */
  readonly environments: string[];
  readonly size_bytes: number;
}

type Remove = (kind: RemovedThing["kind"], path: string, name: string, environments?: string[]) => Promise<void>;

interface PruneContext {
  readonly paths: Paths;
  readonly holds: Holds;
  readonly boot: Boot;
}

/** Removes it, or only says what would go. An image is only ever removed whole, when nobody holds it. */
export async function prune(context: PruneContext, options: PruneOptions): Promise<RemovedThing[]> {
  if (options.dryRun) return await removeAll(context, options, async () => {});
  // Whatever goes is renamed away in an instant and then removed: nobody ever finds a half of it, and what a killed
  // daemon did not get to is a staging directory of nobody.
  return await withStaging(context.paths.environments, (trash) =>
    removeAll(context, options, (path, number) => rename(path, join(trash, String(number)))),
  );
}

async function removeAll(
  { paths, holds, boot }: PruneContext,
  options: PruneOptions,
  away: (path: string, number: number) => Promise<void>,
): Promise<RemovedThing[]> {
  const removed: RemovedThing[] = [];
  let number = 0;
  const remove: Remove = async (kind, path, name, environments = []) => {
    const size_bytes = await bytesOnDisk(path);
    // Another prune, or whoever had it, was faster: it is theirs to tell of.
    if (size_bytes === undefined || (await isGone(away(path, number++)))) return;
    removed.push({ kind, name, environments, size_bytes });
  };
  await holds.exclusively(async () => {
    const names = await readNames(paths);
    for (const digest of await readDigests(paths)) {
      const called = [...names].filter(([, facts]) => facts?.digest === digest).map(([environment]) => environment);
      if (holds.isHeld(digest) || called.some((environment) => holds.isWanted(environment))) continue;
      if (called.length > 0 && !options.all) continue;
      for (const environment of options.dryRun ? [] : called)
        await rm(layout.name(paths, environment), { force: true });
      await remove("image", layout.image(paths, digest), digest, called);
    }
    // Names whose image is gone or damaged stand for nothing.
    for (const [environment, facts] of options.dryRun ? [] : names) {
      if (facts === undefined && !holds.isWanted(environment)) {
        await rm(layout.name(paths, environment), { force: true });
      }
    }
  });
  for (const directory of await boot.superseded()) {
    const kind = directory.startsWith(`${layout.kernels(paths)}/`) ? "kernel" : "boot";
    await remove(kind, directory, basename(directory));
  }
  for (const directory of await staleStaging(paths.environments)) {
    await remove("staging", directory, basename(directory));
  }
  const busy = new Set(holds.wanted().map((environment) => layout.log(paths, environment)));
  for (const name of await readdir(layout.logs(paths)).catch(() => [])) {
    const path = join(layout.logs(paths), name);
    if (!busy.has(path)) await remove("log", path, name);
  }
  return removed;
}

/** Whether what was to be moved away was not there any more. */
async function isGone(moved: Promise<void>): Promise<boolean> {
  return await moved.then(
    () => false,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return true;
      throw error;
    },
  );
}

/** What a file or tree takes on the disk; undefined when there is none. */
async function bytesOnDisk(path: string): Promise<number | undefined> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  let bytes = found.blocks * 512;
  if (found.isDirectory()) {
    for (const name of await readdir(path).catch(() => [])) bytes += (await bytesOnDisk(join(path, name))) ?? 0;
  }
  return bytes;
}
