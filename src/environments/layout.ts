// What lies where below `environments/`, what its records hold, and reading them: a record whose shape is another is none.
import { join } from "node:path";
import * as z from "zod";
import type { Paths } from "../engine/paths.ts";
import { readRecord } from "../host/records.ts";
import { sha256Text } from "./digest.ts";

/** Raised when a record changes in a way that older readers would misread. */
export const SCHEMA_VERSION = 1;

const schemaVersion = z.literal(SCHEMA_VERSION);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);
const env = z.record(z.string(), z.string());
/** RFC 3339, UTC. */
const timestamp = z.string();

/** images/<digest>/manifest.json */
export const imageManifest = z.object({
  schema_version: schemaVersion,
  environment: z.string(),
  /** Of image.squashfs. */
  digest: sha256,
  size_bytes: z.int().nonnegative(),
  created_at: timestamp,
  base_type: z.literal("squashfs"),
  env,
});
export type ImageManifest = Readonly<z.infer<typeof imageManifest>>;

/** Where an image came from. */
const imageSource = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("recipe"), packages: z.array(z.string()).readonly() }),
  z.object({
    kind: z.literal("oci"),
    /** Digest of the manifest of the platform, as the registry has it. */
    manifest_digest: z.string(),
    /** Digest of the list of manifests that the reference stood for, if it did. */
    index_digest: z.string().nullable(),
    config_digest: z.string(),
    platform: z.string(),
    layers: z.array(z.object({ digest: z.string(), size_bytes: z.int() })).readonly(),
  }),
]);
export type ImageSource = Readonly<z.infer<typeof imageSource>>;

/** names/<encoded environment>.json: which image a name stands for, and what the same image may differ in. */
export const nameRecord = z.object({
  schema_version: schemaVersion,
  environment: z.string(),
  digest: sha256,
  /** Two references can share an image and have other variables. Missing in records of before there were such. */
  env: env.optional(),
  source: imageSource.optional(),
  pulled_at: timestamp.optional(),
});
export type NameRecord = Readonly<z.infer<typeof nameRecord>>;

/** kernels/<version>/kernel.json */
export const kernelManifest = z.object({
  schema_version: schemaVersion,
  /** Debian package, its version and the kernel's own release. */
  package: z.string(),
  version: z.string(),
  release: z.string(),
  vmlinuz_sha256: sha256,
});
export type KernelManifest = Readonly<z.infer<typeof kernelManifest>>;

/** boot/<key>/boot.json */
export const bootManifest = z.object({
  schema_version: schemaVersion,
  kernel_version: z.string(),
  kernel_release: z.string(),
  guestd_sha256: sha256,
  kernel_sha256: sha256,
  initramfs_sha256: sha256,
});
export type BootManifest = Readonly<z.infer<typeof bootManifest>>;

/**
 * A record of a shape, or undefined when there is none or what is there is another. Errors: those of the disk, which
 * say nothing about the record.
 */
export async function readAs<T>(schema: z.ZodType<T>, path: string): Promise<T | undefined> {
  const value = await readRecord<unknown>(path).catch((error: unknown) => {
    if (error instanceof SyntaxError) return undefined;
    throw error;
  });
  return schema.safeParse(value).data;
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
