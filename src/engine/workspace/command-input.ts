// The stdin of one command of a workspace: the client that began it writes there, and so may anybody else, one at a time.
// Positions are the guest's count of all of it; the client that began it counts only its own.
import { PyroError } from "../../errors/error.ts";
import { Gate } from "../gate.ts";
import type { HostProcess } from "../process.ts";

export interface Put {
  /** How much of it the process's pipe took. */
  readonly acceptedBytes: number;
  /** The process reads no more. */
  readonly closed: boolean;
}

export class CommandInput {
  readonly #processId: string;
  readonly #writers = new Gate(1);
  /** Bytes that came from others than the client that began it. */
  #written: number;
  /** The guest's count, where it is known: nobody else writes there. */
  #position: bigint | undefined;
  readonly #note: (written: number) => Promise<void>;

  /** `note` is told how much others have written whenever that has changed. */
  constructor(processId: string, written: number, note: (written: number) => Promise<void>) {
    this.#processId = processId;
    this.#written = written;
    this.#note = note;
  }

  /** See Command.write. */
  async write(
    process: HostProcess,
    offset: bigint,
    data: Uint8Array,
    eof: boolean,
    signal: AbortSignal,
  ): Promise<{ closed: boolean }> {
    return await this.#writers.pass(() => {
      this.#position = undefined;
      return process.write(offset + BigInt(this.#written), data, eof, signal);
    }, signal);
  }

  /** See Command.put. */
  async put(
    process: HostProcess,
    data: Uint8Array,
    eof: boolean,
    signal: AbortSignal,
    timeoutMs: number,
  ): Promise<Put> {
    const late = AbortSignal.timeout(timeoutMs);
    const until = AbortSignal.any([signal, late]);
    let acceptedBytes = 0;
    try {
      return await this.#writers.pass(async () => {
        const before = await this.#before(process);
        if (before === undefined) return { acceptedBytes, closed: true };
        this.#position = undefined;
        try {
          const { closed } = await process.write(before, data, eof, until);
          acceptedBytes = closed ? taken(before, await process.input(), data) : data.length;
          if (!closed) this.#position = before + BigInt(data.length);
          return { acceptedBytes, closed };
        } catch (error) {
          // What was taken is the process's now, whoever still waits.
          acceptedBytes = taken(before, await process.input(), data);
          throw error;
        } finally {
          this.#written += acceptedBytes;
          if (acceptedBytes > 0) await this.#note(this.#written);
        }
      }, until);
    } catch (error) {
      if (signal.aborted || !late.aborted) throw error;
      throw new PyroError(
        "PROCESS_NOT_READING",
        `${this.#processId} took ${acceptedBytes} of ${data.length} bytes within ${timeoutMs / 1000} s.`,
        { details: { accepted_bytes: acceptedBytes } },
      );
    }
  }

  /** Where the next byte goes; undefined when nothing more is read. */
  async #before(process: HostProcess): Promise<bigint | undefined> {
    if (this.#position !== undefined) return this.#position;
    const { offset, closed } = await process.input();
    return closed ? undefined : offset;
  }
}

/** A guest may say anything: no more than was sent, no less than nothing. */
function taken(before: bigint, { offset }: { offset: bigint }, data: Uint8Array): number {
  return Math.min(data.length, Math.max(0, Number(offset - before)));
}
