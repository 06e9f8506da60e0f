// Templates: one booted, frozen microVM per kernel, guestd, driver, VMM build, CPU and size, made once and restored by
// every start. A template is never changed in place; a damaged one is dropped and made again.
import { createHash, randomBytes } from "node:crypto";
import { mkdir, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Duplex } from "node:stream";
import type { Driver, MachineSpec, Template } from "../drivers/driver.ts";
import { GuestClient } from "../guest/client.ts";
import type { Paths } from "./paths.ts";

export type Progress = (event: { stage: string; message: string; fraction: number | null }) => void;

const STAGING = ".staging-";
const HELLO_MS = 60_000;

export class Templates {
  readonly #directory: string;
  readonly #driver: Driver;
  readonly #stopping: AbortSignal | undefined;
  readonly #making = new Map<string, Promise<Template>>();

  /** `stopping` ends a boot under way. */
  constructor(paths: Paths, driver: Driver, stopping?: AbortSignal) {
    this.#directory = paths.templates;
    this.#driver = driver;
    this.#stopping = stopping;
  }

  /** The template of a machine, booted and frozen first where there is none. Callers at once share one boot. */
  async ensure(spec: MachineSpec, progress: Progress): Promise<Template> {
    const key = await this.#keyOf(spec);
    const template = { key, directory: join(this.#directory, key) };
    if (await exists(template.directory)) return template;
    let making = this.#making.get(key);
    if (making === undefined) {
      making = this.#make(key, spec).finally(() => this.#making.delete(key));
      this.#making.set(key, making);
    }
    progress({ stage: "template", message: "booting a template, once for this size", fraction: null });
    return await making;
  }

  /** Throws a template away; microVMs that run on it keep their memory. */
  async drop(template: Template): Promise<void> {
    await this.#driver.discard(template.key);
    await rm(template.directory, { recursive: true, force: true });
  }

  /** Boots the smallest machine to a frozen state and throws it away: does this driver work here, and how fast. */
  async probe(spec: MachineSpec): Promise<{ bootMs: number }> {
    const started = performance.now();
    const staging = await this.#stage();
    const key = `probe-${randomBytes(16).toString("hex")}`;
    try {
      await this.#driver.prepare(key, spec, staging, untilIdle, this.#stopping);
      const bootMs = Math.round(performance.now() - started);
      await this.#driver.discard(key);
      return { bootMs };
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }

  async #make(key: string, spec: MachineSpec): Promise<Template> {
    const staging = await this.#stage();
    try {
      await this.#driver.prepare(key, spec, staging, untilIdle, this.#stopping);
      const directory = join(this.#directory, key);
      await rename(staging, directory);
      return { key, directory };
    } catch (error) {
      await rm(staging, { recursive: true, force: true });
      throw error;
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

async function exists(path: string): Promise<boolean> {
  return await stat(path).then(
    () => true,
    () => false,
  );
}
