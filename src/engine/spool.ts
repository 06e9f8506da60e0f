// A process's output on the host: an append-only log of tagged chunks with one byte cursor over stdout and stderr, kept
// in files of SEGMENT_BYTES of which the oldest go when there are too many. It outlives the process and the daemon.
//
// A segment is named by the cursor of its first byte. In it: records of stream (1 byte), length (4 bytes, big endian),
// data. A gap record's data is the number of bytes that were lost (8 bytes, big endian), and it advances the cursor by
// as much.
import { type FileHandle, mkdir, open, readdir, truncate, unlink } from "node:fs/promises";
import { join } from "node:path";
import { orAborted } from "../abort/or-aborted.ts";

const SEGMENT_BYTES = 4 << 20;
/** Most bytes kept of one process, across segments. */
export const KEPT_BYTES = 64 << 20;
/** How far the slowest attached reader may fall behind before appending waits for it. */
const READER_WINDOW_BYTES = 16 << 20;
const HEADER_BYTES = 5;
const READ_BYTES = 256 << 10;

export type SpoolStream = "stdout" | "stderr" | "gap";

const TAGS: Record<SpoolStream, number> = { stdout: 1, stderr: 2, gap: 3 };

export interface SpoolChunk {
  readonly stream: SpoolStream;
  /** Cursor of the first byte. */
  readonly cursor: bigint;
  /** Cursor behind the last byte. */
  readonly next: bigint;
  /** Empty for a gap, whose size is next - cursor. */
  readonly data: Buffer;
}

interface Segment {
  readonly start: bigint;
  readonly path: string;
}

/** Where a reader is. One that must not lose anything is attached: the writer waits for it. */
interface Reader {
  cursor: bigint;
  /** A record boundary at or before the cursor, so that going on does not scan the segment again. */
  place: Place | undefined;
}

interface Place {
  readonly segment: bigint;
  readonly offset: number;
  readonly cursor: bigint;
}

export class Spool {
  readonly #directory: string;
  readonly #segments: Segment[];
  #file: FileHandle | undefined;
  #fileBytes: number;
  /** The last write failed: the file may hold more than whole records. */
  #torn = false;
  #end: bigint;
  #ended = false;
  #changed = Promise.withResolvers<void>();
  #caughtUp = Promise.withResolvers<void>();
  readonly #attached = new Set<Reader>();

  private constructor(directory: string, segments: Segment[], fileBytes: number, end: bigint) {
    this.#directory = directory;
    this.#segments = segments;
    this.#fileBytes = fileBytes;
    this.#end = end;
  }

