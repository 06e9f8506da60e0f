// The files that a client sends with a call, as they come: read ahead by a little, so that a cancel is heard while nobody
// takes them yet, and no further, so that a client is held to the guest's pace.
import type { Upload } from "../engine/workspace/seeding.ts";
import { PyroError } from "../errors/error.ts";
import { ToDaemon, type UploadEnd } from "../wire/protocol.ts";
import { readControl, readUploadEnd } from "./frames.ts";
import type { Requests } from "./stream.ts";

/** How much is read before somebody takes it, bytes. */
const AHEAD_BYTES = 4 << 20;

export class Incoming implements Upload {
  readonly #cancel: (reason: PyroError) => void;
  #chunks: Uint8Array[] = [];
  #bytes = 0;
  #end: UploadEnd | undefined;
  #failure: PyroError | undefined;
  #changed = Promise.withResolvers<void>();
  #taken = Promise.withResolvers<void>();

  /** Begins to read. `cancel` is called when the client says so, or says what cannot be understood. */
  constructor(requests: Requests, cancel: (reason: PyroError) => void) {
    this.#cancel = cancel;
    void this.#receive(requests);
  }

  get bytes(): AsyncIterable<Uint8Array> {
    return this.#read();
  }

  end(): UploadEnd {
    if (this.#end === undefined) throw new PyroError("INTERNAL", "The end of an upload was asked for before it came.");
    return this.#end;
  }

  async *#read(): AsyncGenerator<Uint8Array> {
    for (;;) {
      const changed = this.#changed.promise;
      const chunk = this.#chunks.shift();
      if (chunk !== undefined) {
        this.#bytes -= chunk.length;
        this.#taken.resolve();
        yield chunk;
      } else if (this.#failure !== undefined) throw this.#failure;
      else if (this.#end !== undefined) return;
      else await changed;
    }
  }

  /** Never rejects. */
  async #receive(requests: Requests): Promise<void> {
    try {
      for (let frame = await requests.next(); frame !== undefined; frame = await requests.next()) {
        if (frame.type === ToDaemon.Stdin) await this.#keep(frame.payload);
        else if (frame.type === ToDaemon.UploadEnd) this.#settle(readUploadEnd(frame));
        else if (frame.type === ToDaemon.Control && readControl(frame)?.type === "cancel") {
          this.#fail(new PyroError("CANCELLED", "The call was cancelled."));
          return;
        }
      }
      if (this.#end === undefined) this.#fail(new PyroError("CANCELLED", "The caller has gone."));
    } catch (thrown) {
      this.#fail(PyroError.from(thrown));
    }
  }

  async #keep(payload: Uint8Array): Promise<void> {
    if (this.#end !== undefined) throw new PyroError("INVALID_INPUT", "Files came behind their end.");
    // A copy: a frame is a view of a much larger buffer.
    this.#chunks.push(Uint8Array.from(payload));
    this.#bytes += payload.length;
    this.#notify();
    while (this.#bytes > AHEAD_BYTES) {
      const taken = Promise.withResolvers<void>();
      this.#taken = taken;
      await taken.promise;
    }
  }

  #settle(end: UploadEnd): void {
    this.#end = end;
    this.#notify();
  }

  #fail(reason: PyroError): void {
    this.#failure = reason;
    this.#notify();
    this.#cancel(reason);
  }

  #notify(): void {
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }
}
