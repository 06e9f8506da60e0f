// The checks of the host that need no microVM: each one line of what was found, and the way out where it is not enough.
import { lstat, readFile, stat } from "node:fs/promises";
import { release, userInfo } from "node:os";
import { dirname } from "node:path";
import { countSources } from "../environments/apt.ts";
import { installation } from "../host/installation.ts";
import { findProgram, freeDiskMib, hostCpus, hostMemory } from "../host/resources.ts";
import { runProgram } from "../host/spawn.ts";
import type { OutputOf } from "../operations/table.ts";
import { confinementFix, readNamespaceSettings, tryConfinement } from "./confinement-trial.ts";
import type { Paths } from "./paths.ts";

export type Check = OutputOf<"doctor">["checks"][number];

/** The launcher holds its VMMs by pidfd, which 5.3 has. */
const OLDEST_KERNEL = [5, 3] as const;
const VERSION_MS = 10_000;

interface Program {
  readonly name: string;
  readonly package: string;
  readonly why: string;
  /** Its version decides: below `least` it cannot do what pyro asks of it, below `tried` nobody has tried. */
  readonly least?: readonly [number, number];
  readonly tried?: readonly [number, number];
}

// -sandbox, x-ignore-shared and blockdev are older; what pyro is tested with is 7.2.
const QEMU: Program = {
  name: "qemu-system-x86_64",
  package: "qemu-system-x86",
  why: "runs microVMs",
  least: [4, 2],
  tried: [7, 2],
};

const PROGRAMS: readonly Program[] = [
  // --disable-userns came in 0.8.
  { name: "bwrap", package: "bubblewrap", why: "confines them", least: [0, 8] },
  { name: "setpriv", package: "util-linux", why: "takes their privileges" },
  { name: "mmdebstrap", package: "mmdebstrap", why: "builds environments" },
  { name: "sqfstar", package: "squashfs-tools", why: "packs environments" },
  { name: "mkfs.ext4", package: "e2fsprogs", why: "formats writable disks" },
  { name: "cpio", package: "cpio", why: "packs the guest's first file system" },
];

/** `otherDriver`: there is one beside QEMU that could be used. */
export async function hostChecks(
  paths: Paths,
  unconfined: boolean,
  otherDriver: boolean,
  signal: AbortSignal,
): Promise<Check[]> {
  const found = await Promise.all([
    daemon(),
    system(),
    qemu(otherDriver, signal),
    ...PROGRAMS.map((program) => checkProgram(program, signal)),
    tar(signal),
    confinement(unconfined, signal),
    subordinateIds(),
    packageSources(),
    sockets(paths),
    room(paths),
    memory(),
  ]);
  return found.filter((check) => check !== undefined);
}

async function daemon(): Promise<Check> {
  const { version, root } = installation();
  return ok("daemon", `pyro ${version} from ${root}, process ${process.pid}, as ${userName()}`);
}

async function system(): Promise<Check> {
  const text = await readFile("/etc/os-release", "utf8").catch(() => "");
  const name = /^PRETTY_NAME="?([^"\n]*)/m.exec(text)?.[1] ?? "Linux";
  const message = `${name}, ${process.platform} ${process.arch}, kernel ${release()}, ${hostCpus()} CPUs`;
  if (process.platform !== "linux" || process.arch !== "x64") {
    return failed("system", message, "pyro runs on x86-64 Linux");
  }
  return isBelow(release(), OLDEST_KERNEL)
    ? failed("system", message, `pyro needs Linux ${OLDEST_KERNEL.join(".")} or newer`)
    : ok("system", message);
}

async function checkProgram(program: Program, signal: AbortSignal): Promise<Check> {
  const { name, least, tried } = program;
  const install = `(Debian and Ubuntu: apt-get install ${program.package})`;
  const path = await findProgram(name);
  if (path === undefined) {
    return failed(name, `not found; it ${program.why}`, `install ${program.package} ${install}`, program.package);
  }
  if (least === undefined) return ok(name, path);
  const { stdout } = await runProgram(path, ["--version"], {
    deadlineMs: VERSION_MS,
    aptPackage: program.package,
    signal,
  });
  const version = /\d+\.\d+[\w.+~-]*/.exec(stdout)?.[0] ?? "";
  const message = `${path}, version ${version === "" ? "unknown" : version}`;
  if (isBelow(version, least)) {
    return failed(name, message, `install ${least.join(".")} or newer ${install}`, program.package);
  }
  if (tried !== undefined && isBelow(version, tried)) {
    return warning(name, message, `pyro is tested with ${tried.join(".")}; should microVMs not start, install that`);
  }
  return ok(name, message);
}

