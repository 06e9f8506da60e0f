// Templates: one booted, frozen microVM per kernel, guestd, driver, VMM build, CPU and size, made once and restored by
// every start. A template is never changed in place; a damaged one is dropped and made again, and of those that were not
// used lately only some are kept.
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Driver, MachineSpec, Template } from "../drivers/driver.ts";
import { GuestClient } from "../guest/client.ts";
import type { Paths } from "./paths.ts";

export type Progress = (event: { stage: string; message: string; fraction: number | null }) => void;

const STAGING = ".staging-";
const HELLO_MS = 60_000;
/** How many stay in memory, each with the memory its guest had touched; another is loaded from disk in 0.1 s. */
const LOADED = 4;
/** A start that found its template has used it within this time, ms: it is not taken away from under it. */
const IN_USE_MS = 120_000;
const KEY_PATTERN = /^[0-9a-f]{64}$/;

/** A template as it was found: once it is made anew, this one is out of date. */
export interface FoundTemplate extends Template {
  readonly generation: number;
}

export interface TemplateOptions {
  /** Most templates on disk. */
  readonly limit: number;
  /** Ends a boot under way. */
  readonly stopping?: AbortSignal;
}

export class Templates {
  readonly #directory: string;
  readonly #driver: Driver;
  readonly #options: TemplateOptions;
  readonly #making = new Map<string, Promise<void>>();
  /** How often this daemon made each. */
  readonly #generations = new Map<string, number>();
  /** When each was last asked for, by this daemon: those that may be loaded. Least recent first. */
  readonly #loaded = new Map<string, number>();

  constructor(paths: Paths, driver: Driver, options: TemplateOptions) {
    this.#directory = paths.templates;
    this.#driver = driver;
    this.#options = options;
  }

  /** The template of a machine, booted and frozen first where there is none. Callers at once share one boot. */
  async ensure(spec: MachineSpec, progress: Progress): Promise<FoundTemplate> {
    const key = await this.#keyOf(spec);
    const directory = join(this.#directory, key);
    if (!(await touched(directory))) {
      progress({ stage: "template", message: "Booting a template, once for this size", fraction: null });
      await this.#shared(key, () => this.#make(key, spec));
    }
    await this.#use(key);
    return { key, directory, generation: this.#generations.get(key) ?? 0 };
  }

  /**
   * Makes one anew that was found damaged; microVMs that run on it keep their memory. Callers at once share one boot,
   * and whoever comes late with what was mended meanwhile gets the new one.
   */
  async remake(damaged: FoundTemplate, spec: MachineSpec, progress: Progress): Promise<FoundTemplate> {
    if (damaged.generation === (this.#generations.get(damaged.key) ?? 0)) {
      progress({ stage: "template", message: "the template was damaged; booting it anew", fraction: null });
      await this.#shared(damaged.key, async () => {
        await this.#drop(damaged);
        await this.#make(damaged.key, spec);
      });
    }
    return await this.ensure(spec, progress);
  }

  /** Boots the smallest machine to a frozen state and throws it away: does this driver work here, and how fast. */
  async probe(spec: MachineSpec): Promise<{ bootMs: number }> {
    const started = performance.now();
    const staging = await this.#stage();
    const key = `probe-${randomBytes(16).toString("hex")}`;
    try {
      await this.#driver.prepare(key, spec, staging, untilIdle, this.#options.stopping);
      const bootMs = Math.round(performance.now() - started);
      await this.#driver.discard(key);
      return { bootMs };
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  /** One piece of work for a key at a time; who comes while it is done waits for it instead. */
  async #shared(key: string, work: () => Promise<void>): Promise<void> {
    let making = this.#making.get(key);
    if (making === undefined) {
      making = work().finally(() => this.#making.delete(key));
      this.#making.set(key, making);
    }
    await making;
  }

  async #drop(template: Template): Promise<void> {
    this.#loaded.delete(template.key);
    await this.#driver.discard(template.key);
    await rm(template.directory, { recursive: true, force: true });
  }

  async #make(key: string, spec: MachineSpec): Promise<void> {
    const staging = await this.#stage();
    try {
      await this.#driver.prepare(key, spec, staging, untilIdle, this.#options.stopping);
      const directory = join(this.#directory, key);
      await rename(staging, directory);
      this.#generations.set(key, (this.#generations.get(key) ?? 0) + 1);
      await this.#evict();
    } catch (error) {
      await rm(staging, { recursive: true, force: true });
      throw error;
    }
  }

  /** Notes the use, and lets go of the memory of one that was not used for long. */
  async #use(key: string): Promise<void> {
    this.#loaded.delete(key);
    this.#loaded.set(key, Date.now());
    if (this.#loaded.size <= LOADED) return;
    for (const [other, usedAt] of this.#loaded) {
      if (this.#loaded.size <= LOADED || Date.now() - usedAt < IN_USE_MS) return;
      this.#loaded.delete(other);
      await this.#driver.discard(other);
    }
  }

  /** Drops the least recently used beyond the limit. The time of a template's directory is that of its last use. */
  async #evict(): Promise<void> {
    const found = [];
    for (const key of await readdir(this.#directory).catch(() => [])) {
      const directory = join(this.#directory, key);
      const usedAt = KEY_PATTERN.test(key) ? (await stat(directory).catch(() => undefined))?.mtimeMs : undefined;
      if (usedAt !== undefined) found.push({ key, directory, usedAt });
    }
    found.sort((a, b) => b.usedAt - a.usedAt);
    for (const old of found.slice(this.#options.limit)) {
      if (Date.now() - old.usedAt > IN_USE_MS) await this.#drop(old);
    }
  }

  async #stage(): Promise<string> {
    const staging = join(this.#directory, `${STAGING}${randomBytes(6).toString("hex")}`);
    await mkdir(staging, { recursive: true, mode: 0o700 });
    return staging;
  }

  async #keyOf(spec: MachineSpec): Promise<string> {
    const parts = [
      await this.#driver.fingerprint(),
      spec.vcpuCount,
      spec.memMib,
      spec.kernel.sha256,
      spec.initramfs.sha256,
    ];
    return createHash("sha256").update(JSON.stringify(parts)).digest("hex");
  }
}

/** What a daemon that died left half-made. Call before any other use: only one daemon lives at a time. */
export async function removeStagedTemplates(paths: Paths): Promise<void> {
  for (const name of await readdir(paths.templates).catch(() => [])) {
    if (name.startsWith(STAGING)) await rm(join(paths.templates, name), { recursive: true, force: true });
  }
}

/** guestd answers, and answers nothing else before the freeze: a template has no identity yet. */
async function untilIdle(control: Duplex): Promise<void> {
  let given = false;
  const guest = new GuestClient(async () => {
    if (given) throw new Error("the link dropped during the boot");
    given = true;
    return control;
  });
  try {
    await guest.call((calls, options) => calls.hello({}, options), { timeoutMs: HELLO_MS });
  } finally {
    guest.close();
  }
}

/** False when there is none. */
async function touched(directory: string): Promise<boolean> {
  const now = new Date();
  return await utimes(directory, now, now).then(
    () => true,
    () => false,
  );
}
