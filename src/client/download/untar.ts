// Reads the one kind of tar archive that guestd makes of an export, and nothing else: POSIX headers of directories, files,
// symbolic and hard links, with the extensions that long names, large sizes and fine times need. It comes from a guest, so
// whatever is not exactly that ends it. Libraries read many kinds, and lose names that are no text.
import { PyroError } from "../../errors/error.ts";

export interface TarEntry {
  readonly kind: "directory" | "file" | "symlink" | "link";
  /** As it stands there, without the slash at a directory's end. */
  readonly name: Buffer;
  /** Of a link: what it holds, or the name of the entry that it is. */
  readonly target: Buffer;
  readonly mode: number;
  readonly size: number;
  /** Seconds since 1970. */
  readonly mtime: number;
}

export interface TarHandler {
  /** An entry begins; a file's bytes follow. */
  entry(entry: TarEntry): Promise<void>;
  /** Bytes of the file that began last. They are not kept. */
  data(bytes: Buffer): Promise<void>;
  /** All bytes of the file have come. */
  endOfFile(): Promise<void>;
}

const BLOCK = 512;
const MOST_EXTENSION = 64 << 10;
/** Zeros behind the end. */
const MOST_REST = 64 << 10;
const MOST_NAME = 32 << 10;

const KINDS: Readonly<Record<string, TarEntry["kind"]>> = {
  "0": "file",
  "1": "link",
  "2": "symlink",
  "5": "directory",
};

interface Extension {
  path?: Buffer;
  linkpath?: Buffer;
  size?: number;
  mtime?: number;
}

export class Untar {
  readonly #handler: TarHandler;
  /** What is not a whole block yet. */
  #pending = Buffer.alloc(0);
  #state: "header" | "extension" | "data" | "padding" | "ended" = "header";
  /** Bytes that the state still takes. */
  #left = 0;
  #padding = 0;
  #extension: Extension = {};
  #extensionBytes: Buffer[] = [];
  #zeroBlocks = 0;
  #rest = 0;

  constructor(handler: TarHandler) {
    this.#handler = handler;
  }

