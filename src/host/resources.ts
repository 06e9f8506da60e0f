// What the host has and what is free of it, read when asked.
import { access, constants, readFile, statfs } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { delimiter, join } from "node:path";

export interface HostMemory {
  readonly totalMib: number;
  readonly availableMib: number;
}

export async function hostMemory(): Promise<HostMemory> {
  const text = await readFile("/proc/meminfo", "utf8");
  const mib = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(text)?.[1] ?? 0) / 1024;
  return { totalMib: Math.floor(mib("MemTotal")), availableMib: Math.floor(mib("MemAvailable")) };
}

export function hostCpus(): number {
  return availableParallelism();
}

/** MiB free to this user on the file system of a path that exists. */
export async function freeDiskMib(path: string): Promise<number> {
  const { bavail, bsize } = await statfs(path);
  return Math.floor((bavail * bsize) / 2 ** 20);
}

/** Absolute path of a program on PATH, or undefined. Looks in the places of system programs too. */
export async function findProgram(name: string): Promise<string | undefined> {
  const places = [
    ...(process.env.PATH ?? "").split(delimiter),
    "/usr/local/bin",
    "/usr/sbin",
    "/sbin",
    "/usr/bin",
    "/bin",
  ];
  for (const place of places) {
    if (!place.startsWith("/")) continue;
    const path = join(place, name);
    const found = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return path;
  }
  return undefined;
}
