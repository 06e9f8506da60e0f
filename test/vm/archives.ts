// Tar archives as a hostile hand writes them: header by header, with nothing that a good program would refuse to write.

export interface Entry {
  readonly name: string;
  /** As in the header: "0" a file, "1" a hard link, "2" a symbolic link, "3" and "4" devices, "5" a directory, "6" a fifo. */
  readonly type?: string;
  readonly data?: Uint8Array | string;
  readonly link?: string;
  /** What the header says of its length, whatever the data has. */
  readonly size?: number;
  /** Makes the header's checksum wrong. */
  readonly broken?: boolean;
}

const BLOCK = 512;

/** An archive of these entries, in this order, with the two empty blocks at its end. */
export function archive(entries: readonly Entry[]): Buffer {
  return Buffer.concat([...entries.flatMap((entry) => blocksOf(entry)), Buffer.alloc(2 * BLOCK)]);
}

/** The extended header that gives the next entry another path, of any bytes. */
export function paxPath(path: string): Entry {
  const text = ` path=${path}\n`;
  let length = Buffer.byteLength(text);
  while (String(length).length + Buffer.byteLength(text) !== length)
    length = String(length).length + Buffer.byteLength(text);
  return { name: "PaxHeaders/x", type: "x", data: `${length}${text}` };
}

function blocksOf(entry: Entry): Buffer[] {
  const data = Buffer.from(entry.data ?? "");
  const header = Buffer.alloc(BLOCK);
  const type = entry.type ?? "0";
  header.write(entry.name, 0, 100);
  header.write(`${(type === "5" ? 0o755 : 0o644).toString(8).padStart(7, "0")}\0`, 100);
  header.write("0000000\0", 108);
  header.write("0000000\0", 116);
  header.write(`${(entry.size ?? data.length).toString(8).padStart(11, "0")}\0`, 124);
  header.write("14000000000\0", 136);
  header.write(" ".repeat(8), 148);
  header.write(type, 156);
  header.write(entry.link ?? "", 157, 100);
  header.write("ustar\x0000", 257);
  if (type === "3" || type === "4") {
    header.write("0000001\0", 329);
    header.write("0000003\0", 337);
  }
  const sum = header.reduce((total, byte) => total + byte, entry.broken ? 1 : 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148);
  const padding = (BLOCK - (data.length % BLOCK)) % BLOCK;
  return [header, data, Buffer.alloc(padding)];
}
