// The kernel and the initramfs that every microVM boots: fetched and packed when they are missing, checked once per
// process.
import { chmod, copyFile, mkdir, readdir, rm, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Paths } from "../engine/paths.ts";
import { PyroError } from "../errors/error.ts";
import { syncPath, writeRecord } from "../host/records.ts";
import { sha256File, sha256Text } from "./digest.ts";
import { failBuild } from "./failure.ts";
import { INITRAMFS_FORMAT, packInitramfs } from "./initramfs.ts";
import { fetchKernel } from "./kernel.ts";
import {
  type BootManifest,
  bootManifest,
  type KernelManifest,
  kernelManifest,
  layout,
  readAs,
  SCHEMA_VERSION,
} from "./layout.ts";
import type { OnProgress } from "./progress.ts";
import { SharedWork } from "./shared.ts";
import { publish } from "./staging.ts";
import { uncompress } from "./uncompressed.ts";

/** What a MachineSpec wants of the host, and what is inside. */
export interface BootArtifacts {
  readonly kernel: {
    readonly path: string;
    readonly sha256: string;
    /** Path of the same kernel as an ELF file; made by the first call. */
    readonly uncompressed: () => Promise<string>;
  };
  readonly initramfs: { readonly path: string; readonly sha256: string };
  /** Version of the kernel's Debian package, for example 6.1.192-2. */
  readonly kernelVersion: string;
}

export type Stage = <T>(work: (directory: string) => Promise<T>) => Promise<T>;

export class Boot {
  readonly #paths: Paths;
  readonly #guestdPath: string;
  readonly #stage: Stage;
  readonly #work = new SharedWork();
  /** Artifacts whose digests were checked by this process, and the guestd they belong to (its stat). */
  #checked: { readonly guestd: string; readonly artifacts: BootArtifacts } | undefined;

  constructor(paths: Paths, guestdPath: string, stage: Stage) {
    this.#paths = paths;
    this.#guestdPath = guestdPath;
    this.#stage = stage;
  }

  /**
   * The kernel and an initramfs with the present guestd, fetched and made when they are missing. Digests are checked
   * once per process. Errors: as those of a
   * pull.
   */
  async artifacts(onProgress: OnProgress = () => {}, signal?: AbortSignal): Promise<BootArtifacts> {
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

  /**
   * Directories of kernels and boot artifacts that a later kernel or guestd took the place of. None while some are
   * being made.
   */
  async superseded(): Promise<string[]> {
    const kernel = await this.#installedKernel();
    if (this.#work.has("boot") || kernel === undefined) return [];
    const guestdSha = await sha256File(this.#guestdPath).catch(() => undefined);
    if (guestdSha === undefined) return [];
    const kept = [kernel.directory, layout.boot(this.#paths, keyOf(kernel.manifest, guestdSha))];
    if (this.#checked !== undefined) kept.push(dirname(this.#checked.artifacts.kernel.path));
    const found: string[] = [];
    for (const parent of [layout.kernels(this.#paths), this.#paths.boot]) {
      for (const name of await readdir(parent).catch(() => [])) found.push(join(parent, name));
    }
    return found.filter((directory) => !kept.includes(directory));
  }

  async #prepareBoot(onProgress: OnProgress, signal: AbortSignal): Promise<BootArtifacts> {
    const guestdSha = await sha256File(this.#guestdPath, signal);
    const kernel = (await this.#installedKernel()) ?? (await this.#installKernel(onProgress, signal));
    const directory = layout.boot(this.#paths, keyOf(kernel.manifest, guestdSha));
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
      await writeRecord(join(ready, "boot.json"), manifest);
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
      const manifest = await readAs(kernelManifest, join(directory, "kernel.json"));
      if (manifest !== undefined) return { directory, manifest };
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

function keyOf(kernel: KernelManifest, guestdSha: string): string {
  return sha256Text(JSON.stringify([INITRAMFS_FORMAT, kernel.version, guestdSha]));
}

/** What is in a directory of boot artifacts, when its bytes are what its record says. */
async function checkedBoot(directory: string, signal: AbortSignal): Promise<BootArtifacts | undefined> {
  const manifest = await readAs(bootManifest, join(directory, "boot.json"));
  if (manifest === undefined) return undefined;
  const vmlinuz = join(directory, "vmlinuz");
  const kernel = { path: vmlinuz, sha256: manifest.kernel_sha256, uncompressed: once(() => uncompress(vmlinuz)) };
  const initramfs = { path: join(directory, "initramfs"), sha256: manifest.initramfs_sha256 };
  for (const file of [kernel, initramfs]) {
    const actual = await sha256File(file.path, signal).catch(() => undefined);
    signal.throwIfAborted();
    if (actual !== file.sha256) return undefined;
  }
  return { kernel, initramfs, kernelVersion: manifest.kernel_version };
}

/** Callers at once share one call, and those after one that succeeded its answer. */
function once<T>(make: () => Promise<T>): () => Promise<T> {
  let made: Promise<T> | undefined;
  return async () => {
    made ??= make();
    const making = made;
    try {
      return await making;
    } catch (error) {
      if (made === making) made = undefined;
      throw error;
    }
  };
}

async function copySynced(from: string, to: string): Promise<void> {
  await copyFile(from, to);
  await chmod(to, 0o644);
  await syncPath(to);
  await syncPath(dirname(to));
}
