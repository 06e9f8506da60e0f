// What a tree of files is, entry by entry, so that a host's and a guest's can be compared: computed here on the host, and
// by describe.py in a guest. Owners are left out: what is sent becomes root's.
import { createHash } from "node:crypto";
import {
  type BigIntStats,
  closeSync,
  lstatSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
} from "node:fs";
import { join } from "node:path";

export interface Entry {
  readonly type: "file" | "directory" | "link" | "fifo" | "socket" | "device" | "unknown";
  /** Permission bits, setuid and its like included. */
  readonly mode: number;
  /** Nanoseconds since 1970, a decimal number: more digits than a double has. */
  readonly mtime_ns: string;
  /** Of files: bytes, and bytes that its blocks take. */
  readonly size?: number;
  readonly allocated?: number;
  /** Of files: a hash of the content, in which holes and zeros are the same. */
  readonly content?: string;
  /** Of links: the bytes it holds, in hexadecimal. */
  readonly target?: string;
  /** Of what has several names in the tree: the first of them, in hexadecimal. */
  readonly same_as?: string;
}

/** By path: its bytes, relative to the tree, in hexadecimal. */
export type Description = Readonly<Record<string, Entry>>;

/** To be run with `python3 - DIRECTORY` (or as a file) in a guest; prints a Description. */
export const DESCRIBE_SCRIPT = readFileSync(join(import.meta.dirname, "describe.py"), "utf8");

const BLOCK = 1 << 20;
/** A file with this much less than its size allocated has holes that are to stay. */
const HOLE = 1 << 20;

/** Everything below a directory, not the directory itself. */
export function describeTree(directory: string): Description {
  const entries: Record<string, { -readonly [K in keyof Entry]: Entry[K] }> = {};
  const groups = new Map<string, Buffer[]>();
  const waiting = [Buffer.alloc(0)];
  for (let below = waiting.pop(); below !== undefined; below = waiting.pop()) {
    for (const name of readdirSync(pathIn(directory, below), { encoding: "buffer" })) {
      const path = below.length === 0 ? name : Buffer.concat([below, Buffer.from("/"), name]);
      const full = pathIn(directory, path);
      const found = lstatSync(full, { bigint: true });
      const type = typeOf(found);
      const entry: (typeof entries)[string] = {
        type,
        mode: Number(found.mode & 0o7777n),
        mtime_ns: String(found.mtimeNs),
      };
      if (type === "file") {
        entry.size = Number(found.size);
        entry.allocated = Number(found.blocks) * 512;
        entry.content = contentOf(full);
      }
      if (type === "link") entry.target = readlinkSync(full, { encoding: "buffer" }).toString("hex");
      if (type === "directory") waiting.push(path);
      else if (found.nlink > 1n) {
        const id = `${found.dev}:${found.ino}`;
        groups.set(id, [...(groups.get(id) ?? []), path]);
      }
      entries[path.toString("hex")] = entry;
    }
  }
  for (const paths of groups.values()) {
    if (paths.length < 2) continue;
    paths.sort(Buffer.compare);
    for (const path of paths) {
      const entry = entries[path.toString("hex")];
      if (entry) entry.same_as = paths[0]?.toString("hex") ?? "";
    }
  }
  return entries;
}

/**
 * What is different, one line each; empty when they are alike. Of a file with holes, `actual` may take a little more room
 * than `expected`, as file systems differ in what they allocate.
 */
export function compareTrees(expected: Description, actual: Description): string[] {
  const different: string[] = [];
  for (const path of [...new Set([...Object.keys(expected), ...Object.keys(actual)])].sort()) {
    const [one, other] = [expected[path], actual[path]];
    const shown = JSON.stringify(Buffer.from(path, "hex").toString("utf8"));
    if (one === undefined || other === undefined) {
      different.push(`${shown} is only in ${one === undefined ? "what there is" : "what was expected"}`);
      continue;
    }
    for (const key of ["type", "mode", "mtime_ns", "size", "content", "target", "same_as"] as const) {
      if (one[key] !== other[key]) different.push(`${shown}: ${key} is ${told(other[key])}, not ${told(one[key])}`);
    }
    const { size = 0, allocated = 0 } = one;
    if (allocated + HOLE < size && (other.allocated ?? 0) > allocated + HOLE) {
      different.push(`${shown}: ${other.allocated} bytes are allocated, not about ${allocated}: its holes are gone`);
    }
  }
  return different;
}

function told(value: string | number | undefined): string {
  return value === undefined ? "nothing" : typeof value === "number" ? `${value} (0${value.toString(8)})` : value;
}

function pathIn(directory: string, path: Buffer): Buffer {
  return path.length === 0 ? Buffer.from(directory) : Buffer.concat([Buffer.from(`${directory}/`), path]);
}

function typeOf(found: BigIntStats): Entry["type"] {
  if (found.isFile()) return "file";
  if (found.isDirectory()) return "directory";
  if (found.isSymbolicLink()) return "link";
  if (found.isFIFO()) return "fifo";
  if (found.isSocket()) return "socket";
  return found.isBlockDevice() || found.isCharacterDevice() ? "device" : "unknown";
}

function contentOf(path: Buffer): string {
  const total = createHash("sha256");
  const zeros = Buffer.alloc(BLOCK);
  const block = Buffer.alloc(BLOCK);
  const file = openSync(path, "r");
  try {
    for (let at = 0; ; ) {
      let filled = 0;
      while (filled < BLOCK) {
        const read = readSync(file, block, filled, BLOCK - filled, at + filled);
        if (read === 0) break;
        filled += read;
      }
      if (filled === 0) break;
      if (block.compare(zeros, 0, filled, 0, filled) !== 0) {
        total.update(`${at}:`);
        total.update(block.subarray(0, filled));
      }
      at += filled;
    }
  } finally {
    closeSync(file);
  }
  return total.digest("hex");
}