  /** Opens what is in the directory, made if missing, and drops a record that was cut by a crash. */
  static async open(directory: string): Promise<Spool> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const starts = await segmentsIn(directory);
    const last = starts.at(-1);
    if (last === undefined) return new Spool(directory, starts, 0, 0n);
    const { end, bytes } = await measure(last);
    await truncate(last.path, bytes);
    return new Spool(directory, starts, bytes, end);
  }

  /** What is in the directory of a process that has ended, whose output is known to end there. Nothing is looked at. */
  static async stored(directory: string, end: bigint): Promise<Spool> {
    const spool = new Spool(directory, await segmentsIn(directory), 0, end);
    spool.#ended = true;
    return spool;
  }

  /** Cursor behind the last byte. */
  get end(): bigint {
    return this.#end;
  }

  /** True when nothing more will come. */
  get finished(): boolean {
    return this.#ended;
  }

  /** Cursor of the oldest byte that is still there. */
  get start(): bigint {
    return this.#segments[0]?.start ?? this.#end;
  }

  /**
   * Appends a chunk that starts at `cursor`; a jump is recorded as a gap, what is known already is skipped. Waits for
   * attached readers that are far behind; rejects with the signal's reason when it aborts meanwhile. What failed may be
   * appended again.
   */
  async append(stream: "stdout" | "stderr", cursor: bigint, data: Uint8Array, signal?: AbortSignal): Promise<void> {
    let bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    if (cursor < this.#end) {
      const known = this.#end - cursor;
      if (known >= BigInt(bytes.length)) return;
      bytes = bytes.subarray(Number(known));
    } else if (cursor > this.#end) {
      const lost = Buffer.alloc(8);
      lost.writeBigUInt64BE(cursor - this.#end);
      await this.#write("gap", lost, cursor - this.#end);
    }
    await this.#write(stream, bytes, BigInt(bytes.length));
    await this.#waitForReaders(signal);
  }

  /** Nothing more will come: readers end once they have read all. */
  async finish(): Promise<void> {
    this.#ended = true;
    this.#notify();
    await this.close();
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.close();
  }

  /**
   * Chunks from a cursor on; when `follow`, waits for more until `finish`. While a following reader runs the writer
   * waits rather than leaving it behind. A cursor older than `start` begins with a gap. Errors: RangeError for a
   * cursor beyond the end. One that does not hold is left behind: its next chunk begins further on then.
   */
  async *read(from: bigint, follow: boolean, signal?: AbortSignal, { holds = true } = {}): AsyncGenerator<SpoolChunk> {
    if (from > this.#end) throw new RangeError(`cursor ${from} is beyond ${this.#end}`);
    const attached: Reader = { cursor: from, place: undefined };
    if (follow && holds) this.#attached.add(attached);
    try {
      for (;;) {
        const changed = this.#changed.promise;
        const ended = this.#ended;
        const upTo = this.#end;
        for await (const chunk of this.#stored(attached, upTo)) {
          signal?.throwIfAborted();
          yield chunk;
          attached.cursor = chunk.next;
          this.#release();
        }
        if (!follow) return;
        if (attached.cursor < this.#end) continue;
        if (ended) return;
        await orAborted(changed, signal);
      }
    } finally {
      this.#attached.delete(attached);
      this.#release();
    }
  }

  /** Resolves when there is something behind the cursor, when it has ended, or when the signal aborts. */
  async waitBeyond(cursor: bigint, signal: AbortSignal): Promise<void> {
    while (cursor >= this.#end && !this.#ended && !signal.aborted) {
      await orAborted(this.#changed.promise, signal).catch(() => {});
    }
  }

  async *#stored(reader: Reader, upTo: bigint): AsyncGenerator<SpoolChunk> {
    let cursor = reader.cursor;
    if (cursor < this.start) {
      yield { stream: "gap", cursor, next: this.start, data: Buffer.alloc(0) };
      cursor = this.start;
    }
    for (const segment of [...this.#segments]) {
      if (cursor >= upTo) return;
      const index = this.#segments.indexOf(segment);
      const next = this.#segments[index + 1];
      if (index < 0 || (next !== undefined && next.start <= cursor)) continue;
      const place = reader.place?.segment === segment.start ? reader.place : undefined;
      for await (const { offset, ...record } of this.#whole(segment, place)) {
        if (record.next > cursor) {
          const known = cursor - record.cursor;
          const skip = known > 0n ? known : 0n;
          const start = record.cursor + skip;
          const data = record.stream === "gap" ? record.data : record.data.subarray(Number(skip));
          cursor = record.next;
          yield { stream: record.stream, cursor: start, next: record.next, data };
        }
        reader.place = { segment: segment.start, offset, cursor: record.next };
        if (cursor >= upTo) return;
      }
    }
  }

  /** Nothing of a segment that is dropped before it could be opened. */
  async *#whole(segment: Segment, place: Place | undefined): ReturnType<typeof records> {
    try {
      yield* records(segment, place);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOENT" || this.#segments.includes(segment)) throw error;
    }
  }

  async #write(stream: SpoolStream, data: Buffer, advance: bigint): Promise<void> {
    if (this.#segments.length === 0 || this.#fileBytes >= SEGMENT_BYTES) await this.#nextSegment();
    const segment = this.#segments.at(-1);
    if (segment === undefined) throw new Error("a spool without a segment");
    this.#file ??= await open(segment.path, "a", 0o600);
    const record = Buffer.allocUnsafe(HEADER_BYTES + data.length);
    record.writeUInt8(TAGS[stream], 0);
    record.writeUInt32BE(data.length, 1);
    data.copy(record, HEADER_BYTES);
    // A record that was cut by a full disk must not stay in front of others.
    if (this.#torn) await this.#file.truncate(this.#fileBytes);
    this.#torn = true;
    await this.#file.appendFile(record);
    this.#torn = false;
    this.#fileBytes += record.length;
    this.#end += advance;
    this.#notify();
  }

  async #nextSegment(): Promise<void> {
    await this.close();
    const path = join(this.#directory, `output.${this.#end.toString().padStart(20, "0")}`);
    this.#segments.push({ start: this.#end, path });
    this.#fileBytes = 0;
    while (this.#segments.length > KEPT_BYTES / SEGMENT_BYTES) {
      const oldest = this.#segments.shift();
      if (oldest !== undefined) await unlink(oldest.path);
    }
  }

  async #waitForReaders(signal: AbortSignal | undefined): Promise<void> {
    while ([...this.#attached].some((reader) => this.#end - reader.cursor > BigInt(READER_WINDOW_BYTES))) {
      await orAborted(this.#caughtUp.promise, signal);
    }
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  #release(): void {
    this.#caughtUp.resolve();
    this.#caughtUp = Promise.withResolvers();
  }
}

async function segmentsIn(directory: string): Promise<Segment[]> {
  return (await readdir(directory))
    .filter((name) => /^output\.\d{20}$/.test(name))
    .sort()
    .map((name) => ({ start: BigInt(name.slice(7)), path: join(directory, name) }));
}

/** Whole records of a segment from a place on; `offset` is where the record ends in the file. */
async function* records(segment: Segment, from?: Place): AsyncGenerator<SpoolChunk & { readonly offset: number }> {
  const file = await open(segment.path, "r");
  try {
    const buffer = Buffer.allocUnsafe(READ_BYTES);
    let held = Buffer.alloc(0);
    let position = from?.offset ?? 0;
    let cursor = from?.cursor ?? segment.start;
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position + held.length);
      if (bytesRead === 0) return;
      const bytes = Buffer.concat([held, buffer.subarray(0, bytesRead)]);
      let at = 0;
      while (bytes.length - at >= HEADER_BYTES) {
        const length = bytes.readUInt32BE(at + 1);
        if (bytes.length - at < HEADER_BYTES + length) break;
        const data = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
        at += HEADER_BYTES + length;
        const stream = streamOf(bytes.readUInt8(at - HEADER_BYTES - length));
        const next = cursor + (stream === "gap" ? data.readBigUInt64BE(0) : BigInt(length));
        yield { stream, cursor, next, data: stream === "gap" ? Buffer.alloc(0) : data, offset: position + at };
        cursor = next;
      }
      held = bytes.subarray(at);
      position += at;
    }
  } finally {
    await file.close();
  }
}

function streamOf(tag: number): SpoolStream {
  return tag === TAGS.gap ? "gap" : tag === TAGS.stderr ? "stderr" : "stdout";
}

/** Where a segment's whole records end, as a cursor and as bytes of the file. */
async function measure(segment: Segment): Promise<{ end: bigint; bytes: number }> {
  let end = segment.start;
  let bytes = 0;
  for await (const record of records(segment)) {
    end = record.next;
    bytes = record.offset;
  }
  return { end, bytes };
}
