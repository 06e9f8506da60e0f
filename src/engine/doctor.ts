// What this host has, what pyro will use of it, and how to get better: checks, and a probe guest that really boots.
import type { Driver } from "../drivers/driver.ts";
import type { EnvironmentStore } from "../environments/store.ts";
import { PyroError } from "../errors/error.ts";
import type { Launcher } from "../launcher/launcher.ts";
import type { OutputOf } from "../operations/table.ts";
import { Acceleration, type Chosen, type Considered } from "./acceleration.ts";
import { candidates } from "./candidates.ts";
import { confinementFix, readNamespaceSettings } from "./confinement-trial.ts";
import { type Check, failed, hostChecks, kvmInTheWay, ok, warning } from "./host-checks.ts";
import type { Paths } from "./paths.ts";
import type { Settings } from "./settings.ts";
import type { Progress } from "./templates.ts";

type Report = OutputOf<"doctor">;

export interface DoctorContext {
  readonly paths: Paths;
  readonly settings: Settings;
  readonly environments: EnvironmentStore;
  readonly acceleration: Acceleration;
  readonly launcher: Launcher;
}

export class Doctor {
  readonly #context: DoctorContext;

  constructor(context: DoctorContext) {
    this.#context = context;
  }

  /** Runs every check; a failing host is a report, not an error. */
  async examine(progress: Progress, signal: AbortSignal): Promise<Report> {
    const { paths, settings, launcher } = this.#context;
    const ways = await candidates(paths, launcher, settings);
    const otherDriver = ways.some(({ name, driver }) => name !== "qemu" && driver !== undefined);
    const checks = await hostChecks(paths, settings.unconfined, otherDriver, signal);
    const unfit = checks.some((check) => check.status === "failed");
    const probed = unfit ? undefined : await this.#probe(progress, signal);
    if (probed !== undefined) checks.push(...probed.checks);
    const acceleration = probed?.chosen?.driver.features.acceleration ?? null;
    return {
      ok: !checks.some((check) => check.status === "failed"),
      checks,
      driver: probed?.chosen?.driver.name ?? "qemu",
      acceleration,
      isolation: isolation(probed?.chosen?.driver),
      probe: probed?.probe ?? null,
    };
  }

  async #probe(
    progress: Progress,
    signal: AbortSignal,
  ): Promise<{ checks: Check[]; chosen: Chosen | undefined; probe: Report["probe"] }> {
    const { environments, acceleration, launcher } = this.#context;
    const checks: Check[] = [];
    let chosen: Chosen | undefined;
    try {
      const boot = await environments.boot(progress, signal);
      chosen = await acceleration.choose(boot, progress);
      checks.push(...(await choiceChecks(chosen, this.#context.settings.driver)));
      progress({ stage: "probe", message: "booting a probe guest", fraction: null });
      const { bootMs } = await chosen.templates.probe(Acceleration.probeSpec(boot));
      const { acceleration: how } = chosen.driver.features;
      const message = `a guest booted under ${how.toUpperCase()} in ${(bootMs / 1000).toFixed(1)} s; later starts restore it frozen`;
      checks.push(ok("probe guest", message));
      checks.push(limitsCheck(await launcher.limits()));
      return { checks, chosen, probe: { ok: true, acceleration: how, boot_ms: bootMs, message } };
    } catch (thrown) {
      if (signal.aborted) throw signal.reason;
      const error = PyroError.from(thrown);
      checks.push(failed("probe guest", withTail(error), await this.#fixFor(error)));
      const how = chosen?.driver.features.acceleration ?? "tcg";
      return { checks, chosen, probe: { ok: false, acceleration: how, boot_ms: null, message: error.message } };
    }
  }

  async #fixFor(error: PyroError): Promise<string> {
    if (error.code === "CONFINEMENT_UNAVAILABLE") return confinementFix(error.message, await readNamespaceSettings());
    // The code's own hint is to call the doctor.
    if (error.code === "MICROVM_START_FAILED" || error.code === "GUEST_UNRESPONSIVE") {
      const { launcherLog } = this.#context.paths;
      return `see ${error.code} in docs/troubleshooting.md; the launcher's log is ${launcherLog}`;
    }
    return error.hint;
  }
}

/** Why it is that driver: what was looked at before it, and what was in the way of that. */
async function choiceChecks({ considered }: Chosen, setting: Settings["driver"]): Promise<Check[]> {
  const checks: Check[] = [];
  const firecracker = considered.find(({ name }) => name === "firecracker");
  if (firecracker !== undefined) checks.push(firecrackerCheck(firecracker, considered));
  const underKvm = considered.find(({ name, acceleration }) => name === "qemu" && acceleration === "kvm");
  if (underKvm !== undefined) checks.push(await kvmCheck(underKvm));
  const last = considered.at(-1);
  if (last !== undefined) {
    const why = setting === "auto" ? "the first that works here" : `PYRO_DRIVER or config.json says ${setting}`;
    checks.push(ok("driver", `${last.name} with ${last.acceleration.toUpperCase()}: ${why}`));
  }
  return checks;
}

function firecrackerCheck({ works, tried, message, fix }: Considered, all: readonly Considered[]): Check {
  const name = "firecracker";
  if (works) return ok(name, message);
  if (tried) {
    const remembered =
      "the answer is remembered for this kernel, CPU and Firecracker: see KVM in docs/troubleshooting.md";
    return warning(name, message, remembered);
  }
  // It is of use only where KVM works.
  if (!all.some((other) => other.acceleration === "kvm" && other.works)) {
    return ok(name, `${message}; without a KVM that works there is no use for it`);
  }
  return warning(name, `${message}; QEMU is used, which starts more slowly`, fix ?? "");
}

async function kvmCheck(underKvm: Considered): Promise<Check> {
  if (underKvm.works) return ok("kvm", underKvm.message);
  const obstacle = await kvmInTheWay();
  const found = obstacle?.message ?? (underKvm.tried ? underKvm.message : "/dev/kvm could not be opened");
  return warning(
    "kvm",
    `${found}; microVMs run under emulation (TCG), many times slower`,
    obstacle?.fix ?? "the answer is remembered for this kernel, CPU and QEMU: see KVM in docs/troubleshooting.md",
  );
}

/** An older launcher says neither what it bounds nor what it does not. */
function limitsCheck(limits: { bounded: string[]; notes: string[] } | undefined): Check {
  const name = "limits";
  if (limits === undefined || (limits.bounded.length === 0 && limits.notes.length === 0)) {
    return warning(
      name,
      "the launcher did not say what it bounds",
      "`pyro daemon stop`, and try again when no run is left",
    );
  }
  if (limits.notes.length === 0) return ok(name, `cgroups bound each microVM in ${limits.bounded.join(", ")}`);
  return warning(
    name,
    limits.notes.join("; "),
    process.getuid?.() === 0
      ? "mount the cgroup hierarchy writable (in a container: with a cgroup of its own)"
      : "where systemd runs: `pyro daemon stop`, then start pyro by `systemd-run --user --scope pyro ...`; elsewhere have root delegate a cgroup",
  );
}

function isolation(driver: Driver | undefined): string {
  if (driver === undefined) return "none yet: no microVM could be started";
  const { features, fence } = driver;
  if (features.acceleration === "kvm") return `hardware virtualization (KVM), then ${fence}`;
  return `emulation (TCG), for which QEMU promises no isolation of its own, so what counts is ${fence}`;
}

function withTail(error: PyroError): string {
  const tail = error.details.console_tail;
  return typeof tail === "string" && tail !== "" ? `${error.message}\n${tail}` : error.message;
}
