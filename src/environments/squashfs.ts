// Makes a squashfs of a tar, the same for recipes and for images of a registry.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { type StepPlace, step } from "./step.ts";

const DEADLINE_MS = 1_200_000;

/** What sqfstar does not learn from the tar. */
export interface RootDirectory {
  /** Mode of the root directory, octal, as sqfstar takes it. */
  readonly mode: string;
  /**
   * Seconds since 1970: the time of the root directory and of the image, so that the same tar gives the same image.
   * Files that are newer are set back to it.
   */
  readonly newest: number;
}

/**
 * Packs `tar`, which it removes, and returns the path of the squashfs, in the staging directory. Extended attributes
 * are kept. Errors: HOST_TOOL_MISSING, HOST_DISK_FULL, ENVIRONMENT_BUILD_FAILED.
 */
export async function squash(tar: string, root: RootDirectory, place: StepPlace): Promise<string> {
  const image = join(place.staging, "image.squashfs");
  const time = String(root.newest);
  // lz4 in its fast form: 1 s and 111 MB, against 19 s and 91 MB of lz4hc (debian:12).
  const flags = ["-comp", "lz4", "-root-mode", root.mode, "-root-time", time, "-no-progress", "-quiet", image];
  // The root's owner is whoever runs sqfstar (4.5.1 takes -root-uid and ignores it): an ordinary user is made root.
  const asRoot = process.getuid?.() === 0 ? [] : ["unshare", "--map-root-user", "--"];
  const shell = ["sh", "-c", 'tar=$1; shift; exec sqfstar "$@" < "$tar"', "sh", tar, ...flags];
  // It ends with this process, even when that is killed: nothing is to grow in a directory that nobody owns.
  await step("sqfstar", [...asRoot, "setpriv", "--pdeathsig=KILL", "--", ...shell], {
    ...place,
    aptPackage: "squashfs-tools",
    deadlineMs: DEADLINE_MS,
    env: { SOURCE_DATE_EPOCH: time },
    graceMs: 0,
    onLine: () => {},
  });
  await rm(tar);
  return image;
}
