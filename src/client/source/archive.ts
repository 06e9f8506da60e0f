// A tar archive of the host as a source: sent as it is, decompressed where it is gzip. The name says that a file is an
// archive, its content says whether it is compressed: a .tar that is gzip and a .tgz that is not are sent alike, as tar
// itself reads them. What the archive holds is looked at in the guest, not here.
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { pipeline } from "node:stream";
import { createGunzip } from "node:zlib";
import { archiveInvalid, changed, codeOf, tooManyBytes, unreadable } from "./failure.ts";

const BLOCK = 512;
const PIECE_BYTES = 256 << 10;
/** What an entry may take beside its content: headers, their extensions, padding. */
const OVERHEAD_BYTES = 16 << 10;
const MAX_OVERHEAD_BYTES = 2 ** 40;

export interface ArchiveLimits {
  readonly maxBytes: number;
  readonly maxEntries: number;
}

/** True for names that say what they hold. */
export function isArchiveName(name: string): boolean {
  return /\.(tar|tar\.gz|tgz)$/i.test(name);
}

/**
 * What is known without reading all of it. Errors: SOURCE_UNREADABLE, ARCHIVE_INVALID, LIMIT_EXCEEDED.
 */
export async function checkArchive(path: string, limits: ArchiveLimits): Promise<void> {
  const { file, size } = await openFile(path);
  try {
    const first = await head(file, path);
    if (isGzip(first)) return;
    if (!isTar(first)) throw archiveInvalid(path, "is no tar archive, nor one compressed with gzip");
    if (size > mostBytes(limits)) throw tooManyBytes(path, limits.maxBytes);
  } finally {
    await file.close();
  }
}

/** The archive's bytes, from its beginning. Errors: as checkArchive; an abort rejects with its reason. */
export async function* archiveBytes(
  path: string,
  limits: ArchiveLimits,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { file, size } = await openFile(path);
  try {
    const first = await head(file, path);
    const content = isGzip(first) ? gunzipped(path, file, size) : plain(path, file, size);
    let bytes = 0;
    for await (const chunk of content) {
      signal.throwIfAborted();
      // A few kilobytes of gzip can be terabytes: whoever made it, they end here.
      bytes += chunk.length;
      if (bytes > mostBytes(limits)) throw tooManyBytes(path, limits.maxBytes);
      yield chunk;
    }
  } finally {
    await file.close();
  }
}

function mostBytes({ maxBytes, maxEntries }: ArchiveLimits): number {
  return maxBytes + Math.min(maxEntries * OVERHEAD_BYTES, MAX_OVERHEAD_BYTES);
}

/** What it is as long as when it was opened, however it grows. */
async function* plain(path: string, file: FileHandle, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < size; ) {
    const piece = Buffer.allocUnsafe(Math.min(PIECE_BYTES, size - at));
    const { bytesRead } = await file.read(piece, 0, piece.length, at).catch((thrown: unknown) => {
      throw unreadable(path, thrown);
    });
    if (bytesRead === 0) throw changed(path, "became shorter while it was read");
    at += bytesRead;
    yield piece.subarray(0, bytesRead);
  }
}

async function* gunzipped(path: string, file: FileHandle, size: number): AsyncGenerator<Uint8Array> {
  const gunzip = createGunzip({ chunkSize: PIECE_BYTES });
  // Errors arrive where the chunks are read; leaving early ends both.
  pipeline(plain(path, file, size), gunzip, () => {});
  let first = true;
  try {
    for await (const chunk of gunzip as AsyncIterable<Buffer>) {
      if (first && !isTar(chunk.subarray(0, BLOCK))) throw archiveInvalid(path, "is gzip, but of no tar archive");
      first = false;
      yield chunk;
    }
  } catch (thrown) {
    const code = codeOf(thrown);
    if (!code?.startsWith("Z_")) throw thrown;
    throw archiveInvalid(path, code === "Z_BUF_ERROR" ? "is cut short" : "is damaged: its gzip cannot be read", thrown);
  } finally {
    gunzip.destroy();
  }
  if (first) throw archiveInvalid(path, "is gzip of nothing");
}

async function openFile(path: string): Promise<{ file: FileHandle; size: number }> {
  // Not waiting for a writer, should it have become a named pipe.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((thrown: unknown) => {
    throw unreadable(path, thrown);
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw changed(path, "is no regular file any more");
    return { file, size: stat.size };
  } catch (thrown) {
    await file.close();
    throw thrown;
  }
}

async function head(file: FileHandle, path: string): Promise<Buffer> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(BLOCK), 0, BLOCK, 0).catch((thrown: unknown) => {
    throw unreadable(path, thrown);
  });
  return buffer.subarray(0, bytesRead);
}

function isGzip(first: Buffer): boolean {
  return first.length >= 2 && first[0] === 0x1f && first[1] === 0x8b;
}

/** A header whose checksum is right, or the end of an empty archive. */
function isTar(first: Buffer): boolean {
  if (first.length < BLOCK) return false;
  let sum = 0;
  let any = 0;
  for (let at = 0; at < BLOCK; at++) {
    const byte = first[at] ?? 0;
    any |= byte;
    // The checksum's own field counts as spaces.
    sum += at >= 148 && at < 156 ? 0x20 : byte;
  }
  if (any === 0) return true;
  return Number.parseInt(first.subarray(148, 156).toString("latin1").trim(), 8) === sum;
}
