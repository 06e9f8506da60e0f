// Changes on their way out with the names of secrets in the place of their values: each file's patch is a stream of its own, so
// that nothing is held back behind a change.
import type { Redactor } from "../secrets/redactor.ts";
import type { Piece, Sieve } from "../secrets/sieve.ts";
import type { ChangeEntry, ChangesSink } from "./changes.ts";

export class RedactedChanges implements ChangesSink {
  /** True when something was replaced. */
  redacted = false;
  readonly #sink: ChangesSink;
  readonly #redactor: Redactor;
  #sieve: Sieve | undefined;

  constructor(sink: ChangesSink, redactor: Redactor) {
    this.#sink = sink;
    this.#redactor = redactor;
  }

  async change(entry: ChangeEntry): Promise<void> {
    await this.end();
    await this.#sink.change(entry);
  }

  async patch(bytes: Uint8Array): Promise<void> {
    if (this.#redactor.idle) return await this.#sink.patch(bytes);
    this.#sieve ??= this.#redactor.sieve();
    await this.#tell(this.#sieve.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)));
  }

  /** Behind the last part of a patch. */
  async end(): Promise<void> {
    const sieve = this.#sieve;
    this.#sieve = undefined;
    if (sieve !== undefined) await this.#tell(sieve.end());
  }

  async #tell(pieces: readonly Piece[]): Promise<void> {
    for (const { data, redacted } of pieces) {
      this.redacted ||= redacted;
      if (data.length > 0) await this.#sink.patch(data);
    }
  }
}