/** Without KVM there is no other way to run a microVM. */
async function qemu(otherDriver: boolean, signal: AbortSignal): Promise<Check> {
  const check = await checkProgram(QEMU, signal);
  if (check.status !== "failed" || !otherDriver) return check;
  return warning(check.name, `${check.message}, where Firecracker cannot`, check.fix ?? "", check.package);
}

/** Only a directory takes it: all else works without. Exported for its test. */
export async function tar(signal: AbortSignal, path?: string): Promise<Check> {
  const name = "tar";
  const fix = "install GNU tar (Debian and Ubuntu: apt-get install tar)";
  const without = "directories cannot be sent to a workspace, archives and single files can";
  const found = path ?? (await findProgram("tar"));
  if (found === undefined) return warning(name, `not found: ${without}`, fix, "tar");
  const { stdout } = await runProgram(found, ["--version"], { deadlineMs: VERSION_MS, aptPackage: "tar", signal });
  const version = /^tar \(GNU tar\) (\S+)/.exec(stdout)?.[1];
  if (version === undefined) return warning(name, `${found} is not GNU tar: ${without}`, fix);
  return ok(name, `${found}, version ${version}`);
}

async function confinement(unconfined: boolean, signal: AbortSignal): Promise<Check | undefined> {
  const name = "confinement";
  if (unconfined) {
    const message = "switched off by configuration: VMMs run as this user, without bubblewrap";
    return warning(name, message, "unset PYRO_UNCONFINED (or unconfined in config.json), then `pyro daemon stop`");
  }
  // Without the program its own line says so.
  if ((await findProgram("bwrap")) === undefined || (await findProgram("setpriv")) === undefined) return undefined;
  const { works, said } = await tryConfinement(signal);
  if (works) return ok(name, "bubblewrap works for this user: own namespaces, no privileges, seccomp");
  return failed(name, `bubblewrap cannot work here: ${said}`, confinementFix(said, await readNamespaceSettings()));
}

/** What only an ordinary user's builds need. */
async function subordinateIds(): Promise<Check | undefined> {
  if (process.getuid?.() === 0) return undefined;
  const name = "subordinate ids";
  const user = { name: userName(), uid: process.getuid?.() ?? -1 };
  const lacking: string[] = [];
  for (const program of ["newuidmap", "newgidmap"]) {
    if ((await findProgram(program)) === undefined) {
      return warning(
        name,
        `${program} not found: environments cannot be built, runs of those there are work`,
        "install uidmap (Debian and Ubuntu: apt-get install uidmap)",
        "uidmap",
      );
    }
  }
  for (const file of ["/etc/subuid", "/etc/subgid"]) {
    const text = await readFile(file, "utf8").catch(() => "");
    const has = text.split("\n").some((line) => [user.name, String(user.uid)].includes(line.split(":")[0] ?? ""));
    if (!has) lacking.push(file);
  }
  if (lacking.length === 0) return ok(name, `newuidmap is there, and ${user.name} has ids to map`);
  return warning(
    name,
    `${user.name} has none in ${lacking.join(" and ")}: environments cannot be built, runs of those there are work`,
    `as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${user.name} (a range that nobody has)`,
  );
}

async function packageSources(): Promise<Check> {
  const name = "package sources";
  const { configured, fetched } = await countSources("bookworm");
  if (fetched > 0) return ok(name, `${fetched} signed sources of Debian 12 to build environments from`);
  if (configured > 0)
    return ok(name, `${configured} that may be of Debian 12; their lists are fetched at the first build`);
  return warning(
    name,
    "no signed source of Debian 12 (bookworm): neither its environments nor the guest's kernel can be fetched",
    "add one to /etc/apt/sources.list.d (docs/host-requirements.md has an example), then `apt-get update`",
  );
}

