// Tar archives, right and wrong, byte by byte, for the tests of what unpacks an export.
const BLOCK = 512;

export interface Made {
  readonly name: string | Buffer;
  readonly type?: string;
  readonly content?: string | Buffer;
  readonly target?: string | Buffer;
  readonly mode?: number;
  /** What the header says, where that is not the content's. */
  readonly size?: number;
  readonly mtime?: number;
  /** Records of an extension before it. */
  readonly extension?: readonly (readonly [string, string | Buffer])[];
  /** Bytes of the header to be others, with a sum that is right. */
  readonly patch?: readonly (readonly [number, string])[];
  /** A sum that is wrong. */
  readonly badSum?: boolean;
}

export function archive(entries: readonly Made[], end = Buffer.alloc(2 * BLOCK)): Buffer {
  return Buffer.concat([...entries.flatMap(entryBytes), end]);
}

function entryBytes(made: Made): Buffer[] {
  const parts: Buffer[] = [];
  if (made.extension !== undefined) {
    const records = Buffer.concat(made.extension.map(([key, value]) => record(key, value)));
    parts.push(header({ name: "x", type: "x" }, records.length), padded(records));
  }
  const content = Buffer.from(made.content ?? "");
  return [...parts, header(made, made.size ?? content.length), padded(content)];
}

export function record(key: string, value: string | Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from("\n")]);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((BLOCK - (bytes.length % BLOCK)) % BLOCK)]);
}

function header(made: Made, size: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const octal = (value: number, at: number, length: number) =>
    block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at, "latin1");
  Buffer.from(made.name).copy(block, 0, 0, 100);
  octal(made.mode ?? 0o644, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  octal(made.mtime ?? 1_700_000_000, 136, 12);
  block.write(made.type ?? "0", 156, "latin1");
  Buffer.from(made.target ?? "").copy(block, 157, 0, 100);
  block.write("ustar\x0000", 257, "latin1");
  for (const [at, text] of made.patch ?? []) block.write(text, at, "latin1");
  block.fill(0x20, 148, 156);
  const sum = block.reduce((all, byte) => all + byte, 0) + (made.badSum ? 1 : 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}
