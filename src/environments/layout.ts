// What lies where below `environments/`, and what its records hold.
import { join } from "node:path";
import type { Paths } from "../engine/paths.ts";
import { sha256Text } from "./digest.ts";

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

/** Where an image came from. */
export type ImageSource =
  | { readonly kind: "recipe"; readonly packages: readonly string[] }
  | {
      readonly kind: "oci";
      /** Digest of the manifest of the platform, as the registry has it. */
      readonly manifest_digest: string;
      /** Digest of the list of manifests that the reference stood for, if it did. */
      readonly index_digest: string | null;
      readonly config_digest: string;
      readonly platform: string;
      readonly layers: readonly { readonly digest: string; readonly size_bytes: number }[];
    };

/** names/<encoded environment>.json: which image a name stands for, and what the same image may differ in. */
export interface NameRecord {
  readonly schema_version: number;
  readonly environment: string;
  readonly digest: string;
  /** Two references can share an image and have other variables. Missing in records of before there were such. */
  readonly env?: Readonly<Record<string, string>>;
  readonly source?: ImageSource;
  /** RFC 3339, UTC. */
  readonly pulled_at?: string;
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
  name: (paths: Paths, environment: string) => join(paths.environments, "names", `${fileName(environment)}.json`),
  kernels: (paths: Paths) => join(paths.environments, "kernels"),
  kernel: (paths: Paths, version: string) => join(paths.environments, "kernels", encodeURIComponent(version)),
  boot: (paths: Paths, key: string) => join(paths.boot, key),
  logs: (paths: Paths) => join(paths.environments, "logs"),
  log: (paths: Paths, environment: string) => join(paths.environments, "logs", `${fileName(environment)}.log`),
} as const;

/** A name as a file's: a reference may be longer than a file's name can be. */
function fileName(environment: string): string {
  const encoded = encodeURIComponent(environment);
  return encoded.length <= 200 ? encoded : `sha256-${sha256Text(environment)}`;
}
