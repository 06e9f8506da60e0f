// Builds a recipe: mmdebstrap from the host's Debian sources, then a squashfs of the tree. Publishes nothing.
import { appendFile, mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { PyroError } from "../errors/error.ts";
import { runProgram } from "../host/spawn.ts";
import { openApt, proxyEnvironment } from "./apt.ts";
import type { OnProgress } from "./progress.ts";
import type { Recipe } from "./recipes.ts";
import { renderSources } from "./sources.ts";

const BUILD_DEADLINE_MS = 1_200_000;
const TAIL_LINES = 30;

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

export interface BuildOptions {
  /** An empty directory of the caller's, on the file system where the image goes. */
  readonly staging: string;
  /** Where the whole log is kept, whatever happens. */
  readonly logPath: string;
  readonly onProgress: OnProgress;
  readonly signal?: AbortSignal;
}

/**
 * Builds `recipe` and returns the path of its squashfs, in the staging directory.
 * Errors: HOST_TOOL_MISSING, HOST_UNSUPPORTED (no such sources), HOST_DISK_FULL, ENVIRONMENT_BUILD_FAILED.
 */
export async function buildRecipe(recipe: Recipe, options: BuildOptions): Promise<string> {
  const { staging, logPath, onProgress, signal } = options;
  await mkdir(dirname(logPath), { recursive: true, mode: 0o711 });
  await writeFile(logPath, "", { mode: 0o600 });
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
    env: { ...buildEnvironment(staging, epoch), ...(await proxyEnvironment(signal)) },
    // Told to stop, mmdebstrap removes its tree itself: as an ordinary user only it can (subordinate uids own it).
    graceMs: 10_000,
    onLine: (line) => {
      const part = PARTS.find(([pattern]) => pattern.test(line));
      if (part) onProgress({ stage: "packages", message: part[1], fraction: part[2] });
    },
  });

  onProgress({ stage: "image", message: "Compressing the file system", fraction: 0.97 });
  const image = join(staging, "image.squashfs");
  // lz4 in its fast form: 1 s and 111 MB, against 19 s and 91 MB of lz4hc. Extended attributes are kept. The tar's entry
  // for the root directory is not read by sqfstar, so what it should be is said here.
  const flags = ["-comp", "lz4", "-root-mode", "0755", "-root-time", epoch, "-no-progress", "-quiet", image];
  // Its owner is whoever runs sqfstar (4.5.1 takes -root-uid and ignores it): an ordinary user is made root for it.
  const asRoot = process.getuid?.() === 0 ? [] : ["unshare", "--map-root-user", "--"];
  await step("sqfstar", [...asRoot, "sh", "-c", 'tar=$1; shift; exec sqfstar "$@" < "$tar"', "sh", tar, ...flags], {
    ...options,
    aptPackage: "squashfs-tools",
    env: buildEnvironment(staging, epoch),
    graceMs: 0,
    onLine: () => {},
  });
  await rm(tar);
  return image;
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

interface StepOptions extends BuildOptions {
  readonly aptPackage: string;
  readonly env: Record<string, string>;
  readonly graceMs: number;
  readonly onLine: (line: string) => void;
}

async function step(name: string, command: readonly string[], options: StepOptions): Promise<void> {
  await requireProgram(name, options.aptPackage, options.signal);
  const log: string[] = [];
  const [program = name, ...args] = command;
  const result = await runProgram(program, args, {
    deadlineMs: BUILD_DEADLINE_MS,
    aptPackage: program === "setpriv" ? "util-linux" : options.aptPackage,
    cwd: options.staging,
    env: options.env,
    signal: options.signal,
    graceMs: options.graceMs,
    onLine: (line) => {
      log.push(line);
      options.onLine(line);
    },
  }).finally(() => appendFile(options.logPath, `$ ${command.join(" ")}\n${log.join("\n")}\n`));
  if (result.exitCode === 0) return;
  const details = { program: name, log_path: options.logPath, log_tail: log.slice(-TAIL_LINES).join("\n") };
  if (log.some((line) => line.includes("No space left on device"))) {
    throw new PyroError("HOST_DISK_FULL", `There is no space left to build the environment.`, { details });
  }
  const how = result.timedOut ? "did not finish in time" : `failed (${result.signal ?? `status ${result.exitCode}`})`;
  throw new PyroError("ENVIRONMENT_BUILD_FAILED", `${name} ${how}; its log is ${options.logPath}.`, {
    hint: userHint(log) ?? `Read ${options.logPath}; the network and \`apt-get update\` on this host must work.`,
    details,
  });
}

/** Programs that are started through another would else be missed with a message of the other's. */
async function requireProgram(name: string, aptPackage: string, signal: AbortSignal | undefined): Promise<void> {
  await runProgram(name, ["--version"], { deadlineMs: 10_000, aptPackage, signal });
}

/** Building as an ordinary user needs subordinate ids: the one thing that is often missing. */
function userHint(log: readonly string[]): string | undefined {
  if (process.getuid?.() === 0 || !log.some((line) => /newuidmap|subuid|subgid|user namespace/i.test(line))) {
    return undefined;
  }
  return "Install the package uidmap and give this user subordinate ids in /etc/subuid and /etc/subgid (`usermod --add-subuids`).";
}
