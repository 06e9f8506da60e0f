// The images of a home and the names that stand for them, as they are on disk.
import { chmod, lstat, mkdir, readdir, rename, stat } from "node:fs/promises";
import { join } from "node:path";
import type { Paths } from "../engine/paths.ts";
import { PyroError } from "../errors/error.ts";
import { syncPath, writeRecord } from "../host/records.ts";
import { sha256File } from "./digest.ts";
import type { Holds } from "./holds.ts";
import {
  type ImageManifest,
  type ImageSource,
  imageManifest,
  layout,
  type NameRecord,
  nameRecord,
  readAs,
  SCHEMA_VERSION,
} from "./layout.ts";
import { publish } from "./staging.ts";

export interface InstalledEnvironment {
  readonly environment: string;
  /** sha256 of the image, hexadecimal. */
  readonly digest: string;
  readonly size_bytes: number;
  readonly imagePath: string;
  readonly baseType: "squashfs";
  readonly env: Readonly<Record<string, string>>;
}

/** An installed environment and all that is known of it. */
export interface EnvironmentFacts extends InstalledEnvironment {
  readonly createdAt: string;
  readonly source: ImageSource | undefined;
}

/** A squashfs that was made for a name. */
export interface MadeImage {
  readonly path: string;
  readonly env: Readonly<Record<string, string>>;
  readonly source: ImageSource;
}

/** What a name stands for, or undefined when that is not there as it was written. */
export async function findImage(paths: Paths, environment: string): Promise<EnvironmentFacts | undefined> {
  const record = await readAs(nameRecord, layout.name(paths, environment));
  return record?.environment === environment ? await imageOf(paths, record) : undefined;
}

async function imageOf(paths: Paths, record: NameRecord): Promise<EnvironmentFacts | undefined> {
  const { environment, digest } = record;
  const manifest = await manifestOf(paths, digest);
  const imagePath = imageAt(paths, digest);
  const image = await lstat(imagePath).catch(() => undefined);
  // An image that is not what was written is as good as none: it is made again.
  if (manifest === undefined || !image?.isFile() || image.size !== manifest.size_bytes) return undefined;
  return {
    environment,
    digest,
    size_bytes: manifest.size_bytes,
    imagePath,
    baseType: manifest.base_type,
    env: record.env ?? manifest.env,
    createdAt: manifest.created_at,
    source: record.source,
  };
}

/**
 * An image by its digest, under the name that somebody used for it and with the variables it had then; undefined when it
 * is not there as it was written.
 */
export async function imageByDigest(
  paths: Paths,
  known: { environment: string; digest: string; env: Readonly<Record<string, string>> },
): Promise<InstalledEnvironment | undefined> {
  const found = await imageOf(paths, { ...known, schema_version: SCHEMA_VERSION, env: { ...known.env } });
  if (found === undefined) return undefined;
  const { environment, digest, size_bytes, imagePath, baseType, env } = found;
  return { environment, digest, size_bytes, imagePath, baseType, env };
}

function imageAt(paths: Paths, digest: string): string {
  return join(layout.image(paths, digest), "image.squashfs");
}

/** What is written of an image, if it is of this one. */
async function manifestOf(paths: Paths, digest: string): Promise<ImageManifest | undefined> {
  const manifest = await readAs(imageManifest, join(layout.image(paths, digest), "manifest.json"));
  return manifest?.digest === digest ? manifest : undefined;
}

/** All names there are records of, and what each stands for. A record that lies elsewhere than its name says is none. */
export async function readNames(paths: Paths): Promise<Map<string, EnvironmentFacts | undefined>> {
  const names = new Map<string, EnvironmentFacts | undefined>();
  for (const file of (await readdir(layout.names(paths)).catch(() => [])).sort()) {
    if (!file.endsWith(".json")) continue;
    const path = join(layout.names(paths), file);
    const record = await readAs(nameRecord, path);
    if (record === undefined || layout.name(paths, record.environment) !== path) continue;
    names.set(record.environment, await imageOf(paths, record));
  }
  return names;
}

