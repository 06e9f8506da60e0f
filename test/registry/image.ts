// Images made in a test: layers as tars with everything a tar can say, manifests, and their upload to a registry.
import { createHash } from "node:crypto";
import { gzipSync } from "node:zlib";

export interface TarEntry {
  readonly name: string;
  /** Of tar: 0 file (the default), 1 hard link, 2 symbolic link, 3 and 4 devices, 5 directory, 6 pipe. */
  readonly type?: "0" | "1" | "2" | "3" | "4" | "5" | "6";
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly mtime?: number;
  readonly content?: string | Buffer;
  readonly link?: string;
  readonly device?: readonly [major: number, minor: number];
  readonly xattrs?: Readonly<Record<string, string>>;
}

export const dir = (name: string, mode = 0o755): TarEntry => ({ name: `${name}/`, type: "5", mode });
export const file = (name: string, content: string | Buffer = "", more: Partial<TarEntry> = {}): TarEntry => ({
  name,
  content,
  ...more,
});
export const symlink = (name: string, link: string): TarEntry => ({ name, type: "2", link, mode: 0o777 });
export const hardlink = (name: string, link: string): TarEntry => ({ name, type: "1", link });

const BLOCK = 512;
export const MTIME = 1_700_000_000;

export function tar(entries: readonly TarEntry[]): Buffer {
  const blocks: Buffer[] = [];
  for (const entry of entries) {
    const records: [string, string][] = Object.entries(entry.xattrs ?? {}).map(([key, value]) => [
      `SCHILY.xattr.${key}`,
      value,
    ]);
    if (Buffer.byteLength(entry.name) > 100) records.push(["path", entry.name]);
    if (records.length > 0) {
      const text = Buffer.concat(records.map(([key, value]) => paxRecord(key, value)));
      blocks.push(header({ name: "pax", content: text }, "x"), padded(text));
    }
    const content = Buffer.from(entry.content ?? "");
    blocks.push(header(entry, entry.type ?? "0"), padded(content));
  }
  return Buffer.concat([...blocks, Buffer.alloc(2 * BLOCK)]);
}

function header(entry: TarEntry, type: string): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at, "latin1");
  block.write(entry.name.slice(0, 100), 0, "utf8");
  octal(entry.mode ?? 0o644, 100, 8);
  octal(entry.uid ?? 0, 108, 8);
  octal(entry.gid ?? 0, 116, 8);
  octal(Buffer.from(entry.content ?? "").length, 124, 12);
  octal(entry.mtime ?? MTIME, 136, 12);
  block.write("        ", 148, "latin1");
  block.write(type, 156, "latin1");
  block.write(entry.link ?? "", 157, "utf8");
  block.write("ustar\0", 257, "latin1");
  block.write("00", 263, "latin1");
  if (entry.device) {
    octal(entry.device[0], 329, 8);
    octal(entry.device[1], 337, 8);
  }
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return block;
}

/** "LENGTH KEY=VALUE\n", where the length counts itself. Values are bytes, written as latin1. */
function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value, "latin1"), Buffer.from("\n")]);
  let length = rest.length;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function padded(content: Buffer): Buffer {
  return Buffer.concat([content, Buffer.alloc((BLOCK - (content.length % BLOCK)) % BLOCK)]);
}

export function digestOf(data: Buffer): string {
  return `sha256:${createHash("sha256").update(data).digest("hex")}`;
}

export const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
export const INDEX = "application/vnd.oci.image.index.v1+json";
const CONFIG = "application/vnd.oci.image.config.v1+json";
const LAYER = "application/vnd.oci.image.layer.v1.tar+gzip";

/** An image as a registry holds it. */
export interface Image {
  readonly manifest: Buffer;
  readonly mediaType: string;
  /** By digest. */
  readonly blobs: ReadonlyMap<string, Buffer>;
}

export interface ImageOptions {
  readonly env?: readonly string[];
  readonly architecture?: string;
  /** Packs a layer; gzip unless said otherwise. */
  readonly pack?: (layer: Buffer) => Buffer;
}

export function makeImage(layers: readonly Buffer[], options: ImageOptions = {}): Image {
  const blobs = new Map<string, Buffer>();
  const add = (mediaType: string, data: Buffer) => {
    blobs.set(digestOf(data), data);
    return { mediaType, digest: digestOf(data), size: data.length };
  };
  const packed = layers.map((layer) => add(LAYER, (options.pack ?? gzipSync)(layer)));
  const config = add(
    CONFIG,
    Buffer.from(
      JSON.stringify({
        architecture: options.architecture ?? "amd64",
        os: "linux",
        config: { Env: options.env ?? [], User: "nobody", WorkingDir: "/nowhere", Entrypoint: ["/never"] },
        rootfs: { type: "layers", diff_ids: layers.map(digestOf) },
      }),
    ),
  );
  const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST, config, layers: packed }));
  return { manifest, mediaType: MANIFEST, blobs };
}

/** A list of manifests. */
export function makeIndex(images: readonly { image: Image; architecture: string; variant?: string }[]): Image {
  const manifests = images.map(({ image, architecture, variant }) => ({
    mediaType: MANIFEST,
    digest: digestOf(image.manifest),
    size: image.manifest.length,
    platform: { os: "linux", architecture, ...(variant === undefined ? {} : { variant }) },
  }));
  return {
    manifest: Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests })),
    mediaType: INDEX,
    blobs: new Map(),
  };
}

/** Uploads an image to a registry under each of the tags (or digests). */
export async function push(host: string, repository: string, image: Image, ...references: string[]): Promise<void> {
  const base = `http://${host}/v2/${repository}`;
  for (const [digest, data] of image.blobs) {
    const begun = await fetch(`${base}/blobs/uploads/`, { method: "POST" });
    await expectStatus(begun, 202);
    const place = new URL(begun.headers.get("location") ?? "", base);
    place.searchParams.set("digest", digest);
    const body = new Uint8Array(data);
    await expectStatus(
      await fetch(place, { method: "PUT", body, headers: { "content-type": "application/octet-stream" } }),
      201,
    );
  }
  for (const reference of references.length > 0 ? references : [digestOf(image.manifest)]) {
    const put = await fetch(`${base}/manifests/${reference}`, {
      method: "PUT",
      body: new Uint8Array(image.manifest),
      headers: { "content-type": image.mediaType },
    });
    await expectStatus(put, 201);
  }
}

async function expectStatus(response: Response, status: number): Promise<void> {
  const text = await response.text();
  if (response.status !== status) throw new Error(`${response.url}: ${response.status} ${text}`);
}
