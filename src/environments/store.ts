// The environments of one PYRO_HOME: which are installed, building what is missing, and the artifacts every boot needs.
import { chmod, copyFile, mkdir, readdir, readFile, rename, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Paths } from "../engine/paths.ts";
import { PyroError } from "../errors/error.ts";
import { buildRecipe } from "./build.ts";
import { sha256File, sha256Text } from "./digest.ts";
import { failBuild } from "./failure.ts";
import { INITRAMFS_FORMAT, packInitramfs } from "./initramfs.ts";
import { fetchKernel } from "./kernel.ts";
import {
  type BootManifest,
  type ImageManifest,
  type KernelManifest,
  layout,
  type NameRecord,
  SCHEMA_VERSION,
} from "./layout.ts";
import type { OnProgress } from "./progress.ts";
import { nearNames, RECIPES, type Recipe, recipeFor } from "./recipes.ts";
import { SharedWork } from "./shared.ts";
import { publish, removeStale, syncPath, withStaging, writeRecord, writeSynced } from "./staging.ts";

/** A row of `env list`, in the names of the wire. */
export interface EnvironmentRecord {
  readonly environment: string;
  readonly digest: string | null;
  readonly installed: boolean;
  readonly size_bytes: number | null;
}

export interface InstalledEnvironment {
  readonly environment: string;
  /** sha256 of the image, hexadecimal. */
  readonly digest: string;
  readonly size_bytes: number;
  readonly imagePath: string;
  readonly baseType: "squashfs";
  readonly env: Readonly<Record<string, string>>;
}

/** What a MachineSpec wants of the host, and what is inside. */
export interface BootArtifacts {
  readonly kernel: { readonly path: string; readonly sha256: string };
  readonly initramfs: { readonly path: string; readonly sha256: string };
  /** Version of the kernel's Debian package, for example 6.1.192-2. */
  readonly kernelVersion: string;
}

export class EnvironmentStore {
  readonly #paths: Paths;
  readonly #guestdPath: string;
  readonly #work = new SharedWork();
  /** Artifacts whose digests were checked by this process, and the guestd they belong to (its stat). */
  #checked: { readonly guestd: string; readonly artifacts: BootArtifacts } | undefined;
  #swept = false;

  /** `guestdPath`: the static binary that becomes /init. Only one process may build in a home at a time. */
  constructor(paths: Paths, guestdPath: string) {
    this.#paths = paths;
    this.#guestdPath = guestdPath;
  }

  /** All recipes, installed or not. */
  async list(): Promise<EnvironmentRecord[]> {
    return await Promise.all(
      RECIPES.map(async ({ environment }) => {
        const installed = await this.installed(environment);
        return {
          environment,
          digest: installed?.digest ?? null,
          installed: installed !== undefined,
          size_bytes: installed?.size_bytes ?? null,
        };
      }),
    );
  }

  /** The installed image of a name, or undefined. Errors: ENVIRONMENT_NOT_FOUND when there is no such environment. */
  async installed(name: string): Promise<InstalledEnvironment | undefined> {
    requireRecipe(name);
    const record = await readJson<NameRecord>(layout.name(this.#paths, name));
    if (!record || !/^[0-9a-f]{64}$/.test(record.digest)) return undefined;
    const directory = layout.image(this.#paths, record.digest);
    const manifest = await readJson<ImageManifest>(join(directory, "manifest.json"));
    const imagePath = join(directory, "image.squashfs");
    const image = await stat(imagePath).catch(() => undefined);
    // An image that is not what was written is as good as none: it is built again.
    if (manifest?.base_type !== "squashfs" || image?.size !== manifest.size_bytes) return undefined;
    return {
      environment: name,
      digest: manifest.digest,
      size_bytes: manifest.size_bytes,
      imagePath,
      baseType: manifest.base_type,
      env: manifest.env,
    };
  }

  isPulling(name: string): boolean {
    return this.#work.has(`pull ${name}`);
  }

  /**
   * Builds an environment unless it is installed. Callers at the same time share one build, which is aborted when the
   * last of them is.
   * Errors: ENVIRONMENT_NOT_FOUND, ENVIRONMENT_BUILD_FAILED, HOST_UNSUPPORTED, HOST_TOOL_MISSING, HOST_DISK_FULL,
   * HOST_IO_FAILED; the reason of `signal`.
   */
  async pull(name: string, onProgress: OnProgress = () => {}, signal?: AbortSignal): Promise<InstalledEnvironment> {
    const recipe = requireRecipe(name);
    const present = await this.installed(name);
    if (present) return present;
    return await this.#work.run(`pull ${name}`, onProgress, signal, async (tell, shared) => {
      try {
        return await this.#build(recipe, tell, shared);
      } catch (error) {
        shared.throwIfAborted();
        throw failBuild("HOST_IO_FAILED", `The environment ${name} could not be stored`, error);
      }
    });
  }

  /**
   * The kernel and an initramfs with the present guestd, fetched and made when they are missing. Digests are checked
   * once per process. Errors: as pull.
   */
  async boot(onProgress: OnProgress = () => {}, signal?: AbortSignal): Promise<BootArtifacts> {
    const guestd = await this.#guestdStat();
    if (this.#checked?.guestd === guestd) return this.#checked.artifacts;
    return await this.#work.run("boot", onProgress, signal, async (tell, shared) => {
      try {
        const artifacts = await this.#prepareBoot(tell, shared);
        this.#checked = { guestd, artifacts };
        return artifacts;
      } catch (error) {
        shared.throwIfAborted();
        throw failBuild("HOST_IO_FAILED", "The kernel and initramfs could not be stored", error);
      }
    });
  }

