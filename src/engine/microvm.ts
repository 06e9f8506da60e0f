// A microVM that answers: restored, given its own identity, its disks mounted, its clock kept right. What runs in it is
// others' business.

import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { orAborted } from "../abort/or-aborted.ts";
import type { Driver, Drives, Machine, MachineSpec, Template } from "../drivers/driver.ts";
import { PyroError } from "../errors/error.ts";
import { GuestClient } from "../guest/client.ts";

/** From the restore to a mounted root, under TCG on a loaded machine. */
const READY_MS = 60_000;
const CLOCK_EVERY_MS = 60_000;
const CLOCK_MS = 10_000;
/** From the first SIGTERM in the guest to clean disks, and from there to the VMM's end. */
const SHUTDOWN_MS = 30_000;
const POWER_OFF_MS = 5_000;
const ENTROPY_BYTES = 64;

/** What makes a microVM this one and no other of its template. */
export interface Identity {
  readonly hostname: string;
  /** 32 hexadecimal digits. */
  readonly machineId: string;
}

export function newIdentity(): Identity {
  return { hostname: `pyro-${randomBytes(4).toString("hex")}`, machineId: randomBytes(16).toString("hex") };
}

export interface MicroVmOptions {
  readonly drives: Drives;
  /** Of the base, which becomes its root with the disk. Undefined: nothing is mounted. */
  readonly baseType: string | undefined;
  readonly ephemeral: boolean;
  readonly signal: AbortSignal;
  /** Who it is to be; somebody new when it is not given. */
  readonly identity?: Identity;
  /** Resolves when there is a file system on its disk; at once where nothing is given. */
  readonly formatted?: Promise<void>;
  /** The host's clock, ms since 1970. */
  readonly now?: () => number;
}

export class MicroVm {
  readonly machine: Machine;
  readonly guest: GuestClient;
  /** Undefined for one that was taken up: its own record has it. */
  readonly identity: Identity | undefined;
  readonly #clock: NodeJS.Timeout;
  readonly #now: () => number;

