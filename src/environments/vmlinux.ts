// The kernel as an ELF file, out of Debian's vmlinuz: what VMMs take that have no decompressor to start.

/** Begins the payload, which is in lz4's old frame format: blocks with their length, and nothing else. */
const LZ4_LEGACY = Buffer.from([0x02, 0x21, 0x4c, 0x18]);
const ELF = Buffer.from([0x7f, 0x45, 0x4c, 0x46]);
/** What a block of the old format holds at most, bytes. */
const BLOCK_BYTES = 8 << 20;

/** Errors: RangeError when there is no kernel packed with lz4 in it. */
export function vmlinuxOf(vmlinuz: Uint8Array): Buffer {
  const bytes = Buffer.from(vmlinuz.buffer, vmlinuz.byteOffset, vmlinuz.byteLength);
  for (let at = bytes.indexOf(LZ4_LEGACY); at >= 0; at = bytes.indexOf(LZ4_LEGACY, at + 1)) {
    const kernel = unpack(bytes.subarray(at + LZ4_LEGACY.length));
    // The magic may stand in the decompressor's own code, too.
    if (kernel?.subarray(0, ELF.length).equals(ELF)) return kernel;
  }
  throw new RangeError("the kernel image has no payload in lz4");
}

/** Unpacks blocks as long as there are some; undefined when the first is none. */
function unpack(payload: Buffer): Buffer | undefined {
  const blocks: Buffer[] = [];
  for (let at = 0; at + 4 <= payload.length; ) {
    const length = payload.readUInt32LE(at);
    at += 4;
    // Behind the last block there is something else.
    if (length === 0 || length > payload.length - at) break;
    const block = unpackBlock(payload.subarray(at, at + length));
    if (block === undefined) break;
    blocks.push(block);
    at += length;
    if (block.length < BLOCK_BYTES) break;
  }
  return blocks.length === 0 ? undefined : Buffer.concat(blocks);
}

/** Unpacks one block of lz4; undefined when it is none. */
export function unpackBlock(block: Buffer): Buffer | undefined {
  const output = Buffer.allocUnsafe(BLOCK_BYTES);
  let from = 0;
  let to = 0;
  /** A length of 15 goes on in the bytes that follow, up to one below 255. */
  const lengthFrom = (first: number): number => {
    let length = first;
    if (first !== 15) return length;
    for (let more = 255; more === 255; length += more) more = block[from++] ?? 0;
    return length;
  };
  while (from < block.length) {
    const token = block[from++] ?? 0;
    const literals = lengthFrom(token >> 4);
    if (literals > block.length - from || literals > output.length - to) return undefined;
    block.copy(output, to, from, from + literals);
    from += literals;
    to += literals;
    // The last sequence has nothing but literals.
    if (from >= block.length) return output.subarray(0, to);
    const distance = (block[from] ?? 0) | ((block[from + 1] ?? 0) << 8);
    from += 2;
    const length = lengthFrom(token & 15) + 4;
    if (distance === 0 || distance > to || length > output.length - to) return undefined;
    // What is copied may be longer than its distance: then it repeats itself.
    if (distance >= length) output.copy(output, to, to - distance, to - distance + length);
    else for (let copied = 0; copied < length; copied++) output[to + copied] = output[to + copied - distance] ?? 0;
    to += length;
  }
  return undefined;
}
