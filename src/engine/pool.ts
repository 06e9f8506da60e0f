// The pool: microVMs restored, mounted and warmed before anybody asks, for the environment and size last used. A run
// that finds one takes it and saves the restore; the place is filled again in the background, when nothing else starts.
// An idle microVM belongs to no one: it ends with its daemon, under memory pressure, and when it was not needed long.
import { randomBytes } from "node:crypto";
import { mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { hostMemory } from "../host/resources.ts";
import type { FreshOptions, FreshStarts } from "./fresh.ts";
import { MEMORY_RESERVE_MIB } from "./limits.ts";
import type { MicroVm } from "./microvm.ts";
import type { Prepared } from "./preparation.ts";

/** Starts come in bursts: filling waits until none has begun for this long, ms. */
const QUIET_MS = 300;
/** Nobody took from it for this long: its memory is better used otherwise, ms. */
const UNUSED_MS = 30 * 60_000;
const PRESSURE_CHECK_MS = 5_000;
/** What must be free beyond the host's reserve to keep idle microVMs, MiB: a run asks for more at any moment. */
const PRESSURE_MARGIN_MIB = 256;
/** After this many failures in a row filling rests until the next start says that starts work. */
const FAILURES = 3;

/** What lies in the directory of one. */
const filesOf = (directory: string) => ({
  diskPath: join(directory, "disk.ext4"),
  baselinePath: join(directory, "baseline.ext4"),
});

interface Idle {
  readonly key: string;
  readonly vm: MicroVm;
  readonly directory: string;
}

/** One being filled. Whoever needs it before it is warm has it as soon as it is mounted. */
interface Filling {
  readonly key: string;
  readonly stop: AbortController;
  readonly mounted: PromiseWithResolvers<Idle | undefined>;
  claimed: boolean;
}

export class Pool {
  readonly #starts: FreshStarts;
  readonly #directory: string;
  readonly #size: number;
  readonly #hostMemory: typeof hostMemory;
  #wanted: Prepared | undefined;
  #idle: Idle[] = [];
  #filling: Filling | undefined;
  #work: Promise<void> = Promise.resolve();
  #starting = 0;
  #failures = 0;
  #quiet: NodeJS.Timeout | undefined;
  #unused: NodeJS.Timeout | undefined;
  #pressure: NodeJS.Timeout | undefined;
  #closed = false;

  /** `directory` holds the disks of idle microVMs; `size` 0 switches the pool off. */
  constructor(starts: FreshStarts, directory: string, size: number, memory = hostMemory) {
    this.#starts = starts;
    this.#directory = directory;
    this.#size = size;
    this.#hostMemory = memory;
  }

  get size(): number {
    return this.#size;
  }

  /** False when nothing lies here and nothing is being filled. */
  get holdsMemory(): boolean {
    return this.#idle.length > 0 || this.#filling !== undefined;
  }

  /** How many are there to be taken. */
  get ready(): number {
    return this.#idle.length;
  }

  /** Removes what an earlier daemon's pool left on disk; its microVMs are the launcher's, and are ended by whoever adopts. */
  async open(): Promise<void> {
    await rm(this.#directory, { recursive: true, force: true });
    if (this.#size > 0) await mkdir(this.#directory, { mode: 0o700 });
  }

  /**
   * A microVM that is ready for this, its files moved to where they are wanted; undefined when there is none. It is the
   * caller's, under the launcher's name and the identity it was filled with. Never rejects.
   */
  async take(
    prepared: Prepared,
    { diskPath, baselinePath }: Pick<FreshOptions, "diskPath" | "baselinePath">,
  ): Promise<MicroVm | undefined> {
    for (;;) {
      const idle = this.#next(prepared.key) ?? (await this.#claim(prepared.key));
      if (idle === undefined) return undefined;
      try {
        const files = filesOf(idle.directory);
        await rename(files.diskPath, diskPath);
        if (baselinePath !== undefined) await rename(files.baselinePath, baselinePath);
        await rm(idle.directory, { recursive: true, force: true });
        return idle.vm;
      } catch {
        await this.#end(idle);
      }
    }
  }

  /** A start begins: filling waits. Call what it returns once, when the start is over, with what it was that started. */
  begin(): (started?: Prepared) => void {
    this.#starting++;
    clearTimeout(this.#quiet);
    return (started) => {
      this.#starting--;
      if (started !== undefined) this.#want(started);
      this.#schedule();
    };
  }

  /** Gives every idle microVM up, for memory or for their environment's sake; the next start fills again. */
  async drain(): Promise<void> {
    this.#wanted = undefined;
    clearTimeout(this.#quiet);
    clearTimeout(this.#unused);
    clearInterval(this.#pressure);
    this.#filling?.stop.abort();
    await this.#endAll(() => true);
    await this.#work;
  }

  /** Ends everything and fills no more. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.drain();
    await rm(this.#directory, { recursive: true, force: true });
  }

  /** Lets go without ending anything: the launcher ends what nobody claims. */
  release(): void {
    this.#closed = true;
    clearTimeout(this.#quiet);
    clearTimeout(this.#unused);
    clearInterval(this.#pressure);
    for (const { vm } of this.#idle.splice(0)) vm.release();
  }

  #next(key: string): Idle | undefined {
    const index = this.#idle.findIndex((idle) => idle.key === key);
    return index < 0 ? undefined : this.#idle.splice(index, 1)[0];
  }

  async #claim(key: string): Promise<Idle | undefined> {
    const filling = this.#filling;
    if (filling === undefined || filling.key !== key || filling.claimed) return undefined;
    filling.claimed = true;
    return await filling.mounted.promise;
  }

  #want(prepared: Prepared): void {
    if (this.#size === 0 || this.#closed) return;
    this.#wanted = prepared;
    this.#failures = 0;
    clearTimeout(this.#unused);
    this.#unused = setTimeout(() => void this.drain(), UNUSED_MS);
    this.#unused.unref();
    clearInterval(this.#pressure);
    this.#pressure = setInterval(() => void this.#yieldToPressure(), PRESSURE_CHECK_MS);
    this.#pressure.unref();
  }

  /** Fills after a quiet moment, one at a time, as long as there is room and nothing starts. */
  #schedule(): void {
    clearTimeout(this.#quiet);
    if (!this.#needsMore()) return;
    this.#quiet = setTimeout(() => {
      if (this.#filling !== undefined || this.#starting > 0 || !this.#needsMore()) return;
      this.#work = this.#fill().finally(() => this.#schedule());
    }, QUIET_MS);
    this.#quiet.unref();
  }

  #needsMore(): boolean {
    const key = this.#wanted?.key;
    if (this.#closed || key === undefined || this.#failures >= FAILURES) return false;
    return this.#idle.filter((idle) => idle.key === key).length < this.#size;
  }

  /** Never rejects: what is wrong with starts is told to whoever starts one. */
  async #fill(): Promise<void> {
    const prepared = this.#wanted;
    if (prepared === undefined) return;
    const filling: Filling = {
      key: prepared.key,
      stop: new AbortController(),
      mounted: Promise.withResolvers(),
      claimed: false,
    };
    this.#filling = filling;
    try {
      // Those of another environment or size make room first.
      await this.#endAll((idle) => idle.key !== prepared.key);
      const hasRoom = (await this.#spareMib()) >= prepared.shape.memMib;
      this.#failures = hasRoom ? await this.#start(prepared, filling).then(() => 0) : FAILURES;
    } catch {
      this.#failures++;
    } finally {
      filling.mounted.resolve(undefined);
      this.#filling = undefined;
    }
  }

  async #start(prepared: Prepared, filling: Filling): Promise<void> {
    const { signal } = filling.stop;
    const machineId = `idle-${randomBytes(8).toString("hex")}`;
    const directory = join(this.#directory, machineId);
    try {
      await mkdir(directory, { mode: 0o700 });
      // Whoever takes it may have a seed.
      const options = { machineId, ...filesOf(directory), signal };
      const vm = await this.#starts.start(prepared, options, () => {});
      const idle = { key: prepared.key, vm, directory };
      filling.mounted.resolve(idle);
      if (!filling.claimed) await this.#keep(idle, filling);
    } catch (error) {
      await rm(directory, { recursive: true, force: true }).catch(() => {});
      throw error;
    }
  }

  /** Warms it, unless it is needed now, and lays it up. Rejects, with nothing left, when it does not answer. */
  async #keep(idle: Idle, filling: Filling): Promise<void> {
    const warmed = await idle.vm.warm(filling.stop.signal).then(
      () => true,
      () => false,
    );
    if (filling.claimed) return;
    // Nobody can claim it from here on.
    filling.claimed = true;
    if (!warmed || filling.stop.signal.aborted || this.#closed) {
      await this.#end(idle);
      throw new Error("it does not answer, or is not wanted any more");
    }
    this.#idle.push(idle);
    idle.vm.machine.ended.then(() => this.#lose(idle));
  }

  /** One ended by itself while it lay here. */
  #lose(idle: Idle): void {
    if (!this.#idle.includes(idle)) return;
    this.#idle = this.#idle.filter((other) => other !== idle);
    this.#failures++;
    void this.#end(idle).then(() => this.#schedule());
  }

  async #endAll(which: (idle: Idle) => boolean): Promise<void> {
    const ending = this.#idle.filter(which);
    this.#idle = this.#idle.filter((idle) => !ending.includes(idle));
    await Promise.all(ending.map((idle) => this.#end(idle)));
  }

  /** Never rejects: what cannot be removed goes with the next daemon's start. */
  async #end(idle: Idle): Promise<void> {
    await idle.vm.kill().catch(() => {});
    await rm(idle.directory, { recursive: true, force: true }).catch(() => {});
  }

  async #yieldToPressure(): Promise<void> {
    if (this.#idle.length > 0 && (await this.#spareMib()) < 0) await this.drain();
  }

  /** What the host has beyond what is to stay free for itself and for the next run, MiB; 0 when it does not say. */
  async #spareMib(): Promise<number> {
    const { availableMib } = await this.#hostMemory().catch(() => ({ availableMib: 0 }));
    return availableMib === 0 ? 0 : availableMib - MEMORY_RESERVE_MIB - PRESSURE_MARGIN_MIB;
  }
}