  async #build(recipe: Recipe, onProgress: OnProgress, signal: AbortSignal): Promise<InstalledEnvironment> {
    return await this.#stage(async (staging) => {
      const logPath = join(layout.logs(this.#paths), `${encodeURIComponent(recipe.environment)}.log`);
      const built = await buildRecipe(recipe, { staging, logPath, onProgress, signal });
      onProgress({ stage: "image", message: "Storing the image", fraction: 0.98 });
      const digest = await sha256File(built, signal);
      const ready = join(staging, "ready");
      await mkdir(ready, { mode: 0o711 });
      const imagePath = join(ready, "image.squashfs");
      await rename(built, imagePath);
      // Microvms run as users of their own and are handed this file; nobody is to write it.
      await chmod(imagePath, 0o444);
      await syncPath(imagePath);
      const manifest: ImageManifest = {
        schema_version: SCHEMA_VERSION,
        environment: recipe.environment,
        digest,
        size_bytes: (await stat(imagePath)).size,
        created_at: new Date().toISOString(),
        base_type: "squashfs",
        env: recipe.env,
      };
      await writeSynced(join(ready, "manifest.json"), `${JSON.stringify(manifest, null, 2)}\n`);
      // Whatever stands at the image's place was found wanting, or this would not be a build.
      await publish(ready, layout.image(this.#paths, digest), true);
      const record: NameRecord = { schema_version: SCHEMA_VERSION, environment: recipe.environment, digest };
      await writeRecord(layout.name(this.#paths, recipe.environment), record);
      const installed = await this.installed(recipe.environment);
      if (!installed) throw new PyroError("HOST_IO_FAILED", "The environment was stored but cannot be read back.");
      onProgress({ stage: "image", message: `${recipe.environment} is ready`, fraction: 1 });
      return installed;
    });
  }

  async #prepareBoot(onProgress: OnProgress, signal: AbortSignal): Promise<BootArtifacts> {
    const guestdSha = await sha256File(this.#guestdPath, signal);
    const kernel = (await this.#installedKernel()) ?? (await this.#installKernel(onProgress, signal));
    const key = sha256Text(JSON.stringify([INITRAMFS_FORMAT, kernel.manifest.version, guestdSha]));
    const directory = layout.boot(this.#paths, key);
    const present = await checkedBoot(directory, signal);
    if (present) return present;

    onProgress({ stage: "initramfs", message: "Packing the initramfs", fraction: 0.9 });
    await this.#stage(async (staging) => {
      const ready = join(staging, "ready");
      await mkdir(ready, { mode: 0o711 });
      const vmlinuz = join(ready, "vmlinuz");
      await copySynced(join(kernel.directory, "vmlinuz"), vmlinuz);
      const initramfs = join(ready, "initramfs");
      const parts = { guestd: this.#guestdPath, modules: join(kernel.directory, "modules") };
      await packInitramfs(parts, join(staging, "tree"), initramfs, signal);
      const manifest: BootManifest = {
        schema_version: SCHEMA_VERSION,
        kernel_version: kernel.manifest.version,
        kernel_release: kernel.manifest.release,
        guestd_sha256: guestdSha,
        kernel_sha256: await sha256File(vmlinuz, signal),
        initramfs_sha256: await sha256File(initramfs, signal),
      };
      if (manifest.kernel_sha256 !== kernel.manifest.vmlinuz_sha256) {
        await rm(kernel.directory, { recursive: true, force: true });
        throw new PyroError("HOST_IO_FAILED", "The stored kernel was damaged; it is fetched again at the next start.");
      }
      await writeSynced(join(ready, "boot.json"), `${JSON.stringify(manifest, null, 2)}\n`);
      await publish(ready, directory, true);
    });
    const made = await checkedBoot(directory, signal);
    if (!made) throw new PyroError("HOST_IO_FAILED", `The boot artifacts in ${directory} cannot be read back.`);
    return made;
  }

  /** The newest kernel that is installed. */
  async #installedKernel(): Promise<{ directory: string; manifest: KernelManifest } | undefined> {
    const names = await readdir(layout.kernels(this.#paths)).catch(() => []);
    const newestFirst = names.sort((a, b) => b.localeCompare(a, "en", { numeric: true }));
    for (const name of newestFirst) {
      const directory = join(layout.kernels(this.#paths), name);
      const manifest = await readJson<KernelManifest>(join(directory, "kernel.json"));
      if (manifest?.schema_version === SCHEMA_VERSION) return { directory, manifest };
    }
    return undefined;
  }

  async #installKernel(
    onProgress: OnProgress,
    signal: AbortSignal,
  ): Promise<{ directory: string; manifest: KernelManifest }> {
    return await this.#stage(async (staging) => {
      const fetched = await fetchKernel(staging, onProgress, signal);
      const directory = layout.kernel(this.#paths, fetched.manifest.version);
      await publish(fetched.directory, directory, true);
      return { directory, manifest: fetched.manifest };
    });
  }

  async #stage<T>(work: (directory: string) => Promise<T>): Promise<T> {
    if (!this.#swept) {
      this.#swept = true;
      await removeStale(this.#paths.environments);
    }
    return await withStaging(this.#paths.environments, work);
  }

  async #guestdStat(): Promise<string> {
    const found = await stat(this.#guestdPath).catch(() => undefined);
    if (!found) {
      throw new PyroError("HOST_TOOL_MISSING", `The guest program ${this.#guestdPath} is missing.`, {
        hint: "In a checkout run `make setup`; an installed package is incomplete: install it again.",
      });
    }
    return `${found.dev}:${found.ino}:${found.size}:${found.mtimeMs}`;
  }
}

function requireRecipe(name: string): Recipe {
  const recipe = recipeFor(name);
  if (recipe) return recipe;
  const near = nearNames(name);
  const guess = near[0] === undefined ? "" : ` Did you mean ${near[0]}?`;
  throw new PyroError("ENVIRONMENT_NOT_FOUND", `There is no environment "${name.slice(0, 100)}".${guess}`, {
    details: { environment: name.slice(0, 512), near, known: RECIPES.map(({ environment }) => environment) },
  });
}

/** What is in a directory of boot artifacts, when its bytes are what its record says. */
async function checkedBoot(directory: string, signal: AbortSignal): Promise<BootArtifacts | undefined> {
  const manifest = await readJson<BootManifest>(join(directory, "boot.json"));
  if (manifest?.schema_version !== SCHEMA_VERSION) return undefined;
  const kernel = { path: join(directory, "vmlinuz"), sha256: manifest.kernel_sha256 };
  const initramfs = { path: join(directory, "initramfs"), sha256: manifest.initramfs_sha256 };
  for (const file of [kernel, initramfs]) {
    const actual = await sha256File(file.path, signal).catch(() => undefined);
    signal.throwIfAborted();
    if (actual !== file.sha256) return undefined;
  }
  return { kernel, initramfs, kernelVersion: manifest.kernel_version };
}

async function copySynced(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  await chmod(to, 0o644);
  await syncPath(to);
  await syncPath(dirname(to));
}

/** A record, or undefined when it is missing or no JSON object. */
async function readJson<T extends object>(path: string): Promise<T | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(path, "utf8"));
    return typeof value === "object" && value !== null ? (value as T) : undefined;
  } catch {
    return undefined;
  }
}
