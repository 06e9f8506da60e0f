// The QEMU driver: boots a template on shared memory, freezes it, and restores microVMs from it. KVM or TCG is decided
// by whoever makes the driver.

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { stat, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { PyroError } from "../../errors/error.ts";
import type { Launcher } from "../../launcher/launcher.ts";
import { describeProcessor } from "../cpu.ts";
import type { Driver, Features, Machine, MachineSpec, RestoreOptions, Template } from "../driver.ts";
import { explainFailure } from "../failure.ts";
import { dropMemory, loadMemory } from "../memory.ts";
import { openToAll } from "../socket.ts";
import { checkTemplate, digestOf, filesOf, recordTemplate } from "../template.ts";
import { type CommandLine, PORTS, prepareCommand, restoreCommand, SHAPE_VERSION, SOCKETS } from "./arguments.ts";
import { QemuMachine } from "./machine.ts";
import { Qmp } from "./qmp.ts";

/** A cold boot under TCG takes 4 to 7 s, several times that on a loaded machine. */
const BOOT_MS = 90_000;
/** A KVM that works boots in a second or two; one that does not hangs. */
const KVM_BOOT_MS = 20_000;
const FREEZE_MS = 30_000;
const MONITOR_MS = 15_000;
const POLL_MS = 5;
/** How long the guest has to put away what it had of its first connection: once, and not after each restore. */
const SETTLE_MS = 300;
/** Largest device state that is believed, bytes; it is about half a megabyte. */
const MAX_STATE_BYTES = 64 << 20;

export interface QemuOptions {
  readonly launcher: Launcher;
  /** Absolute path of qemu-system-x86_64. */
  readonly program: string;
  readonly kvm: boolean;
  readonly confined: boolean;
}

export class QemuDriver implements Driver {
  readonly name = "qemu";
  readonly features: Features;
  readonly fence: string;
  readonly #options: QemuOptions;
  #fingerprint: Promise<string> | undefined;

  constructor(options: QemuOptions) {
    this.#options = options;
    const user =
      process.getuid?.() === 0 ? "an unprivileged user for each microVM" : "no privileges beyond this user's";
    const confined = `bubblewrap, namespaces, ${user} and seccomp`;
    this.fence = options.confined ? confined : "nothing but QEMU itself (unconfined)";
    this.features = {
      acceleration: options.kvm ? "kvm" : "tcg",
      pause: true,
      hotAttach: true,
      readOnlyDrives: true,
      stopsWhenFull: true,
    };
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
    const launcher = this.#options.launcher;
    const vmId = `prepare-${key.slice(0, 16)}`;
    const templateId = key;
    await this.#endLeftOver(vmId);
    await dropMemory(launcher, templateId);
    await launcher.call((calls, options) =>
      calls.createMemory({ templateId, sizeBytes: BigInt(spec.memMib) << 20n }, options),
    );
    let sealed = false;
    try {
      const command = prepareCommand(spec, this.#options.kvm);
      const machine = await this.#start(vmId, templateId, spec, command, true);
      try {
        const bootMs = this.#options.kvm ? KVM_BOOT_MS : BOOT_MS;
        const deadline = AbortSignal.timeout(bootMs);
        await this.#untilReady(machine, ready, signal ? AbortSignal.any([deadline, signal]) : deadline).catch(
          (error) => {
            if (!deadline.aborted) throw error;
            throw new PyroError("MICROVM_START_FAILED", `The guest did not boot within ${bootMs / 1000} s.`);
          },
        );
        const state = await this.#freeze(machine);
        await writeFile(filesOf(directory).state, state, { mode: 0o600 });
        const memory = await launcher.call((calls, options) =>
          calls.sealMemory({ templateId, savePath: filesOf(directory).memory }, options),
        );
        sealed = true;
        await recordTemplate(directory, {
          key,
          state_sha256: digestOf(state),
          memory_sha256: memory.sha256,
          memory_bytes: spec.memMib * 2 ** 20,
          memory_data_bytes: Number(memory.dataBytes),
        });
      } catch (error) {
        throw await explainFailure(error, machine, this.name, "boot");
      } finally {
        await machine.kill();
      }
    } finally {
      if (!sealed) await dropMemory(launcher, templateId);
    }
    return { key, directory };
  }

  async discard(key: string): Promise<void> {
    await dropMemory(this.#options.launcher, key);
  }

  async restore(template: Template, spec: MachineSpec, vmId: string, options: RestoreOptions): Promise<Machine> {
    const record = await checkTemplate(template.directory, template.key);
    const files = filesOf(template.directory);
    await loadMemory(this.#options.launcher, files.memory, record);
    const command = restoreCommand(spec, this.#options.kvm, files.state, options.drives);
    const machine = await this.#start(vmId, template.key, spec, command, options.ephemeral);
    try {
      const qmp = await this.#monitor(machine, options.signal);
      try {
        await ignoreSharedMemory(qmp);
        await qmp.execute("migrate-incoming", { uri: `fd:${command.stateFd}` });
        await untilMigrated(qmp);
        for (const role of ["writable", "aux"] as const) {
          const file = options.drives[role];
          // One that is read-only cannot be resized: its guest looks at it anew.
          if (file !== undefined && !file.readOnly)
            await qmp.execute("block_resize", { "node-name": role, size: file.virtualBytes });
        }
        await qmp.execute("cont");
      } finally {
        qmp.close();
      }
      return machine;
    } catch (error) {
      const explained = await explainFailure(error, machine, this.name, "restore");
      await machine.kill();
      throw explained;
    }
  }

  async #identify(): Promise<string> {
    const { program, kvm } = this.#options;
    const [version, processor, binary] = await Promise.all([
      promisify(execFile)(program, ["--version"], { timeout: MONITOR_MS }),
      describeProcessor(),
      stat(program),
    ]);
    const parts = ["qemu", SHAPE_VERSION, version.stdout, binary.size, binary.mtimeMs, kvm, processor];
    return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
  }

  async #start(
    vmId: string,
    templateId: string,
    spec: MachineSpec,
    command: CommandLine,
    ephemeral: boolean,
  ): Promise<QemuMachine> {
    const { launcher, program, kvm, confined } = this.#options;
    const end = launcher.whenEnded(vmId);
    try {
      const started = await launcher.call((calls, options) =>
        calls.startVm(
          {
            vmId,
            program,
            args: command.args,
            templateId,
            files: command.files.map((file) => ({ path: file.path, readOnly: file.readOnly })),
            ephemeral,
            confined,
            kvm,
            memoryMib: spec.memMib,
            vcpuCount: spec.vcpuCount,
            labels: { driver: this.name },
            ports: [...PORTS],
          },
          options,
        ),
      );
      const directory = started.vm?.directory;
      if (directory === undefined) throw new PyroError("INTERNAL", "The launcher did not say where the microVM is.");
      return new QemuMachine(launcher, vmId, directory, end);
    } catch (error) {
      launcher.forget(vmId);
      throw error;
    }
  }

  /** The monitor's socket appears some 50 ms after the start; a VMM that ends instead says why on its console. */
  async #monitor(machine: QemuMachine, signal?: AbortSignal): Promise<Qmp> {
    let over: string | undefined;
    machine.ended.then((why) => {
      over = why;
    });
    const deadline = Date.now() + MONITOR_MS;
    for (;;) {
      signal?.throwIfAborted();
      try {
        return await Qmp.open(machine.pathOf(SOCKETS.qmp));
      } catch (error) {
        if (over !== undefined) throw new PyroError("MICROVM_START_FAILED", `QEMU did not start: ${over}.`);
        if (Date.now() > deadline) {
          throw new PyroError("MICROVM_START_FAILED", "QEMU's monitor does not answer.", { cause: error });
        }
      }
      await sleep(POLL_MS);
    }
  }

  async #untilReady(
    machine: QemuMachine,
    ready: (control: Duplex) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const qmp = await this.#monitor(machine, signal);
    qmp.close();
    const lost = machine.ended.then((why) => {
      throw new PyroError("MICROVM_START_FAILED", `The guest did not boot: ${why}.`);
    });
    const boot = async () => {
      const control = await machine.openPort("control", signal);
      try {
        await ready(control);
        await farewell(control);
      } finally {
        control.destroy();
      }
    };
    await Promise.race([boot(), lost]);
  }

  /** Stops the vCPUs and takes the device state over a socket of the daemon's; memory stays where it is. */
  async #freeze(machine: QemuMachine): Promise<Buffer> {
    const path = machine.pathOf(SOCKETS.migration);
    const chunks: Buffer[] = [];
    let bytes = 0;
    const server = createServer();
    const state = new Promise<Buffer>((resolve, reject) => {
      server.once("connection", (socket) => {
        socket.on("data", (chunk: Buffer) => {
          bytes += chunk.length;
          if (bytes > MAX_STATE_BYTES) socket.destroy(new Error("the device state is too large"));
          else chunks.push(chunk);
        });
        socket.once("error", reject);
        socket.once("end", () => resolve(Buffer.concat(chunks)));
      });
    });
    state.catch(() => {});
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    try {
      // The VMM's user must reach it; the directory keeps everyone else out.
      await openToAll(path);
      const qmp = await this.#monitor(machine);
      try {
        await qmp.execute("stop");
        await ignoreSharedMemory(qmp);
        await qmp.execute("migrate", { uri: `unix:${SOCKETS.migration}` });
        await untilMigrated(qmp);
        await qmp.execute("quit");
      } finally {
        qmp.close();
      }
      await machine.ended;
      return await state;
    } finally {
      server.close();
    }
  }

  async #endLeftOver(vmId: string): Promise<void> {
    await this.#options.launcher.call((calls, options) => calls.killVm({ vmId }, options));
  }
}

/** Ends a session in order, so that nothing of it is frozen. */
async function farewell(control: Duplex): Promise<void> {
  control.end();
  await sleep(SETTLE_MS);
}

async function ignoreSharedMemory(qmp: Qmp): Promise<void> {
  await qmp.execute("migrate-set-capabilities", {
    capabilities: [{ capability: "x-ignore-shared", state: true }],
  });
}

async function untilMigrated(qmp: Qmp): Promise<void> {
  const deadline = Date.now() + FREEZE_MS;
  for (;;) {
    const answer = (await qmp.execute("query-migrate")) as { status?: string; "error-desc"?: string };
    if (answer.status === "completed") return;
    if (answer.status === "failed" || answer.status === "cancelled") {
      throw new Error(`QEMU could not move the device state: ${answer["error-desc"] ?? answer.status}`);
    }
    if (Date.now() > deadline) throw new Error("QEMU did not finish moving the device state");
    await sleep(POLL_MS);
  }
}
