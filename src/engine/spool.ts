// A process's output on the host: an append-only log of tagged chunks with one byte cursor over stdout and stderr, kept
// in files of SEGMENT_BYTES of which the oldest go when there are too many. It outlives the process and the daemon.
//
// A segment is named by the cursor of its first byte. In it: records of stream (1 byte), length (4 bytes, big endian),
// data. A gap record's data is the number of bytes that were lost (8 bytes, big endian), and it advances the cursor by
// as much. A record of what was redacted begins with the number of bytes that it stands for, and advances the cursor by that.
import { type FileHandle, mkdir, open, readdir, truncate, unlink } from "node:fs/promises";
import { join } from "node:path";
import { orAborted } from "../abort/or-aborted.ts";

const SEGMENT_BYTES = 4 << 20;
/** Most bytes kept of one process, across segments. */
export const KEPT_BYTES = 64 << 20;
/** How far the slowest attached reader may fall behind before appending waits for it. */
const READER_WINDOW_BYTES = 16 << 20;
const HEADER_BYTES = 5;
const COUNT_BYTES = 8;
const READ_BYTES = 256 << 10;

export type SpoolStream = "stdout" | "stderr" | "gap";

const TAGS: Record<SpoolStream, number> = { stdout: 1, stderr: 2, gap: 3 };
const REDACTED_TAGS = { stdout: 4, stderr: 5 } as const;

export interface SpoolChunk {
  readonly stream: SpoolStream;
  /** Cursor of the first byte. */
  readonly cursor: bigint;
  /** Cursor behind the last byte. */
  readonly next: bigint;
  /** Empty for a gap, whose size is next - cursor. */
  readonly data: Buffer;
  /** True for what stands for other bytes: its length says nothing of theirs, which is next - cursor. */
  readonly redacted?: boolean;
}

/**
 * At most so many bytes of a chunk, and the cursor behind them. What stands for others is given whole, or, unless it is the
 * `first` of an answer, not at all.
 */
export function partOf(chunk: SpoolChunk, most: number, first: boolean): { data: Buffer; next: bigint } {
  const data = chunk.data.subarray(0, most);
  if (!chunk.redacted) return { data, next: chunk.cursor + BigInt(data.length) };
  if (data.length === chunk.data.length || first) return { data, next: chunk.next };
  return { data: Buffer.alloc(0), next: chunk.cursor };
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
  #redacted = false;
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

  /** True when something that was written, or read, by this daemon stands for other bytes. */
  get redacted(): boolean {
    return this.#redacted;
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
   * appended again. With `standsFor` the data is in the place of so many other bytes.
   */
  async append(
    stream: "stdout" | "stderr",
    cursor: bigint,
    data: Uint8Array,
    signal?: AbortSignal,
    standsFor?: number,
  ): Promise<void> {
    let bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    if (cursor < this.#end) {
      const known = this.#end - cursor;
      if (standsFor !== undefined || known >= BigInt(bytes.length)) return;
      bytes = bytes.subarray(Number(known));
    } else if (cursor > this.#end) {
      await this.#write("gap", counted(cursor - this.#end), cursor - this.#end);
    }
    if (standsFor !== undefined) {
      const advance = BigInt(standsFor);
      await this.#write(stream, Buffer.concat([counted(advance), bytes]), advance, true);
    } else await this.#write(stream, bytes, BigInt(bytes.length));
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

  /** Whether something of what is kept before a cursor stands for other bytes. */
  async redactedBefore(cursor: bigint): Promise<boolean> {
    for await (const chunk of this.read(this.start < cursor ? this.start : cursor, false)) {
      if (chunk.redacted) return chunk.cursor < cursor;
      if (chunk.next >= cursor) return false;
    }
    return false;
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
          const whole = record.stream === "gap" || record.redacted;
          const data = whole ? record.data : record.data.subarray(Number(skip));
          cursor = record.next;
          if (record.redacted) this.#redacted = true;
          const chunk = { stream: record.stream, cursor: start, next: record.next, data };
          yield record.redacted ? { ...chunk, redacted: true } : chunk;
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

  async #write(stream: SpoolStream, data: Buffer, advance: bigint, redacted = false): Promise<void> {
    if (this.#segments.length === 0 || this.#fileBytes >= SEGMENT_BYTES) await this.#nextSegment();
    const segment = this.#segments.at(-1);
    if (segment === undefined) throw new Error("a spool without a segment");
    this.#file ??= await open(segment.path, "a", 0o600);
    const record = Buffer.allocUnsafe(HEADER_BYTES + data.length);
    record.writeUInt8(redacted && stream !== "gap" ? REDACTED_TAGS[stream] : TAGS[stream], 0);
    record.writeUInt32BE(data.length, 1);
    data.copy(record, HEADER_BYTES);
    // A record that was cut by a full disk must not stay in front of others.
    if (this.#torn) await this.#file.truncate(this.#fileBytes);
    this.#torn = true;
    await this.#file.appendFile(record);
    this.#torn = false;
    this.#fileBytes += record.length;
    this.#end += advance;
    this.#redacted ||= redacted;
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
        const tag = bytes.readUInt8(at - HEADER_BYTES - length);
        const stream = streamOf(tag);
        const redacted = tag === REDACTED_TAGS.stdout || tag === REDACTED_TAGS.stderr;
        const next = cursor + (stream === "gap" || redacted ? data.readBigUInt64BE(0) : BigInt(length));
        const shown = stream === "gap" ? Buffer.alloc(0) : redacted ? data.subarray(COUNT_BYTES) : data;
        yield { stream, cursor, next, data: shown, redacted, offset: position + at };
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
  if (tag === TAGS.gap) return "gap";
  return tag === TAGS.stderr || tag === REDACTED_TAGS.stderr ? "stderr" : "stdout";
}

function counted(bytes: bigint): Buffer {
  const count = Buffer.alloc(COUNT_BYTES);
  count.writeBigUInt64BE(bytes);
  return count;
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