  private constructor(machine: Machine, identity: Identity | undefined, now: () => number) {
    this.machine = machine;
    this.identity = identity;
    this.#now = now;
    this.guest = new GuestClient((signal) => machine.openPort("control", signal));
    // Calls under way must not wait for a deadline when the VMM has gone.
    machine.ended.then((why) => this.#lost(why));
    // A failure shows in the next call that matters.
    this.#clock = setInterval(() => void this.check().catch(() => {}), CLOCK_EVERY_MS);
    this.#clock.unref();
  }

  /** Restores a template and makes it ready for processes. On failure nothing of it is left. */
  static async start(
    driver: Driver,
    template: Template,
    spec: MachineSpec,
    vmId: string,
    options: MicroVmOptions,
  ): Promise<MicroVm> {
    const machine = await driver.restore(template, spec, vmId, options);
    const identity = options.identity ?? newIdentity();
    const vm = new MicroVm(machine, identity, options.now ?? Date.now);
    try {
      await vm.#identify(identity, options.signal);
      await options.formatted;
      if (options.baseType !== undefined) await vm.#mount(options.baseType, options.signal);
      return vm;
    } catch (error) {
      const tail = (await machine.consoleTail()).trim();
      await vm.kill();
      throw withTail(error, tail);
    }
  }

  /** Takes up one that runs already and is ready. */
  static adopt(machine: Machine): MicroVm {
    return new MicroVm(machine, undefined, Date.now);
  }

  /** Ends it at once. Idempotent. */
  async kill(): Promise<void> {
    this.release();
    await this.machine.kill();
  }

  /**
   * Has it end its processes, make its disks clean and power off; one that does not within a while, or before the signal
   * aborts, is ended. Returns when it is gone.
   */
  async shutdown(signal: AbortSignal): Promise<void> {
    try {
      await this.guest.call((calls, call) => calls.shutdown({}, call), { timeoutMs: SHUTDOWN_MS, signal });
      await orAborted(Promise.race([this.machine.ended, sleep(POWER_OFF_MS, undefined, { ref: false })]), signal);
    } catch {
      // It is ended all the same; its disk has a journal.
    }
    await this.kill();
  }

  /** Stops its vCPUs; nothing in it notices. */
  async pause(): Promise<void> {
    await this.machine.pause();
  }

  /** It stood still, and nobody was to ask it anything: it goes on, then it may be asked. Rejects when it cannot. */
  async goOn(): Promise<void> {
    await this.machine.resume();
    this.guest.unhold();
    // A clock that is behind is put right again by the next look at it.
    await this.check().catch(() => {});
  }

  /** Lets its vCPUs go on, with the clock right before anything asks it. */
  async resume(signal?: AbortSignal): Promise<void> {
    await this.machine.resume();
    await this.check(signal);
  }

  /** Lets go of it and leaves it running. */
  release(): void {
    clearInterval(this.#clock);
    this.guest.close();
    this.machine.release();
  }

  async #identify(identity: Identity, signal: AbortSignal): Promise<void> {
    await this.guest.call(
      (calls, options) =>
        calls.identify(
          {
            hostname: identity.hostname,
            machineId: identity.machineId,
            unixNanoseconds: this.#nanoseconds(),
            entropy: randomBytes(ENTROPY_BYTES),
          },
          options,
        ),
      { timeoutMs: READY_MS, signal },
    );
  }

  /**
   * Runs a process that does nothing, and forgets it: the first of its kind takes many times as long as the second, under
   * emulation because the guest's code has yet to be translated. An image without a shell is warmed as far as the
   * attempt. Errors: those of the guest client.
   */
  async warm(signal: AbortSignal): Promise<void> {
    const processId = "warm-up";
    const bytes = (text: string) => Buffer.from(text);
    const options = { timeoutMs: READY_MS, signal };
    await this.guest.call(
      (calls, call) =>
        calls.startProcess(
          {
            processId,
            argv: ["/bin/sh", "-c", "exec /bin/true"].map(bytes),
            cwd: bytes("/"),
            noStdin: true,
            timeoutMilliseconds: BigInt(READY_MS),
          },
          call,
        ),
      options,
    );
    for await (const event of this.guest.readOutput(processId, 0n, signal)) if (event.case === "exited") break;
    await this.guest.call((calls, call) => calls.removeProcess({ processId }, call), options);
  }

  async #mount(baseType: string, signal: AbortSignal): Promise<void> {
    await this.guest.call((calls, options) => calls.mountRoot({ baseType }, options), { timeoutMs: READY_MS, signal });
  }

  /** Rejects when it does not answer; its clock is right afterwards: laptops sleep, and a paused microVM falls behind. */
  async check(signal?: AbortSignal): Promise<void> {
    const options = { timeoutMs: CLOCK_MS, ...(signal ? { signal } : {}) };
    await this.guest.call((calls, call) => calls.setClock({ unixNanoseconds: this.#nanoseconds() }, call), options);
  }

  #nanoseconds(): bigint {
    return BigInt(this.#now()) * 1_000_000n;
  }

  #lost(why: string): void {
    clearInterval(this.#clock);
    this.guest.close(new PyroError("MICROVM_LOST", `The microVM ended: ${why}.`));
  }
}

function withTail(error: unknown, consoleTail: string): unknown {
  if (error instanceof ConnectError && error.code !== Code.Canceled) {
    return new PyroError("MICROVM_START_FAILED", `The guest could not get ready: ${error.rawMessage}`, {
      cause: error,
      details: { stage: "ready", console_tail: consoleTail },
    });
  }
  if (error instanceof PyroError && ["GUEST_UNRESPONSIVE", "MICROVM_LOST"].includes(error.code)) {
    return new PyroError("MICROVM_START_FAILED", error.message, {
      cause: error,
      details: { stage: "ready", console_tail: consoleTail },
    });
  }
  return error;
}
