// The Firecracker driver: boots a template, freezes it into a snapshot, and restores microVMs from that. Needs KVM.
//
// Firecracker's metrics are not asked for: they are a file that grows for as long as the microVM lives, and what of them
// is wanted (memory, processor time) the launcher's cgroups have.
import { createHash } from "node:crypto";
import { chmod, rm, stat, writeFile } from "node:fs/promises";
import { release } from "node:os";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { PyroError } from "../../errors/error.ts";
import type { Launcher } from "../../launcher/launcher.ts";
import { describeProcessor } from "../cpu.ts";
import {
  type Driver,
  type Features,
  type Machine,
  type MachineSpec,
  type RestoreOptions,
  type Template,
  TemplateDamaged,
} from "../driver.ts";
import { explainFailure } from "../failure.ts";
import { checkMemory, dropMemory, importMemory, loadMemory } from "../memory.ts";
import { checkTemplate, digestOfFile, filesOf, recordTemplate, type TemplateRecord } from "../template.ts";
import { type Action, ApiError } from "./api.ts";
import {
  bootActions,
  bootFiles,
  freezeAction,
  loadAction,
  type NamedFile,
  PROGRAM_ARGUMENTS,
  ROLES,
  resizeAction,
  restoreFiles,
  SHAPE_VERSION,
  stateAction,
} from "./configuration.ts";
import type { FoundFirecracker } from "./find.ts";
import { FirecrackerMachine } from "./machine.ts";

/** A KVM that works boots in a second or two; one that does not hangs. A nested one under emulation takes 4 to 20 s. */
const BOOT_MS = 60_000;
/** The memory that the guest has touched is written. */
const FREEZE_MS = 120_000;
const LOAD_MS = 30_000;
const API_MS = 15_000;
const POLL_MS = 5;
/** What the VMM writes its memory into, in the template's directory, until it was saved. */
const RAW_MEMORY = "memory.raw";

export interface FirecrackerOptions {
  readonly launcher: Launcher;
  readonly found: FoundFirecracker;
  readonly confined: boolean;
}

export class FirecrackerDriver implements Driver {
  readonly name = "firecracker";
  readonly features: Features = {
    acceleration: "kvm",
    pause: true,
    hotAttach: false,
    // Whether a drive is read-only is a part of the snapshot.
    readOnlyDrives: false,
    stopsWhenFull: false,
  };
  readonly fence: string;
  readonly #options: FirecrackerOptions;
  /** In a jail it inherits no descriptors: memory goes by name. */
  readonly #jailed: boolean;
  #fingerprint: Promise<string> | undefined;

