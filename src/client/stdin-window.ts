// What was written to a command's stdin and is not yet acknowledged: bounded, and kept to be sent again.
import { STDIN_WINDOW_BYTES, type StdinAck } from "../wire/protocol.ts";

const PIECE_BYTES = 64 << 10;

/** Where pieces go while a connection stands. */
export interface StdinSink {
  data(piece: Uint8Array): void;
  end(): void;
}

export class StdinWindow {
  /** Bytes acknowledged so far, which is where the first piece kept begins. */
  #acknowledged = 0;
  #kept: Uint8Array[] = [];
  #keptBytes = 0;
  #ended = false;
  #closed = false;
  #sink: StdinSink | undefined;
  #tail: Promise<unknown> = Promise.resolve();
  #wake: (() => void) | undefined;

  get offset(): number {
    return this.#acknowledged;
  }

  /** Resolves when all of it was handed on: true, or false when nothing more will be read. */
  write(data: Uint8Array): Promise<boolean> {
    if (this.#ended) return Promise.resolve(false);
    // A copy: the caller may use its buffer again, and these bytes may have to be sent twice.
    const own = Uint8Array.from(data);
    return this.#inOrder(async () => {
      for (let at = 0; at < own.length; at += PIECE_BYTES) {
        const piece = own.subarray(at, at + PIECE_BYTES);
        while (!this.#closed && this.#keptBytes + piece.length > STDIN_WINDOW_BYTES) await this.#room();
        if (this.#closed) return false;
        this.#kept.push(piece);
        this.#keptBytes += piece.length;
        this.#sink?.data(piece);
      }
      return !this.#closed;
    });
  }

  /** End of file, after all that was written. Idempotent. */
  end(): Promise<void> {
    return this.#inOrder(async () => {
      if (this.#ended || this.#closed) return;
      this.#ended = true;
      this.#sink?.end();
    });
  }

  /** A connection stands: everything not acknowledged goes over it, then what follows. */
  connect(sink: StdinSink): void {
    this.#sink = sink;
    if (this.#closed) return;
    for (const piece of this.#kept) sink.data(piece);
    if (this.#ended) sink.end();
  }

  disconnect(): void {
    this.#sink = undefined;
  }

  acknowledge({ stdin_offset, closed }: StdinAck): void {
    if (closed) this.close();
    let drop = Math.min(stdin_offset - this.#acknowledged, this.#keptBytes);
    if (drop <= 0) return;
    this.#acknowledged += drop;
    this.#keptBytes -= drop;
    while (drop > 0) {
      const first = this.#kept[0];
      if (first === undefined) break;
      if (first.length > drop) {
        this.#kept[0] = first.subarray(drop);
        break;
      }
      this.#kept.shift();
      drop -= first.length;
    }
    this.#signal();
  }

  /** Nobody reads any more: waiting writes return false. */
  close(): void {
    this.#closed = true;
    this.#kept = [];
    this.#keptBytes = 0;
    this.#signal();
  }

  #inOrder<T>(step: () => Promise<T>): Promise<T> {
    const next = this.#tail.then(step);
    this.#tail = next;
    return next;
  }

  #room(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #signal(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
