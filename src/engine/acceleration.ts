// Which driver microVMs start with: KVM where a probe guest really ran under it, else pure emulation. A /dev/kvm alone
// proves nothing, so the answer of the probe is kept, by everything that it depends on.
import { createHash } from "node:crypto";
import { access, constants, mkdir, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Driver, MachineSpec } from "../drivers/driver.ts";
import { QemuDriver } from "../drivers/qemu/driver.ts";
import { PyroError } from "../errors/error.ts";
import { readRecord, writeRecord } from "../host/records.ts";
import { findProgram } from "../host/resources.ts";
import type { Launcher } from "../launcher/launcher.ts";
import type { Paths } from "./paths.ts";
import type { Settings } from "./settings.ts";
import { type Progress, Templates } from "./templates.ts";

const QEMU = "qemu-system-x86_64";
const SCHEMA_VERSION = 1;

/** What a probe guest under KVM said, as remembered. */
export interface KvmVerdict {
  readonly schema_version: number;
  readonly works: boolean;
  readonly boot_ms: number | null;
  readonly message: string;
}

export interface Chosen {
  readonly driver: Driver;
  readonly templates: Templates;
  /** Undefined when there was nothing to probe: no /dev/kvm that this user may open. */
  readonly kvm: KvmVerdict | undefined;
}

export class Acceleration {
  readonly #paths: Paths;
  readonly #launcher: Launcher;
  readonly #settings: Settings;
  readonly #stopping = new AbortController();
  #chosen: Promise<Chosen> | undefined;

  constructor(paths: Paths, launcher: Launcher, settings: Settings) {
    this.#paths = paths;
    this.#launcher = launcher;
    this.#settings = settings;
  }

  /** The driver for this host, after a probe at the first call ever. Errors: HOST_TOOL_MISSING. */
  async choose(boot: Pick<MachineSpec, "kernel" | "initramfs">, progress: Progress): Promise<Chosen> {
    if (this.#chosen === undefined) {
      const choosing = this.#choose(boot, progress);
      this.#chosen = choosing;
      // A host that lacks something may have it at the next call.
      choosing.catch(() => {
        if (this.#chosen === choosing) this.#chosen = undefined;
      });
    }
    return await this.#chosen;
  }

  /** Ends boots and probes under way: the daemon stops. */
  stop(): void {
    this.#stopping.abort(new PyroError("CANCELLED", "The daemon is stopping."));
  }

  /** A machine as small as there can be, for probes. */
  static probeSpec(boot: Pick<MachineSpec, "kernel" | "initramfs">): MachineSpec {
    return { vcpuCount: 1, memMib: 256, kernel: boot.kernel, initramfs: boot.initramfs };
  }

  async #choose(boot: Pick<MachineSpec, "kernel" | "initramfs">, progress: Progress): Promise<Chosen> {
    const found = await findProgram(QEMU);
    if (found === undefined) {
      throw new PyroError("HOST_TOOL_MISSING", `${QEMU} is not installed.`, {
        hint: "Install it: on Debian and Ubuntu the package is qemu-system-x86.",
        details: { program: QEMU, package: "qemu-system-x86" },
      });
    }
    const options = { limit: this.#settings.templateLimit, stopping: this.#stopping.signal };
    // QEMU looks for its firmware beside its own path, and in the sandbox /bin is not the link to /usr/bin that it is here.
    const program = await realpath(found);
    const make = (kvm: boolean) => {
      const driver = new QemuDriver({ launcher: this.#launcher, program, kvm, confined: !this.#settings.unconfined });
      return { driver, templates: new Templates(this.#paths, driver, options) };
    };
    if (!(await mayOpenKvm())) return { ...make(false), kvm: undefined };
    const underKvm = make(true);
    const verdict = await this.#verdict(underKvm, boot, progress);
    return { ...(verdict.works ? underKvm : make(false)), kvm: verdict };
  }

  async #verdict(
    { driver, templates }: { driver: Driver; templates: Templates },
    boot: Pick<MachineSpec, "kernel" | "initramfs">,
    progress: Progress,
  ): Promise<KvmVerdict> {
    // Who may open the device can be changed by a user who reads what doctor says.
    const { mode, uid, gid } = await stat("/dev/kvm");
    const depends = [await driver.fingerprint(), boot.kernel.sha256, boot.initramfs.sha256, mode, uid, gid];
    const name = createHash("sha256").update(JSON.stringify(depends)).digest("hex");
    const path = join(this.#paths.probes, `kvm-${name}.json`);
    const known = await readRecord<KvmVerdict>(path).catch(() => undefined);
    if (known?.schema_version === SCHEMA_VERSION) return known;
    progress({ stage: "probe", message: "Trying whether KVM can run a guest here, once", fraction: null });
    const verdict = await templates.probe(Acceleration.probeSpec(boot)).then(
      ({ bootMs }) => ({ works: true, boot_ms: bootMs, message: "a probe guest ran under KVM" }),
      (error: unknown) => {
        // Only a guest that was started says something of KVM; a host that lacks something may get it.
        if (!(error instanceof PyroError) || error.code !== "MICROVM_START_FAILED") throw error;
        return { works: false, boot_ms: null, message: `a probe guest did not run under KVM: ${error.message}` };
      },
    );
    const record: KvmVerdict = { schema_version: SCHEMA_VERSION, ...verdict };
    await mkdir(this.#paths.probes, { recursive: true, mode: 0o700 });
    await writeRecord(path, record);
    return record;
  }
}

async function mayOpenKvm(): Promise<boolean> {
  return await access("/dev/kvm", constants.R_OK | constants.W_OK).then(
    () => true,
    () => false,
  );
}
