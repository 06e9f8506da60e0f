// The output of one process on its way into its spool, with the values of secrets replaced. Here, and not when it is read:
// every way out of a workspace reads the spool, so that none can be forgotten, whatever cursor it begins at; and the host's
// disk never holds a value that a program printed. Cursors count the bytes as they came, so the guest is asked to go on from
// where the spool ends, and what was held back when a daemon died is simply read again.
import { Turns } from "../../abort/turns.ts";
import type { Spool } from "../spool.ts";
import type { Redactor } from "./redactor.ts";
import type { Piece, Sieve } from "./sieve.ts";

/** How long a process is quiet before a few characters that begin a value by chance are shown, ms. */
const QUIET_MS = 200;
/** Most that waits behind what may be the beginning of a value, on the other stream: bytes. */
const MOST_WAITING = 1 << 20;

type Stream = "stdout" | "stderr";

/** What came, in the order of the log. */
interface Came {
  readonly stream: Stream;
  cursor: bigint;
  /** Places in its own stream. */
  from: number;
  to: number;
}

class Channel {
  readonly sieve: Sieve;
  /** How many bytes came on this stream. */
  position = 0;
  /** Decided, and not written yet. */
  readonly pieces: (Piece & { told?: boolean })[] = [];

  constructor(sieve: Sieve) {
    this.sieve = sieve;
  }
}

export class RedactedOutput {
  readonly #spool: Spool;
  readonly #idle: boolean;
  readonly #channels: Readonly<Record<Stream, Channel>>;
  readonly #turns = new Turns();
  readonly #waiting: Came[] = [];
  #bytesWaiting = 0;
  /** Cursor behind all that came. */
  #next: bigint;
  #timer: NodeJS.Timeout | undefined;

  constructor(spool: Spool, redactor: Redactor) {
    this.#spool = spool;
    this.#idle = redactor.idle;
    this.#next = spool.end;
    const channel = () => new Channel(redactor.sieve());
    this.#channels = { stdout: channel(), stderr: channel() };
  }

  /** See Spool.append. */
  async append(stream: Stream, cursor: bigint, data: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (this.#idle) return await this.#spool.append(stream, cursor, data, signal);
    clearTimeout(this.#timer);
    await this.#turns.take(async () => {
      if (cursor > this.#next) {
        this.#decideAll();
        await this.#write(signal);
        this.#next = cursor;
        for (const { sieve } of Object.values(this.#channels)) sieve.lost();
      }
      const known = Number(this.#next - cursor);
      if (known < data.length) this.#take(stream, Buffer.from(data.subarray(known)));
      if (this.#bytesWaiting > MOST_WAITING) this.#decideAll();
      await this.#write(signal);
    });
    if (this.#waiting.length > 0) this.#timer = setTimeout(() => void this.#quiet(), QUIET_MS).unref();
  }

  /** Nothing more comes: what was held back is written. On failure it can be called again. */
  async end(signal?: AbortSignal): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#idle) return;
    await this.#turns.take(async () => {
      this.#decideAll();
      await this.#write(signal);
    });
  }

  /** What is held back stays so, and nothing is written any more once this has resolved. */
  async close(): Promise<void> {
    clearTimeout(this.#timer);
    await this.#turns.take(async () => {});
  }

  #take(stream: Stream, data: Buffer): void {
    const channel = this.#channels[stream];
    const from = channel.position;
    channel.position += data.length;
    const last = this.#waiting.at(-1);
    // Its own stream may hold back many small pieces.
    if (last?.stream === stream && last.to === from) last.to = channel.position;
    else this.#waiting.push({ stream, cursor: this.#next, from, to: channel.position });
    this.#bytesWaiting += data.length;
    this.#next += BigInt(data.length);
    channel.pieces.push(...channel.sieve.push(data));
  }

  #decideAll(): void {
    for (const { sieve, pieces } of Object.values(this.#channels)) pieces.push(...sieve.end());
  }

  async #quiet(): Promise<void> {
    await this.#turns.take(async () => {
      for (const { sieve, pieces } of Object.values(this.#channels)) pieces.push(...sieve.quiet());
      // What cannot be written now is with what comes next.
      await this.#write().catch(() => {});
    });
  }

  /** As far as it is decided, in the order in which it came. */
  async #write(signal?: AbortSignal): Promise<void> {
    for (;;) {
      const [came] = this.#waiting;
      if (came === undefined) return;
      const { pieces } = this.#channels[came.stream];
      const [piece] = pieces;
      if (piece === undefined) return;
      const end = Math.min(piece.end, came.to);
      const bytes = end - came.from;
      if (piece.redacted) {
        // Where the other stream lies in the middle of it, it is named once.
        const data = piece.told ? Buffer.alloc(0) : piece.data;
        await this.#spool.append(came.stream, came.cursor, data, signal, bytes);
        piece.told = true;
      } else {
        const data = piece.data.subarray(came.from - piece.start, end - piece.start);
        await this.#spool.append(came.stream, came.cursor, data, signal);
      }
      came.from = end;
      came.cursor += BigInt(bytes);
      this.#bytesWaiting -= bytes;
      if (end === came.to) this.#waiting.shift();
      if (end === piece.end) pieces.shift();
    }
  }
}
