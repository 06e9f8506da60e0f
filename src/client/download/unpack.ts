// Makes of an export's archive what it holds, in a place of its own. It comes from a guest: nothing is ever written through a
// link, over something that is there, or beside the place. Every entry's directory is one that was made here before it.
import * as fs from "node:fs/promises";
import { PyroError } from "../../errors/error.ts";
import { nonsense, type TarEntry, type TarHandler } from "./untar.ts";

export interface UnpackLimits {
  /** Of all files together, holes included. */
  readonly maxBytes: number;
  readonly maxEntries: number;
}

export interface Unpacked {
  readonly kind: "directory" | "file" | "symlink";
  readonly entryCount: number;
  readonly bytesWritten: number;
}

/** What everything in the archive is called, or is below. */
const TOP = "artifact";
/** What is kept of a mode: a bit that gives somebody else's rights to whoever runs a file is the guest's business. */
const PERMISSIONS = 0o777;
/** So much at once is a hole when it is zeros: blocks of file systems are not larger. */
const HOLE_BYTES = 4096;
const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants;
const WRITE_ONCE = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;

interface Directory {
  readonly path: Buffer;
  readonly mode: number;
  readonly mtime: number;
}

export class Unpacker implements TarHandler {
  readonly #place: Buffer;
  readonly #limits: UnpackLimits;
  /** Directories that were made, by their names in the archive (as latin1), in the order of their making. */
  readonly #directories = new Map<string, Directory>();
  #top: Unpacked["kind"] | undefined;
  #entries = 0;
  #bytes = 0;
  #file: { readonly handle: fs.FileHandle; readonly entry: TarEntry; at: number } | undefined;

  /** `place` is where the artifact itself is made; nothing may be there, and the directory above it is the caller's. */
  constructor(place: string, limits: UnpackLimits) {
    this.#place = Buffer.from(place);
    this.#limits = limits;
  }

  async entry(entry: TarEntry): Promise<void> {
    this.#entries++;
    this.#bytes += entry.size;
    if (this.#entries > this.#limits.maxEntries) {
      throw new PyroError("LIMIT_EXCEEDED", `There are more than ${this.#limits.maxEntries} entries.`, { hint: MORE });
    }
    if (this.#bytes > this.#limits.maxBytes) {
      const most = this.#limits.maxBytes / 2 ** 20;
      throw new PyroError("LIMIT_EXCEEDED", `The files have more than ${most} MiB together.`, { hint: MORE });
    }
    const name = entry.name.toString("latin1");
    const path = this.#placeOf(name);
    if (this.#top === undefined) {
      if (entry.kind === "link") throw nonsense("it begins with a link to what is not there");
      this.#top = entry.kind;
    }
    switch (entry.kind) {
      case "directory":
        await made(fs.mkdir(path, 0o700));
        this.#directories.set(name, { path, mode: entry.mode, mtime: entry.mtime });
        return;
      case "symlink":
        if (entry.target.length === 0 || entry.target.includes(0)) throw nonsense("a link leads nowhere");
        await made(fs.symlink(entry.target, path));
        return await fs.lutimes(path, entry.mtime, entry.mtime);
      case "link": {
        const target = this.#placeOf(entry.target.toString("latin1"));
        const found = await fs.lstat(target).catch(() => undefined);
        if (!found?.isFile()) throw nonsense("a hard link is to no file");
        return await made(fs.link(target, path));
      }
      case "file":
        this.#file = { handle: await made(fs.open(path, WRITE_ONCE, 0o600)), entry, at: 0 };
    }
  }

  async data(bytes: Buffer): Promise<void> {
    const file = this.#file;
    if (file === undefined) throw nonsense("there are bytes of no file");
    for (let at = 0; at < bytes.length; ) {
      // As far as everything is zeros, or nothing is that.
      const hole = isHole(bytes, at);
      let end = at + HOLE_BYTES;
      while (end < bytes.length && isHole(bytes, end) === hole) end += HOLE_BYTES;
      const part = bytes.subarray(at, end);
      if (!hole) await writeAll(file.handle, part, file.at);
      file.at += part.length;
      at = end;
    }
  }

  async endOfFile(): Promise<void> {
    const file = this.#file;
    if (file === undefined) return;
    this.#file = undefined;
    const { handle, entry } = file;
    try {
      // What ends with a hole is as long as it says all the same.
      await handle.truncate(entry.size);
      await handle.chmod(entry.mode & PERMISSIONS);
      await handle.utimes(entry.mtime, entry.mtime);
    } finally {
      await handle.close();
    }
  }

  /** All entries have come. What directories are like is set now: one that cannot be written to was, until here. */
  async finish(): Promise<Unpacked> {
    if (this.#top === undefined) throw nonsense("it holds nothing");
    for (const { path, mode, mtime } of [...this.#directories.values()].reverse()) {
      await fs.utimes(path, mtime, mtime);
      await fs.chmod(path, mode & PERMISSIONS);
    }
    return { kind: this.#top, entryCount: this.#entries, bytesWritten: this.#bytes };
  }

  /** Lets go of what is open. What was made stays, with modes by which it can be removed. Never rejects. */
  async abandon(): Promise<void> {
    await this.#file?.handle.close().catch(() => {});
    this.#file = undefined;
    for (const { path } of this.#directories.values()) await fs.chmod(path, 0o700).catch(() => {});
  }

  /** Where an entry is made. Errors: GUEST_UNRESPONSIVE for what is not below a directory that was made here. */
  #placeOf(name: string): Buffer {
    const parts = name.split("/");
    const bad = parts.some((part) => part === "" || part === "." || part === ".." || part.includes("\0"));
    if (bad || parts[0] !== TOP) throw nonsense("a name leads out of it");
    if (parts.length === 1) {
      if (this.#top !== undefined) throw nonsense("it begins twice");
      return this.#place;
    }
    const above = this.#directories.get(parts.slice(0, -1).join("/"));
    if (above === undefined) throw nonsense("something is in what is no directory of it");
    return Buffer.concat([above.path, Buffer.from("/"), Buffer.from(parts.at(-1) ?? "", "latin1")]);
  }
}

const MORE = "Ask for a part of it, or for more with a larger max_transfer_mib or max_entries.";

const ZEROS = Buffer.alloc(HOLE_BYTES);

function isHole(bytes: Buffer, at: number): boolean {
  const part = bytes.subarray(at, at + HOLE_BYTES);
  return part.equals(ZEROS.subarray(0, part.length));
}

async function writeAll(handle: fs.FileHandle, bytes: Buffer, position: number): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    at += (await handle.write(bytes, at, bytes.length - at, position + at)).bytesWritten;
  }
}

/** A name that is there was made by the archive itself: nobody else is in here. */
async function made<T>(making: Promise<T>): Promise<T> {
  try {
    return await making;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "EEXIST") throw nonsense("it holds a name twice");
    throw thrown;
  }
}