/** The daemon would not have come up in a directory of somebody else's; what can change later is the mode. */
async function sockets({ control }: Paths): Promise<Check> {
  const name = "sockets";
  for (const [directory, open] of [
    [dirname(dirname(control)), 0o066],
    [control, 0o077],
  ] as const) {
    const { uid, mode } = await lstat(directory);
    if (uid === process.getuid?.() && (mode & open) === 0) continue;
    const message = `${directory} is open to other users (mode ${(mode & 0o777).toString(8)})`;
    return failed(name, message, `\`pyro daemon stop\`, then remove ${directory}; pyro makes it anew`);
  }
  return ok(name, `${control}, this user's alone`);
}

async function room(paths: Paths): Promise<Check> {
  const mib = await freeDiskMib(paths.state);
  const message = `${(mib / 1024).toFixed(1)} GiB free below ${paths.state}`;
  return mib < 2048
    ? warning("disk", message, "free some space, or set PYRO_HOME to a larger file system")
    : ok("disk", message);
}

async function memory(): Promise<Check> {
  const { availableMib } = await hostMemory();
  const message = `${(availableMib / 1024).toFixed(1)} GiB available`;
  return availableMib < 1536
    ? warning("memory", message, "end something else, or start smaller microVMs with --mem-mib")
    : ok("memory", message);
}

/** Who may open /dev/kvm, and what a person has to do for it; undefined when there is nothing in the way. */
export async function kvmInTheWay(): Promise<{ message: string; fix: string } | undefined> {
  const found = await stat("/dev/kvm").catch(() => undefined);
  if (found === undefined) {
    return {
      message: "there is no /dev/kvm",
      fix: "switch virtualization on in the firmware (in a virtual machine: nested virtualization, on its host) and load the module kvm_intel or kvm_amd",
    };
  }
  const asRoot = process.getuid?.() === 0;
  const username = userName();
  const group = await groupName(found.gid);
  const mode = (found.mode & 0o777).toString(8).padStart(4, "0");
  const message = `/dev/kvm (mode ${mode}, group ${group}) is closed to ${asRoot ? "microVMs' users" : username}`;
  // The launcher gives microVMs' users the device's group where pyro is root.
  if ((found.mode & 0o006) === 0o006) return undefined;
  if ((found.mode & 0o060) !== 0o060 || found.gid === 0) {
    return { message, fix: "as root: chgrp kvm /dev/kvm && chmod 660 /dev/kvm (udev does so where it runs)" };
  }
  const mine = process.getgroups?.().includes(found.gid) ?? false;
  if (asRoot || mine) return undefined;
  return { message, fix: `as root: usermod -aG ${group} ${username}; then log in anew and \`pyro daemon stop\`` };
}

/** In a container the user may have a number only. */
function userName(): string {
  try {
    return userInfo().username;
  } catch {
    return String(process.getuid?.());
  }
}

async function groupName(gid: number): Promise<string> {
  const text = await readFile("/etc/group", "utf8").catch(() => "");
  return new RegExp(`^([^:\\n]*):[^:\\n]*:${gid}:`, "m").exec(text)?.[1] ?? String(gid);
}

/** Compares major and minor; a version that says neither is not below. */
export function isBelow(version: string, least: readonly [number, number]): boolean {
  const match = /^(\d+)\.(\d+)/.exec(version);
  if (match === null) return false;
  const [major, minor] = [Number(match[1]), Number(match[2])];
  return major < least[0] || (major === least[0] && minor < least[1]);
}

export function ok(name: string, message: string): Check {
  return { name, status: "ok", message, fix: null, package: null };
}

/** `lacking`: the Debian package that has it, where it is one that is missing. */
export function warning(name: string, message: string, fix: string, lacking: string | null = null): Check {
  return { name, status: "warning", message, fix, package: lacking };
}

export function failed(name: string, message: string, fix: string, lacking: string | null = null): Check {
  return { name, status: "failed", message, fix, package: lacking };
}
