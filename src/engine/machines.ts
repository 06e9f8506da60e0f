// Where a microVM for a run or a workspace comes from: one that lies ready in the pool, else a fresh one, with room made
// for it when only idle ones are in the way.
import { rm } from "node:fs/promises";
import type { AgainOptions, FreshOptions, FreshStarts, InspectorOptions } from "./fresh.ts";
import { checkMemory } from "./limits.ts";
import type { MicroVm } from "./microvm.ts";
import type { Pool } from "./pool.ts";
import type { Prepared } from "./preparation.ts";
import type { Progress } from "./templates.ts";

export class Machines {
  readonly #starts: FreshStarts;
  readonly #pool: Pool;

  constructor(starts: FreshStarts, pool: Pool) {
    this.#starts = starts;
    this.#pool = pool;
  }

  /** A start begins: see Pool.begin. */
  begin(): (started?: Prepared) => void {
    return this.#pool.begin();
  }

  /**
   * A microVM on a new disk at `diskPath`. One of the pool goes by the name it was filled under. On failure nothing of it
   * is left. Errors: HOST_MEMORY_SHORT, those of FreshStarts.start; the signal's reason.
   */
  async obtain(prepared: Prepared, options: FreshOptions, progress: Progress): Promise<MicroVm> {
    const ready = await this.#fromPool(prepared, options);
    if (ready !== undefined) return ready;
    await this.#makeRoom(prepared);
    return await this.#starts.start(prepared, options, progress);
  }

  /** A microVM on a disk that there is. Errors: HOST_MEMORY_SHORT, those of FreshStarts.again; the signal's reason. */
  async restart(prepared: Prepared, options: AgainOptions, progress: Progress): Promise<MicroVm> {
    await this.#makeRoom(prepared);
    return await this.#starts.again(prepared, options, progress);
  }

  /** A microVM that only looks at disks. Errors: HOST_MEMORY_SHORT, those of FreshStarts.apart; the signal's reason. */
  async inspector(prepared: Prepared, options: InspectorOptions, progress: Progress): Promise<MicroVm> {
    await this.#makeRoom(prepared);
    return await this.#starts.apart(prepared, options, progress);
  }

  /** One that lies ready. One that turns out not to answer is no reason to fail: nothing ran yet. */
  async #fromPool(prepared: Prepared, options: FreshOptions): Promise<MicroVm | undefined> {
    const { diskPath, baselinePath, signal } = options;
    const vm = await this.#pool.take(prepared, options);
    if (vm === undefined) return undefined;
    try {
      await vm.check(signal);
      return vm;
    } catch (error) {
      await vm.kill();
      await rm(diskPath, { force: true });
      if (baselinePath !== undefined) await rm(baselinePath, { force: true });
      if (signal.aborted) throw error;
      return undefined;
    }
  }

  /** What nobody uses must not be in the way of what somebody asks for. */
  async #makeRoom({ shape }: Prepared): Promise<void> {
    const size = { vcpu_count: shape.vcpuCount, mem_mib: shape.memMib };
    try {
      await checkMemory(size);
    } catch (short) {
      if (!this.#pool.holdsMemory) throw short;
      await this.#pool.drain();
      await checkMemory(size);
    }
  }
}
