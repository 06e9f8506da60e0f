// Builds a recipe: mmdebstrap from the host's Debian sources, then a squashfs of the tree. Publishes nothing.
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openApt, proxyEnvironment } from "./apt.ts";
import type { OnProgress } from "./progress.ts";
import type { Recipe } from "./recipes.ts";
import { renderSources } from "./sources.ts";
import { squash } from "./squashfs.ts";
import { beginLog, type StepPlace, step } from "./step.ts";

const BUILD_DEADLINE_MS = 1_200_000;

/** What mmdebstrap says at the start of each part, and how much of the time has passed then (measured: 44 s in all). */
const PARTS: readonly (readonly [RegExp, string, number])[] = [
  [/running apt-get update/, "Fetching package lists", 0.02],
  [/downloading packages with apt/, "Downloading packages", 0.12],
  [/extracting archives/, "Unpacking the base system", 0.2],
  [/installing essential packages/, "Installing the base system", 0.3],
  [/installing remaining packages/, "Installing packages", 0.55],
  [/cleaning package lists/, "Cleaning up", 0.9],
  [/creating tarball/, "Collecting the file system", 0.92],
];

export interface BuildOptions extends StepPlace {
  readonly onProgress: OnProgress;
}

/**
 * Builds `recipe` and returns the path of its squashfs, in the staging directory.
 * Errors: HOST_TOOL_MISSING, HOST_UNSUPPORTED (no such sources), HOST_DISK_FULL, ENVIRONMENT_BUILD_FAILED.
 */
export async function buildRecipe(recipe: Recipe, options: BuildOptions): Promise<string> {
  const { staging, onProgress, signal } = options;
  await beginLog(options.logPath);
  onProgress({ stage: "sources", message: "Looking for Debian's package sources", fraction: 0 });
  const apt = await openApt(recipe.codename, staging, signal);
  // The moment that every file a build makes bears, so that the same archive gives the same image. No earlier one:
  // package files would be set back to it, and Python would take all of its compiled files for stale.
  const epoch = String(apt.releasedAt);
  const sources = join(staging, "pyro.sources");
  await writeFile(sources, renderSources(apt.sources));

  const tar = join(staging, "root.tar");
  await step("mmdebstrap", mmdebstrapCommand(recipe, sources, tar), {
    ...options,
    aptPackage: "mmdebstrap",
    deadlineMs: BUILD_DEADLINE_MS,
    needs: "the network and `apt-get update` on this host must work",
    env: { ...buildEnvironment(staging, epoch), ...(await proxyEnvironment(signal)) },
    // Told to stop, mmdebstrap removes its tree itself: as an ordinary user only it can (subordinate uids own it).
    graceMs: 10_000,
    onLine: (line) => {
      const part = PARTS.find(([pattern]) => pattern.test(line));
      if (part) onProgress({ stage: "packages", message: part[1], fraction: part[2] });
    },
  });

  onProgress({ stage: "image", message: "Compressing the file system", fraction: 0.97 });
  return await squash(tar, { mode: "0755", newest: apt.releasedAt }, options);
}

function buildEnvironment(staging: string, epoch: string): Record<string, string> {
  const environment: Record<string, string> = { SOURCE_DATE_EPOCH: epoch, DEBIAN_FRONTEND: "noninteractive" };
  // As an ordinary user mmdebstrap works as subordinate uids, which may not pass through the user's directories.
  if (process.getuid?.() === 0) environment.TMPDIR = staging;
  return environment;
}

function mmdebstrapCommand(recipe: Recipe, sources: string, tar: string): string[] {
  const root = process.getuid?.() === 0;
  // It ends with this process, even when that is killed. As root it is also in namespaces of its own, so that however
  // it ends no mount is left on the host. There it is killed with unshare, all of it at once: the next daemon removes
  // its directory, and one that was told to stop would still write there. (An abort ends it gently, by its group.)
  const isolate = root
    ? [
        "setpriv",
        "--pdeathsig=KILL",
        "--",
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--kill-child=KILL",
        "--mount-proc",
        "--",
      ]
    : ["setpriv", "--pdeathsig=TERM", "--"];
  const finish = [
    // hostname and resolv.conf are copies of the host's.
    'rm -f "$1/etc/resolv.conf" "$1/etc/hostname"',
    'echo pyro > "$1/etc/hostname"',
    'printf "127.0.0.1 localhost\\n::1 localhost ip6-localhost ip6-loopback\\n" > "$1/etc/hosts"',
    ': > "$1/etc/machine-id"',
    'rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/cache/ldconfig/aux-cache "$1"/var/log/*.log',
  ];
  return [
    ...isolate,
    "mmdebstrap",
    `--mode=${root ? "root" : "unshare"}`,
    `--variant=${recipe.variant}`,
    `--include=${recipe.packages.join(",")}`,
    "--architectures=amd64",
    "--format=tar",
    // As Debian's own container images do it: manuals are left out, copyright files stay.
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    `--customize-hook=${finish.join("; ")}`,
    recipe.codename,
    tar,
    sources,
  ];
}
