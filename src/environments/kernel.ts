// The guest's kernel: Debian's cloud kernel, fetched as a package from the host's own sources and unpacked.
import { copyFile, mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PyroError } from "../errors/error.ts";
import { syncPath, writeRecord } from "../host/records.ts";
import { runProgram } from "../host/spawn.ts";
import { type Apt, openApt } from "./apt.ts";
import { sha256File } from "./digest.ts";
import { type KernelManifest, SCHEMA_VERSION } from "./layout.ts";
import { dependenciesOf, GUEST_MODULES, loadOrder, moduleName, parseBuiltin } from "./modules.ts";
import type { OnProgress } from "./progress.ts";

const META_PACKAGE = "linux-image-cloud-amd64";
const CODENAME = "bookworm";

/**
 * Fetches the newest cloud kernel and leaves in `<staging>/kernel`: vmlinuz, modules/*.ko, modules/order (file names
 * in loading order, one a line) and kernel.json. `wanted` are the modules, without those that they need themselves.
 * Errors: HOST_UNSUPPORTED, HOST_TOOL_MISSING, HOST_DISK_FULL, ENVIRONMENT_BUILD_FAILED.
 */
export async function fetchKernel(
  staging: string,
  onProgress: OnProgress,
  signal?: AbortSignal,
  wanted: readonly string[] = GUEST_MODULES,
): Promise<{ directory: string; manifest: KernelManifest }> {
  onProgress({ stage: "kernel", message: "Looking for Debian's cloud kernel", fraction: 0 });
  const apt = await openApt(CODENAME, staging, signal);
  const image = await download(apt, staging, onProgress);
  onProgress({ stage: "kernel", message: "Unpacking the kernel", fraction: 0.7 });
  const unpacked = join(staging, "unpacked");
  const result = await runProgram("dpkg-deb", ["-x", image.file, unpacked], {
    deadlineMs: 120_000,
    aptPackage: "dpkg",
    bound: true,
    signal,
  });
  if (result.exitCode !== 0) throw failed("dpkg-deb could not unpack the kernel's package", result.tail);

  const release = image.name.replace(/^linux-image-/, "");
  const directory = join(staging, "kernel");
  const modules = join(directory, "modules");
  await mkdir(modules, { recursive: true });
  const vmlinuz = join(directory, "vmlinuz");
  await copyFile(join(unpacked, "boot", `vmlinuz-${release}`), vmlinuz);
  const order = await copyModules(join(unpacked, "lib", "modules", release), modules, wanted);
  await writeFile(join(modules, "order"), order.map((file) => `${file}\n`).join(""));
  const manifest: KernelManifest = {
    schema_version: SCHEMA_VERSION,
    package: image.name,
    version: image.version,
    release,
    vmlinuz_sha256: await sha256File(vmlinuz, signal),
  };
  await writeRecord(join(directory, "kernel.json"), manifest);
  for (const path of [vmlinuz, join(modules, "order"), modules]) await syncPath(path);
  return { directory, manifest };
}

interface KernelPackage {
  readonly name: string;
  readonly version: string;
  readonly file: string;
}

async function download(apt: Apt, staging: string, onProgress: OnProgress): Promise<KernelPackage> {
  const directory = join(staging, "package");
  await mkdir(directory);
  // The host's lists may be older than the archive, which then lacks what they name: fetch fresh ones and look again.
  for (const attempt of ["as listed", "refreshed"] as const) {
    if (attempt === "refreshed") await apt.update();
    const found = await resolve(apt);
    if (!found) continue;
    onProgress({ stage: "kernel", message: `Downloading ${found.name} ${found.version}`, fraction: 0.2 });
    const result = await apt.run("apt-get", ["download", `${found.name}=${found.version}`], {
      cwd: directory,
      deadlineMs: 600_000,
    });
    const file = (await readdir(directory)).find((name) => name.endsWith(".deb"));
    if (result.exitCode === 0 && file) return { ...found, file: join(directory, file) };
    if (attempt === "refreshed") throw failed(`apt-get could not download ${found.name}`, result.tail);
  }
  throw failed(`Debian's sources on this host have no ${META_PACKAGE}`, "");
}

/** What the metapackage depends on: `linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2)`. */
async function resolve(apt: Apt): Promise<{ name: string; version: string } | undefined> {
  const shown = await apt.run("apt-cache", ["show", "--no-all-versions", META_PACKAGE]);
  const match = /^Depends:.*?(linux-image-[\w.+-]+) \(= ([\w.+~:-]+)\)/m.exec(shown.stdout);
  return match?.[1] && match[2] ? { name: match[1], version: match[2] } : undefined;
}

/** Copies the wanted modules and what they need; returns their file names in loading order. */
async function copyModules(from: string, to: string, wanted: readonly string[]): Promise<string[]> {
  const files = new Map<string, string>();
  for (const entry of await readdir(join(from, "kernel"), { recursive: true })) {
    if (entry.endsWith(".ko")) files.set(moduleName(entry), join(from, "kernel", entry));
  }
  const builtin = parseBuiltin(await readFile(join(from, "modules.builtin"), "utf8"));
  const dependencies = new Map<string, string[]>();
  const read = async (name: string): Promise<void> => {
    const file = files.get(name);
    if (!file || dependencies.has(name)) return;
    const needs = dependenciesOf(await readFile(file));
    dependencies.set(name, needs);
    for (const need of needs) await read(need);
  };
  for (const name of wanted) await read(name);
  try {
    const order: string[] = [];
    for (const name of loadOrder(wanted, dependencies, builtin)) {
      const file = files.get(name);
      if (!file) throw new RangeError(`kernel module ${name} is not in the package`);
      await copyFile(file, join(to, `${name}.ko`));
      await syncPath(join(to, `${name}.ko`));
      order.push(`${name}.ko`);
    }
    return order;
  } catch (error) {
    if (error instanceof RangeError) throw failed(error.message, "");
    throw error;
  }
}

function failed(message: string, tail: string): PyroError {
  return new PyroError("ENVIRONMENT_BUILD_FAILED", `${message}.`, {
    hint: "Check the network and the host's package sources: `apt-get update` must work.",
    details: { log_tail: tail },
  });
}
