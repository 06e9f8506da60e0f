// What this host has, what pyro will use of it, and how to get better: checks, and a probe guest that really boots.
import { readFile } from "node:fs/promises";
import type { EnvironmentStore } from "../environments/store.ts";
import { PyroError } from "../errors/error.ts";
import { findProgram, freeDiskMib, hostCpus, hostMemory } from "../host/resources.ts";
import type { OutputOf } from "../operations/table.ts";
import { Acceleration, type Chosen } from "./acceleration.ts";
import type { Paths } from "./paths.ts";
import type { Settings } from "./settings.ts";
import type { Progress } from "./templates.ts";

type Report = OutputOf<"doctor">;
type Check = Report["checks"][number];

const PROGRAMS = [
  { name: "qemu-system-x86_64", package: "qemu-system-x86", why: "runs microVMs" },
  { name: "bwrap", package: "bubblewrap", why: "confines them" },
  { name: "setpriv", package: "util-linux", why: "takes their privileges" },
  { name: "mmdebstrap", package: "mmdebstrap", why: "builds environments" },
  { name: "sqfstar", package: "squashfs-tools", why: "packs environments" },
  { name: "mkfs.ext4", package: "e2fsprogs", why: "formats writable disks" },
  { name: "cpio", package: "cpio", why: "packs the guest's first file system" },
];

export interface DoctorContext {
  readonly paths: Paths;
  readonly settings: Settings;
  readonly environments: EnvironmentStore;
  readonly acceleration: Acceleration;
}

export class Doctor {
  readonly #context: DoctorContext;

  constructor(context: DoctorContext) {
    this.#context = context;
  }

  /** Runs every check; a failing host is a report, not an error. */
  async examine(progress: Progress, signal: AbortSignal): Promise<Report> {
    const checks: Check[] = [await system(), ...(await programs()), await room(this.#context.paths), await memory()];
    const unfit = checks.some((check) => check.status === "failed");
    const probed = unfit ? undefined : await this.#probe(progress, signal);
    if (probed !== undefined) checks.push(...probed.checks);
    const acceleration = probed?.chosen?.driver.features.acceleration ?? null;
    return {
      ok: !checks.some((check) => check.status === "failed"),
      checks,
      driver: probed?.chosen?.driver.name ?? "qemu",
      acceleration,
      isolation: isolation(acceleration, this.#context.settings.unconfined),
      probe: probed?.probe ?? null,
    };
  }

  async #probe(
    progress: Progress,
    signal: AbortSignal,
  ): Promise<{ checks: Check[]; chosen: Chosen | undefined; probe: Report["probe"] }> {
    const { environments, acceleration, settings } = this.#context;
    const checks: Check[] = [];
    let chosen: Chosen | undefined;
    try {
      const boot = await environments.boot(progress, signal);
      chosen = await acceleration.choose(boot, progress);
      checks.push(kvmCheck(chosen));
      progress({ stage: "probe", message: "booting a probe guest", fraction: null });
      const { bootMs } = await chosen.templates.probe(Acceleration.probeSpec(boot));
      const { acceleration: how } = chosen.driver.features;
      const message = `a guest booted under ${how.toUpperCase()} in ${(bootMs / 1000).toFixed(1)} s; later starts restore it frozen`;
      checks.push({ name: "probe guest", status: "ok", message, fix: null });
      checks.push(confinementCheck(settings.unconfined));
      return { checks, chosen, probe: { ok: true, acceleration: how, boot_ms: bootMs, message } };
    } catch (thrown) {
      if (signal.aborted) throw signal.reason;
      const error = PyroError.from(thrown);
      checks.push({ name: "probe guest", status: "failed", message: withTail(error), fix: fixFor(error) });
      const how = chosen?.driver.features.acceleration ?? "tcg";
      return { checks, chosen, probe: { ok: false, acceleration: how, boot_ms: null, message: error.message } };
    }
  }
}

async function system(): Promise<Check> {
  const fit = process.platform === "linux" && process.arch === "x64";
  const release = await readFile("/etc/os-release", "utf8").catch(() => "");
  const name = /^PRETTY_NAME="?([^"\n]*)/m.exec(release)?.[1] ?? "Linux";
  return {
    name: "system",
    status: fit ? "ok" : "failed",
    message: `${name}, ${process.platform} ${process.arch}, ${hostCpus()} CPUs`,
    fix: fit ? null : "pyro runs on x86-64 Linux",
  };
}

async function programs(): Promise<Check[]> {
  return await Promise.all(
    PROGRAMS.map(async (program): Promise<Check> => {
      const path = await findProgram(program.name);
      return path === undefined
        ? {
            name: program.name,
            status: "failed",
            message: `not found; it ${program.why}`,
            fix: `install ${program.package} (Debian and Ubuntu: apt-get install ${program.package})`,
          }
        : { name: program.name, status: "ok", message: path, fix: null };
    }),
  );
}

async function room(paths: Paths): Promise<Check> {
  const mib = await freeDiskMib(paths.state);
  const short = mib < 2048;
  return {
    name: "disk",
    status: short ? "warning" : "ok",
    message: `${(mib / 1024).toFixed(1)} GiB free below ${paths.state}`,
    fix: short ? "free some space, or set PYRO_HOME to a larger file system" : null,
  };
}

async function memory(): Promise<Check> {
  const { availableMib } = await hostMemory();
  const short = availableMib < 1536;
  return {
    name: "memory",
    status: short ? "warning" : "ok",
    message: `${(availableMib / 1024).toFixed(1)} GiB available`,
    fix: short ? "end something else, or start smaller microVMs with --mem-mib" : null,
  };
}

function kvmCheck(chosen: Chosen): Check {
  if (chosen.kvm?.works) return { name: "kvm", status: "ok", message: chosen.kvm.message, fix: null };
  const message = chosen.kvm?.message ?? "there is no /dev/kvm that this user may open";
  return {
    name: "kvm",
    status: "warning",
    message: `${message}; microVMs run under emulation (TCG), many times slower`,
    fix: "on a machine with hardware virtualization, let this user open /dev/kvm (group kvm)",
  };
}

function confinementCheck(unconfined: boolean): Check {
  return unconfined
    ? {
        name: "confinement",
        status: "warning",
        message: "switched off by configuration: VMMs run as this user, without bubblewrap",
        fix: "unset PYRO_UNCONFINED (or unconfined in config.json)",
      }
    : { name: "confinement", status: "ok", message: "bubblewrap, own namespaces, no privileges, seccomp", fix: null };
}

function isolation(acceleration: "kvm" | "tcg" | null, unconfined: boolean): string {
  const fence = unconfined
    ? "nothing but QEMU itself (unconfined)"
    : "bubblewrap, namespaces, an unprivileged user and seccomp";
  if (acceleration === "kvm")
    return `hardware virtualization (KVM, not yet proven by pyro's own tests on such a host), then ${fence}`;
  if (acceleration === "tcg")
    return `emulation (TCG), for which QEMU promises no isolation of its own, so what counts is ${fence}`;
  return "none yet: no microVM could be started";
}

function fixFor(error: PyroError): string {
  if (error.code === "CONFINEMENT_UNAVAILABLE") {
    return "allow unprivileged user namespaces (sysctl kernel.unprivileged_userns_clone=1; on Ubuntu also kernel.apparmor_restrict_unprivileged_userns=0)";
  }
  return error.hint;
}

function withTail(error: PyroError): string {
  const tail = error.details.console_tail;
  return typeof tail === "string" && tail !== "" ? `${error.message}\n${tail}` : error.message;
}