  /** Takes the next bytes; in order, one call after the other. Errors: GUEST_UNRESPONSIVE, what the handler throws. */
  async write(bytes: Uint8Array): Promise<void> {
    let chunk = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    while (chunk.length > 0) {
      if (this.#state === "header") chunk = await this.#header(chunk);
      else if (this.#state === "ended") return this.#behind(chunk);
      else chunk = await this.#part(chunk);
    }
  }

  /** There is no more. Errors: GUEST_UNRESPONSIVE for an archive that is cut short. */
  end(): void {
    if (this.#state !== "ended") throw nonsense("it is cut short");
  }

  async #part(chunk: Buffer): Promise<Buffer> {
    const part = chunk.subarray(0, this.#left);
    this.#left -= part.length;
    if (this.#state === "data" && part.length > 0) await this.#handler.data(part);
    // A copy: the bytes are a view of what is used again.
    if (this.#state === "extension") this.#extensionBytes.push(Buffer.from(part));
    if (this.#left > 0) return chunk.subarray(part.length);
    if (this.#state === "data") await this.#handler.endOfFile();
    if (this.#state === "extension") this.#extension = extensionOf(Buffer.concat(this.#extensionBytes.splice(0)));
    if (this.#state === "padding" || this.#padding === 0) this.#state = "header";
    else [this.#state, this.#left] = ["padding", this.#padding];
    return chunk.subarray(part.length);
  }

  async #header(chunk: Buffer): Promise<Buffer> {
    const wanted = BLOCK - this.#pending.length;
    const part = chunk.subarray(0, wanted);
    const block = Buffer.concat([this.#pending, part]);
    const rest = chunk.subarray(part.length);
    if (block.length < BLOCK) {
      this.#pending = block;
      return rest;
    }
    this.#pending = Buffer.alloc(0);
    await this.#block(block);
    return rest;
  }

  async #block(block: Buffer): Promise<void> {
    if (isZero(block)) {
      if (Object.keys(this.#extension).length > 0) throw nonsense("an extension has no entry");
      if (++this.#zeroBlocks === 2) this.#state = "ended";
      return;
    }
    if (this.#zeroBlocks > 0) throw nonsense("something follows its end");
    checkHeader(block);
    const size = octal(block, 124, 12);
    const type = String.fromCharCode(block[156] ?? 0);
    if (type === "x") {
      if (Object.keys(this.#extension).length > 0 || size === 0 || size > MOST_EXTENSION) {
        throw nonsense("it has an extension that cannot be");
      }
      this.#take("extension", size);
      return;
    }
    const entry = entryOf(block, type, size, this.#extension);
    this.#extension = {};
    await this.#handler.entry(entry);
    if (entry.kind !== "file") return;
    if (entry.size > 0) this.#take("data", entry.size);
    else await this.#handler.endOfFile();
  }

  #take(state: "extension" | "data", size: number): void {
    this.#state = state;
    this.#left = size;
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
  }

  #behind(chunk: Buffer): void {
    this.#rest += chunk.length;
    if (this.#rest > MOST_REST || !isZero(chunk)) throw nonsense("something follows its end");
  }
}

export function nonsense(what: string): PyroError {
  return new PyroError("GUEST_UNRESPONSIVE", `The archive that the guest sent makes no sense: ${what}.`);
}

function isZero(bytes: Buffer): boolean {
  return bytes.indexOf(0) === 0 && bytes.every((byte) => byte === 0);
}

function checkHeader(block: Buffer): void {
  const said = octal(block, 148, 8);
  let sum = 0;
  for (let at = 0; at < BLOCK; at++) sum += at >= 148 && at < 156 ? 0x20 : (block[at] ?? 0);
  if (sum !== said) throw nonsense("a header has another sum than it says");
  if (block.toString("latin1", 257, 265) !== "ustar\x0000") throw nonsense("a header is of another kind");
}

/** A number of the header. */
function octal(block: Buffer, at: number, length: number): number {
  const text = block
    .toString("latin1", at, at + length)
    .replace(/[\0 ]+$/, "")
    .trimStart();
  if (text === "") return 0;
  if (!/^[0-7]+$/.test(text)) throw nonsense("a header has a number that is none");
  return Number.parseInt(text, 8);
}

function text(block: Buffer, at: number, length: number): Buffer {
  const field = block.subarray(at, at + length);
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end));
}

function entryOf(block: Buffer, type: string, size: number, extension: Extension): TarEntry {
  const kind = KINDS[type];
  if (kind === undefined) throw nonsense("it holds something of another kind");
  const prefix = text(block, 345, 155);
  const short = text(block, 0, 100);
  let name = extension.path ?? (prefix.length === 0 ? short : Buffer.concat([prefix, Buffer.from("/"), short]));
  if (kind === "directory" && name.at(-1) === 0x2f) name = name.subarray(0, -1);
  const target =
    kind === "symlink" || kind === "link" ? (extension.linkpath ?? text(block, 157, 100)) : Buffer.alloc(0);
  const bytes = extension.size ?? size;
  if (kind !== "file" && bytes !== 0) throw nonsense("something that is no file has a size");
  if (name.length > MOST_NAME || target.length > MOST_NAME) throw nonsense("a name is too long");
  return {
    kind,
    name,
    target,
    mode: octal(block, 100, 8),
    size: bytes,
    mtime: extension.mtime ?? octal(block, 136, 12),
  };
}

/** Records of the form "LENGTH KEY=VALUE\n". */
function extensionOf(bytes: Buffer): Extension {
  const extension: Extension = {};
  for (let at = 0; at < bytes.length; ) {
    const space = bytes.indexOf(0x20, at);
    const digits = bytes.toString("latin1", at, space < 0 ? at : space);
    const length = /^[1-9]\d{0,5}$/.test(digits) ? Number(digits) : 0;
    const record = bytes.subarray(space + 1, at + length);
    const equals = record.indexOf(0x3d);
    if (at + length > bytes.length || equals < 1 || record.at(-1) !== 0x0a) throw nonsense("an extension is damaged");
    set(extension, record.toString("latin1", 0, equals), record.subarray(equals + 1, -1));
    at += length;
  }
  return extension;
}

function set(extension: Extension, key: string, value: Buffer): void {
  if (Object.hasOwn(extension, key)) throw nonsense("an extension says something twice");
  const word = value.toString("latin1");
  if ((key === "path" || key === "linkpath") && value.length > 0) extension[key] = Buffer.from(value);
  else if (key === "size" && /^\d{1,15}$/.test(word)) extension.size = Number(word);
  else if (key === "mtime" && /^-?\d{1,12}(\.\d{1,9})?$/.test(word)) extension.mtime = Number(word);
  else throw nonsense("an extension is of another kind");
}
