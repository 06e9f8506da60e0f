// What lies where below `environments/`, and what its records hold.
import { join } from "node:path";
import type { Paths } from "../engine/paths.ts";

/** Raised when a record changes in a way that older readers would misread. */
export const SCHEMA_VERSION = 1;

/** images/<digest>/manifest.json */
export interface ImageManifest {
  readonly schema_version: number;
  readonly environment: string;
  /** sha256 of image.squashfs. */
  readonly digest: string;
  readonly size_bytes: number;
  /** RFC 3339, UTC. */
  readonly created_at: string;
  readonly base_type: "squashfs";
  readonly env: Readonly<Record<string, string>>;
}

/** names/<encoded environment>.json: which image a name stands for. */
export interface NameRecord {
  readonly schema_version: number;
  readonly environment: string;
  readonly digest: string;
}

/** kernels/<version>/kernel.json */
export interface KernelManifest {
  readonly schema_version: number;
  /** Debian package, its version and the kernel's own release. */
  readonly package: string;
  readonly version: string;
  readonly release: string;
  readonly vmlinuz_sha256: string;
}

/** boot/<key>/boot.json */
export interface BootManifest {
  readonly schema_version: number;
  readonly kernel_version: string;
  readonly kernel_release: string;
  readonly guestd_sha256: string;
  readonly kernel_sha256: string;
  readonly initramfs_sha256: string;
}

export const stagingPrefix = ".staging-";

export const layout = {
  images: (paths: Paths) => join(paths.environments, "images"),
  image: (paths: Paths, digest: string) => join(paths.environments, "images", digest),
  names: (paths: Paths) => join(paths.environments, "names"),
  name: (paths: Paths, environment: string) =>
    join(paths.environments, "names", `${encodeURIComponent(environment)}.json`),
  kernels: (paths: Paths) => join(paths.environments, "kernels"),
  kernel: (paths: Paths, version: string) => join(paths.environments, "kernels", encodeURIComponent(version)),
  boot: (paths: Paths, key: string) => join(paths.boot, key),
  logs: (paths: Paths) => join(paths.environments, "logs"),
} as const;
