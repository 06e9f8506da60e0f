// microVMs below the engine, for tests of driver, link and disks: a launcher of their own, the tests' environments.
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Driver, Machine, MachineSpec } from "../../src/drivers/driver.ts";
import { candidates } from "../../src/engine/candidates.ts";
import { makeDirectories } from "../../src/engine/engine.ts";
import { newIdentity } from "../../src/engine/microvm.ts";
import { type Paths, pathsFor } from "../../src/engine/paths.ts";
import type { Prepared } from "../../src/engine/preparation.ts";
import { readSettings } from "../../src/engine/settings.ts";
import { type FoundTemplate, Templates } from "../../src/engine/templates.ts";
import { EnvironmentStore, type InstalledEnvironment } from "../../src/environments/store.ts";
import type { GuestClient } from "../../src/guest/client.ts";
import { installation } from "../../src/host/installation.ts";
import { Launcher } from "../../src/launcher/launcher.ts";
import { runOk, sharedHome } from "./harness.ts";

export class MachineRoom {
  readonly driver: Driver;
  readonly templates: Templates;
  readonly paths: Paths;
  readonly launcher: Launcher;
  readonly directory: string;
  readonly base: InstalledEnvironment;
  readonly spec: MachineSpec;

  private constructor(
    directory: string,
    launcher: Launcher,
    driver: Driver,
    paths: Paths,
    base: InstalledEnvironment,
    spec: MachineSpec,
  ) {
    this.directory = directory;
    this.launcher = launcher;
    this.driver = driver;
    this.paths = paths;
    this.templates = new Templates(paths, driver, { limit: 8 });
    this.base = base;
    this.spec = spec;
  }

  static async open(): Promise<MachineRoom> {
    // Makes sure that the environment is there; the store of a test must not build beside the daemon's.
    await runOk(["--", "true"]);
    const shared = pathsFor({ PYRO_HOME: sharedHome() }, process.getuid?.() ?? 0);
    const directory = await mkdtemp(join(tmpdir(), "pyro-room-"));
    const paths = pathsFor({ PYRO_HOME: directory }, process.getuid?.() ?? 0);
    await makeDirectories(paths);
    const launcher = new Launcher({
      program: installation().launcher,
      socketPath: paths.launcherSocket,
      vmsDirectory: paths.vms,
      logPath: paths.launcherLog,
    });
    const driver = await driverOf(paths, launcher);
    const store = new EnvironmentStore(shared, installation().guestd);
    const boot = await store.boot(() => {});
    const base = await store.installed("debian:12");
    if (base === undefined) throw new Error("debian:12 is not installed");
    return new MachineRoom(directory, launcher, driver, paths, base, { vcpuCount: 1, memMib: 512, ...boot });
  }

  async template(): Promise<FoundTemplate> {
    return await this.templates.ensure(this.spec, () => {});
  }

  /** A restored microVM with the base, and a writable disk if given. */
  async restore(vmId: string, writable?: { path: string; mib: number }): Promise<Machine> {
    return await this.driver.restore(await this.template(), this.spec, vmId, {
      drives: {
        base: { path: this.base.imagePath, readOnly: true, virtualBytes: this.base.size_bytes },
        ...(writable
          ? { writable: { path: writable.path, readOnly: false, virtualBytes: writable.mib * 2 ** 20 } }
          : {}),
      },
      ephemeral: true,
    });
  }

  /** Identity and root file system, as the engine does it. */
  async ready(guest: GuestClient): Promise<void> {
    const { hostname, machineId } = newIdentity();
    const options = { timeoutMs: 60_000 };
    const entropy = crypto.getRandomValues(new Uint8Array(64));
    const unixNanoseconds = BigInt(Date.now()) * 1_000_000n;
    await guest.call((calls, call) => calls.identify({ hostname, machineId, unixNanoseconds, entropy }, call), options);
    await guest.call((calls, call) => calls.mountRoot({ baseType: "squashfs" }, call), options);
  }

  /** What the engine starts microVMs from. */
  async prepared(): Promise<Prepared> {
    const template = await this.template();
    const shape = { environment: "debian:12", vcpuCount: this.spec.vcpuCount, memMib: this.spec.memMib, diskMib: 1024 };
    const { spec, driver, templates } = this;
    const environment = { ...this.base, release: () => {} };
    return { shape, spec, environment, driver, templates, template, key: template.key };
  }

  async scratch(name: string): Promise<string> {
    const path = join(this.directory, name);
    await mkdir(path, { recursive: true });
    return path;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const vm of await this.launcher.vms()) {
      await this.launcher.call((calls, options) => calls.killVm({ vmId: vm.vmId }, options));
    }
    await this.launcher.stop();
    const paths = pathsFor({ PYRO_HOME: this.directory }, process.getuid?.() ?? 0);
    await rm(this.directory, { recursive: true, force: true });
    await rm(paths.sockets, { recursive: true, force: true });
  }
}

/** The one that PYRO_DRIVER names; QEMU without KVM when it names none. */
async function driverOf(paths: Paths, launcher: Launcher): Promise<Driver> {
  const settings = readSettings(process.env);
  const name = settings.driver === "auto" ? "qemu" : settings.driver;
  const acceleration = name === "qemu" ? "tcg" : "kvm";
  for (const candidate of await candidates(paths, launcher, settings)) {
    if (candidate.name !== name || candidate.acceleration !== acceleration) continue;
    if (candidate.driver !== undefined) return candidate.driver;
    throw new Error(candidate.obstacle.message);
  }
  throw new Error(`there is no driver ${name}`);
}

/** Runs a command to its end and gives its stdout and exit code. */
export async function exec(
  guest: GuestClient,
  processId: string,
  argv: string[],
): Promise<{ code: number; stdout: Buffer }> {
  const encode = (text: string) => Buffer.from(text);
  const env = [encode("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")];
  await guest.call(
    (calls, options) =>
      calls.startProcess({ processId, argv: argv.map(encode), env, cwd: encode("/workspace"), noStdin: true }, options),
    { timeoutMs: 60_000 },
  );
  const chunks: Uint8Array[] = [];
  for await (const event of guest.readOutput(processId, 0n, AbortSignal.timeout(120_000))) {
    if (event.case === "chunk" && event.value.stream === 1) chunks.push(event.value.data);
    if (event.case === "exited") return { code: event.value.exitCode, stdout: Buffer.concat(chunks) };
  }
  throw new Error("the command did not end");
}