/** Digests of all images, whether a name stands for them or not. */
export async function readDigests(paths: Paths): Promise<string[]> {
  return (await readdir(layout.images(paths)).catch(() => [])).filter((name) => /^[0-9a-f]{64}$/.test(name)).sort();
}

/** Makes a directory in `staging` that holds the image as it will lie in its place; returns it with its manifest. */
export async function prepareImage(
  environment: string,
  made: MadeImage,
  staging: string,
  signal: AbortSignal,
): Promise<{ directory: string; manifest: ImageManifest }> {
  const digest = await sha256File(made.path, signal);
  const directory = join(staging, "ready");
  await mkdir(directory, { mode: 0o711 });
  const imagePath = join(directory, "image.squashfs");
  await rename(made.path, imagePath);
  // Microvms run as users of their own and are handed this file; nobody is to write it.
  await chmod(imagePath, 0o444);
  await syncPath(imagePath);
  const manifest: ImageManifest = {
    schema_version: SCHEMA_VERSION,
    environment,
    digest,
    size_bytes: (await stat(imagePath)).size,
    created_at: new Date().toISOString(),
    base_type: "squashfs",
    env: made.env,
  };
  await writeRecord(join(directory, "manifest.json"), manifest);
  return { directory, manifest };
}

/**
 * Puts a prepared image in its place and gives it its name. One that is there already, whole, stays: microVMs may be
 * starting from it. Errors: HOST_IO_FAILED; the reason of `signal`.
 */
export async function installImage(
  { paths, holds }: { readonly paths: Paths; readonly holds: Holds },
  environment: string,
  made: MadeImage,
  ready: { readonly directory: string; readonly manifest: ImageManifest },
  signal: AbortSignal,
): Promise<InstalledEnvironment> {
  const { digest } = ready.manifest;
  const record: NameRecord = {
    schema_version: SCHEMA_VERSION,
    environment,
    digest,
    env: made.env,
    source: made.source,
    pulled_at: new Date().toISOString(),
  };
  // Looking at all of an image takes its time: held it stays, and others need not wait for it.
  const release = holds.hold(digest);
  try {
    const present = await lookAt(paths, ready.manifest, signal);
    signal.throwIfAborted();
    return await holds.exclusively(async () => {
      const now = await fileAt(imageAt(paths, digest));
      // Another than the one that was looked at is one that somebody has put there since, whole.
      const stays = now !== undefined && (now.identity !== present.identity || present.whole);
      if (!stays) await publish(ready.directory, layout.image(paths, digest), true);
      await mkdir(layout.names(paths), { recursive: true, mode: 0o711 });
      await writeRecord(layout.name(paths, environment), record);
      const installed = await findImage(paths, environment);
      if (!installed) throw new PyroError("HOST_IO_FAILED", "The environment was stored but cannot be read back.");
      return installed;
    });
  } finally {
    release();
  }
}

/** Which file lies in the place of an image, and whether it and its manifest are what they should be. */
async function lookAt(
  paths: Paths,
  { digest, size_bytes }: ImageManifest,
  signal: AbortSignal,
): Promise<{ identity: string | undefined; whole: boolean }> {
  const path = imageAt(paths, digest);
  const found = await fileAt(path);
  if (found?.size !== size_bytes || (await manifestOf(paths, digest)) === undefined) {
    return { identity: found?.identity, whole: false };
  }
  const actual = await sha256File(path, signal).catch(() => undefined);
  return { identity: found.identity, whole: actual === digest };
}

async function fileAt(path: string): Promise<{ identity: string; size: number | undefined } | undefined> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined) return undefined;
  return {
    identity: `${found.dev}:${found.ino}:${found.mtimeMs}:${found.ctimeMs}`,
    size: found.isFile() ? found.size : undefined,
  };
}