  constructor(options: FirecrackerOptions) {
    this.#options = options;
    this.#jailed = options.confined && options.found.jailer !== undefined;
    this.fence = fenceOf(options.confined, this.#jailed);
  }

  fingerprint(): Promise<string> {
    this.#fingerprint ??= this.#identify();
    return this.#fingerprint;
  }

  async prepare(
    key: string,
    spec: MachineSpec,
    directory: string,
    ready: (control: Duplex) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<Template> {
    const { launcher } = this.#options;
    const vmId = `prepare-${key.slice(0, 16)}`;
    await launcher.call((calls, options) => calls.killVm({ vmId }, options));
    const files = filesOf(directory);
    const raw = join(directory, RAW_MEMORY);
    for (const path of [files.state, raw]) await writeFile(path, "", { mode: 0o600, flag: "wx" });
    const kernel = await spec.kernel.uncompressed();
    const named = bootFiles(spec, kernel, { state: files.state, memory: raw });
    const machine = await this.#start(vmId, spec, named, undefined, true);
    try {
      try {
        await this.#boot(machine, spec, ready, signal);
        await machine.api.ask(stateAction("Paused"));
        await machine.api.ask(freezeAction(), FREEZE_MS);
      } catch (error) {
        throw await explainFailure(error, machine, this.name, "boot");
      } finally {
        await machine.kill();
      }
      const memoryBytes = spec.memMib * 2 ** 20;
      const memory = await importMemory(launcher, raw, memoryBytes, files.memory);
      await chmod(files.state, 0o444);
      await recordTemplate(directory, {
        key,
        state_sha256: await digestOfFile(files.state),
        memory_sha256: memory.sha256,
        memory_bytes: memoryBytes,
        memory_data_bytes: memory.dataBytes,
      });
    } finally {
      await rm(raw, { force: true });
    }
    return { key, directory };
  }

  async discard(key: string): Promise<void> {
    await dropMemory(this.#options.launcher, key);
  }

  async restore(template: Template, spec: MachineSpec, vmId: string, options: RestoreOptions): Promise<Machine> {
    const files = filesOf(template.directory);
    const named = restoreFiles(files.state, this.#jailed ? files.memory : undefined, options.drives);
    const checked = this.#check(template);
    // What goes by name can be looked at beside the start: nothing of it is used before the load.
    if (this.#jailed) checked.catch(() => {});
    else await checked;
    const templateId = this.#jailed ? undefined : template.key;
    const machine = await this.#start(vmId, spec, named, templateId, options.ephemeral);
    try {
      await checked;
      await this.#load(machine, options.signal);
      const roles = ROLES.filter((role) => options.drives[role] !== undefined);
      await Promise.all(roles.map((role) => machine.api.ask(resizeAction(role))));
      await machine.api.ask(stateAction("Resumed"));
      return machine;
    } catch (error) {
      const explained = await explainFailure(error, machine, this.name, "restore");
      await machine.kill();
      throw explained;
    }
  }

  /** Throws TemplateDamaged. */
  async #check(template: Template): Promise<void> {
    const { launcher } = this.#options;
    const record: TemplateRecord = await checkTemplate(template.directory, template.key);
    const { memory } = filesOf(template.directory);
    if (this.#jailed) await checkMemory(launcher, memory, record);
    else await loadMemory(launcher, memory, record);
  }

  /** Its bytes are those that were frozen; a VMM that does not take them says that they are of no use to it. */
  async #load(machine: FirecrackerMachine, signal?: AbortSignal): Promise<void> {
    try {
      await this.#askFirst(machine, loadAction(this.#jailed), LOAD_MS, signal);
    } catch (error) {
      if (!(error instanceof ApiError) || !error.refused) throw error;
      throw new TemplateDamaged(`Firecracker does not take the template: ${error.message}`);
    }
  }

  async #identify(): Promise<string> {
    const { program, version } = this.#options.found;
    const [processor, binary] = await Promise.all([describeProcessor(), stat(program)]);
    // What a snapshot holds of KVM's state is the host kernel's matter too.
    const parts = ["firecracker", SHAPE_VERSION, version, binary.size, binary.mtimeMs, release(), processor];
    return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
  }

  async #start(
    vmId: string,
    spec: MachineSpec,
    files: readonly NamedFile[],
    templateId: string | undefined,
    ephemeral: boolean,
  ): Promise<FirecrackerMachine> {
    const { launcher, confined, found } = this.#options;
    const end = launcher.whenEnded(vmId);
    try {
      const { vm } = await launcher.call((calls, options) =>
        calls.startVm(
          {
            vmId,
            program: found.program,
            args: [...PROGRAM_ARGUMENTS],
            templateId: templateId ?? "",
            files: [...files],
            ephemeral,
            confined,
            kvm: true,
            memoryMib: spec.memMib,
            vcpuCount: spec.vcpuCount,
            labels: { driver: this.name },
            jailer: this.#jailed ? (found.jailer ?? "") : "",
          },
          options,
        ),
      );
      if (vm === undefined) throw new PyroError("INTERNAL", "The launcher did not say where the microVM is.");
      const machine = new FirecrackerMachine(launcher, vmId, { directory: vm.directory, root: vm.root }, end);
      if (vm.root !== "") return machine;
      await machine.kill();
      throw new PyroError(
        "MICROVM_START_FAILED",
        "The launcher that runs is of an older pyro and knows no Firecracker.",
        {
          hint: "`pyro daemon stop`, and try again when no run and no workspace of the older one is left.",
        },
      );
    } catch (error) {
      launcher.forget(vmId);
      throw error;
    }
  }

  async #boot(
    machine: FirecrackerMachine,
    spec: MachineSpec,
    ready: (control: Duplex) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    const deadline = AbortSignal.timeout(BOOT_MS);
    const bounded = signal ? AbortSignal.any([deadline, signal]) : deadline;
    const lost = machine.ended.then((why) => {
      throw new PyroError("MICROVM_START_FAILED", `The guest did not boot: ${why}.`);
    });
    const boot = async () => {
      const [first, ...others] = bootActions(spec);
      await this.#askFirst(machine, first, API_MS, bounded);
      await machine.api.all(others);
      const control = await machine.openPort("control", bounded);
      try {
        await ready(control);
      } finally {
        control.destroy();
      }
    };
    try {
      await Promise.race([boot(), lost]);
    } catch (error) {
      if (!deadline.aborted) throw error;
      throw new PyroError("MICROVM_START_FAILED", `The guest did not boot within ${BOOT_MS / 1000} s.`);
    }
  }

  /**
   * Asks the first thing, once: the API's socket appears some milliseconds after the start. A VMM that ends instead says why
   * on its console.
   */
  async #askFirst(machine: FirecrackerMachine, action: Action, ms: number, signal?: AbortSignal): Promise<void> {
    const deadline = Date.now() + API_MS;
    for (;;) {
      signal?.throwIfAborted();
      try {
        await machine.api.ask(action, ms);
        return;
      } catch (error) {
        if (machine.isOver) {
          throw new PyroError("MICROVM_START_FAILED", `Firecracker did not start: ${await machine.ended}.`);
        }
        // It was heard.
        if (error instanceof ApiError) throw error;
        if (Date.now() > deadline) {
          throw new PyroError("MICROVM_START_FAILED", "Firecracker's API does not answer.", { cause: error });
        }
      }
      await sleep(POLL_MS);
    }
  }
}

function fenceOf(confined: boolean, jailed: boolean): string {
  if (jailed) return "Firecracker's jailer, namespaces, an unprivileged user for each microVM and seccomp";
  if (confined) return "bubblewrap, namespaces, no privileges beyond this user's and Firecracker's seccomp filters";
  return "nothing but Firecracker's seccomp filters (unconfined)";
}
