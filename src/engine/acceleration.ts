// Which driver microVMs start with: the first candidate that works. A /dev/kvm alone proves nothing, so what needs it
// boots a probe guest, once: the answer is kept, by everything that it depends on.
import { createHash } from "node:crypto";
import { mkdir, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Driver, MachineSpec } from "../drivers/driver.ts";
import { PyroError } from "../errors/error.ts";
import { readRecord, writeRecord } from "../host/records.ts";
import type { Launcher } from "../launcher/launcher.ts";
import { type Candidate, candidates, QEMU, type Way } from "./candidates.ts";
import type { Paths } from "./paths.ts";
import type { Settings } from "./settings.ts";
import { type Progress, Templates } from "./templates.ts";

const SCHEMA_VERSION = 1;

export type DriverChoice = Settings["driver"];
type BootFiles = Pick<MachineSpec, "kernel" | "initramfs">;

/** What a probe guest under KVM said, as remembered. */
export interface KvmVerdict {
  readonly schema_version: number;
  readonly works: boolean;
  readonly boot_ms: number | null;
  readonly message: string;
}

/** A candidate that was looked at, and what came of it. */
export interface Considered extends Way {
  readonly works: boolean;
  readonly message: string;
  /** Null where none is known. */
  readonly fix: string | null;
  /** False where something kept it from being tried. */
  readonly tried: boolean;
}

export interface Chosen {
  readonly driver: Driver;
  readonly templates: Templates;
  /** In the order in which they were considered; the last one is what was chosen. */
  readonly considered: readonly Considered[];
}

export class Acceleration {
  readonly #paths: Paths;
  readonly #settings: Settings;
  readonly #stopping = new AbortController();
  readonly #chosen = new Map<DriverChoice, Promise<Chosen>>();
  /** One for each driver: they know what is being made. */
  readonly #templates = new Map<Driver, Templates>();
  readonly #list: () => Promise<Candidate[]>;
  #candidates: Promise<Candidate[]> | undefined;

  /** `list` gives the candidates, best first: those of this host unless a test has others. */
  constructor(paths: Paths, launcher: Launcher, settings: Settings, list?: () => Promise<Candidate[]>) {
    this.#paths = paths;
    this.#settings = settings;
    this.#list = list ?? (() => candidates(paths, launcher, settings));
  }

  /**
   * The driver for this host, after a probe at the first call ever; `wanted` in the place of the user's setting. Errors:
   * DRIVER_UNAVAILABLE when the one that was asked for by name cannot work, HOST_TOOL_MISSING.
   */
  async choose(boot: BootFiles, progress: Progress, wanted = this.#settings.driver): Promise<Chosen> {
    let choosing = this.#chosen.get(wanted);
    if (choosing === undefined) {
      choosing = this.#choose(wanted, boot, progress);
      this.#chosen.set(wanted, choosing);
      const mine = choosing;
      // A host that lacks something may have it at the next call.
      choosing.catch(() => {
        this.#candidates = undefined;
        if (this.#chosen.get(wanted) === mine) this.#chosen.delete(wanted);
      });
    }
    return await choosing;
  }

  /** Ends boots and probes under way: the daemon stops. */
  stop(): void {
    this.#stopping.abort(new PyroError("CANCELLED", "The daemon is stopping."));
  }

  /** A machine as small as there can be, for probes. */
  static probeSpec(boot: BootFiles): MachineSpec {
    return { vcpuCount: 1, memMib: 256, kernel: boot.kernel, initramfs: boot.initramfs };
  }

  async #choose(wanted: DriverChoice, boot: BootFiles, progress: Progress): Promise<Chosen> {
    this.#candidates ??= this.#list();
    const considered: Considered[] = [];
    for (const candidate of await this.#candidates) {
      if (wanted !== "auto" && candidate.name !== wanted) continue;
      const looked = await this.#consider(candidate, boot, progress);
      considered.push(looked);
      const { driver } = candidate;
      if (looked.works && driver !== undefined) return { driver, templates: this.#templatesOf(driver), considered };
    }
    const missing = considered.find(({ name, tried }) => name === "qemu" && !tried);
    if (missing !== undefined) {
      throw new PyroError("HOST_TOOL_MISSING", missing.message, {
        ...(missing.fix === null ? {} : { hint: missing.fix }),
        details: { program: QEMU, package: "qemu-system-x86" },
      });
    }
    const why = considered.map(({ message, fix }) => (fix === null ? message : `${message} (${fix})`)).join("; ");
    throw new PyroError("DRIVER_UNAVAILABLE", `The driver ${wanted} was asked for and cannot be used here: ${why}.`, {
      details: { driver: wanted },
    });
  }

  async #consider(candidate: Candidate, boot: BootFiles, progress: Progress): Promise<Considered> {
    const { name, acceleration, driver } = candidate;
    if (driver === undefined) return { name, acceleration, works: false, tried: false, ...candidate.obstacle };
    if (acceleration === "tcg") {
      return { name, acceleration, works: true, tried: true, message: "emulation works everywhere", fix: null };
    }
    const { works, message } = await this.#verdict(driver, boot, progress);
    return { name, acceleration, works, tried: true, message, fix: null };
  }

  #templatesOf(driver: Driver): Templates {
    const options = { limit: this.#settings.templateLimit, stopping: this.#stopping.signal };
    const templates = this.#templates.get(driver) ?? new Templates(this.#paths, driver, options);
    this.#templates.set(driver, templates);
    return templates;
  }

  async #verdict(driver: Driver, boot: BootFiles, progress: Progress): Promise<KvmVerdict> {
    // Who may open the device can be changed by a user who reads what doctor says.
    const device = await stat("/dev/kvm").catch(() => undefined);
    const access = [device?.mode, device?.uid, device?.gid];
    const depends = [await driver.fingerprint(), boot.kernel.sha256, boot.initramfs.sha256, ...access];
    const name = createHash("sha256").update(JSON.stringify(depends)).digest("hex");
    const path = join(this.#paths.probes, `kvm-${name}.json`);
    const known = await readRecord<KvmVerdict>(path).catch(() => undefined);
    if (known?.schema_version === SCHEMA_VERSION) return known;
    const where = driver.name === "qemu" ? "under KVM" : "in Firecracker under KVM";
    progress({ stage: "probe", message: `Trying whether a guest runs ${where} here, once`, fraction: null });
    const verdict = await this.#templatesOf(driver)
      .probe(Acceleration.probeSpec(boot))
      .then(
        ({ bootMs }) => ({ works: true, boot_ms: bootMs, message: `a probe guest ran ${where}` }),
        (error: unknown) => {
          // Only a guest that was started says something of KVM; a host that lacks something may get it.
          if (!(error instanceof PyroError) || error.code !== "MICROVM_START_FAILED") throw error;
          return { works: false, boot_ms: null, message: `a probe guest did not run ${where}: ${error.message}` };
        },
      );
    const record: KvmVerdict = { schema_version: SCHEMA_VERSION, ...verdict };
    await mkdir(this.#paths.probes, { recursive: true, mode: 0o700 });
    await writeRecord(path, record);
    return record;
  }
}
