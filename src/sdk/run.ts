// A command in a microVM of its own, as a person writes it: await it for the result, iterate it for the output.
import { Collector } from "../client/collect.ts";
import { type OutputStream, openStream, type Stream, type StreamOptions, toBytes } from "../client/stream.ts";
import type { Where } from "../client/where.ts";
import { PyroError } from "../errors/error.ts";
import { signalNumber } from "../operations/signals.ts";
import { type InputOf, OPERATIONS } from "../operations/table.ts";
import { toCamel } from "./case.ts";
import type { OutputChunk, RunEvent, RunOptions, RunResult } from "./types.ts";

/** Output that waits for its iterator, bytes; more holds the command back. */
const QUEUE_BYTES = 1 << 20;

export class Run implements PromiseLike<RunResult>, AsyncIterable<OutputChunk> {
  readonly #stream: Stream<"run">;
  readonly #options: RunOptions;
  readonly #result: Promise<RunResult>;
  #queue: OutputChunk[] = [];
  #queued = 0;
  #awaited = false;
  #iterated = false;
  #left = false;
  #wrote = false;
  #over = false;
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;

  /** Made by Pyro.run. `checked` gives the input in the table's keys; what it throws is what the run rejects with. */
  constructor(where: Where, checked: () => InputOf<"run">, options: RunOptions) {
    this.#options = options;
    const collector = new Collector(options.collectBytes);
    this.#stream = begin(where, checked, (input) => ({
      stdin: input.no_stdin !== true,
      ...(options.signal ? { signal: options.signal } : {}),
      ...(options.terminal ? { terminal: options.terminal } : {}),
      onEvent: (event) => options.onEvent?.(toCamel(OPERATIONS.run.events, event) as RunEvent),
      onOutput: (name, data) => {
        collector.add(name, data);
        return this.#offer(name, data);
      },
    }));
    this.#result = this.#finish(collector);
    // Whoever only iterates learns of a failure there.
    this.#result.catch(() => {});
    if (options.stdin !== undefined) {
      void this.write(options.stdin);
      void this.end();
    }
  }

  /** Id of the microVM, known from the start. */
  get vmId(): string {
    return this.#stream.id ?? "";
  }

  /** Resolves when the run is over, however it ended. Unlike awaiting the run it asks for nothing. */
  get settled(): Promise<void> {
    return this.#result.then(
      () => {},
      () => {},
    );
  }

  /** Resolves when it was handed on: false when the command reads no more. */
  write(data: string | Uint8Array): Promise<boolean> {
    this.#wrote = true;
    return this.#stream.write(toBytes(data));
  }

  /** Ends stdin after what was written. */
  end(): Promise<void> {
    this.#wrote = true;
    return this.#stream.end();
  }

  /** Sends a signal to the command: "SIGTERM", "TERM" or 15. Errors: INVALID_INPUT for one there is not. */
  signal(signal: string | number): void {
    this.#stream.signal(signalNumber(signal));
  }

  /** Tells the command's terminal its new size. */
  resize(columns: number, rows: number): void {
    this.#stream.resize(columns, rows);
  }

  // biome-ignore lint/suspicious/noThenProperty: a run is awaited like a promise, that is its interface
  then<A = RunResult, B = never>(
    onResult?: ((result: RunResult) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#awaited = true;
    // A command that reads stdin would wait for ever for a caller who waits for it.
    if (!this.#wrote && this.#options.keepStdin !== true) void this.#stream.end();
    this.#wakeWriter?.();
    return this.#result.then(onResult, onError);
  }

  catch<B = never>(onError?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<RunResult | B> {
    return this.then(undefined, onError);
  }

  finally(onEnd?: (() => void) | null): Promise<RunResult> {
    return this.then().finally(onEnd);
  }

  /**
   * The output from the beginning; throws what awaiting would reject with. One loop per run, begun before or in the
   * same turn as the await. Leaving it early does not end the command: abort the signal for that.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<OutputChunk, void, undefined> {
    if (this.#iterated) throw new PyroError("INVALID_INPUT", "The output of a run can be iterated once.");
    this.#iterated = true;
    try {
      for (;;) {
        const chunk = this.#queue.shift();
        if (chunk) {
          this.#queued -= chunk.data.length;
          this.#wakeWriter?.();
          yield chunk;
        } else if (this.#over) {
          break;
        } else {
          await new Promise<void>((resolve) => {
            this.#wakeReader = resolve;
          });
        }
      }
    } finally {
      this.#left = true;
      this.#queue = [];
      this.#wakeWriter?.();
    }
    await this.#result;
  }

  /** Holds output back until it is wanted: nobody iterates or awaits yet, or the iterator is slow. */
  async #offer(stream: OutputStream, data: Buffer): Promise<void> {
    if (this.#left || (this.#awaited && !this.#iterated)) {
      this.#queue = [];
      this.#queued = 0;
      return;
    }
    this.#queue.push({ stream, data: Uint8Array.from(data) });
    this.#queued += data.length;
    this.#wakeReader?.();
    while (this.#queued > QUEUE_BYTES && !this.#left && !(this.#awaited && !this.#iterated)) {
      await new Promise<void>((resolve) => {
        this.#wakeWriter = resolve;
      });
    }
  }

  async #finish(collector: Collector): Promise<RunResult> {
    try {
      const output = collector.fill(await this.#stream.result);
      const result = toCamel(OPERATIONS.run.output, output) as RunResult;
      if (this.#options.check && (result.exitCode !== 0 || result.timedOut)) {
        const how = result.timedOut ? "ran out of time" : `exited with ${result.exitCode}`;
        throw new PyroError("COMMAND_FAILED", `${result.command.join(" ").slice(0, 200)} ${how}.`, {
          details: { result },
        });
      }
      return result;
    } finally {
      this.#over = true;
      this.#wakeReader?.();
    }
  }
}

/** A run that cannot even begin is still a run, that rejects: callers have one way to learn of failures. */
function begin(
  where: Where,
  checked: () => InputOf<"run">,
  options: (input: InputOf<"run">) => StreamOptions<"run">,
): Stream<"run"> {
  try {
    const input = checked();
    return openStream(where, "run", input, options(input));
  } catch (thrown) {
    const result = Promise.reject(thrown);
    result.catch(() => {});
    return {
      id: undefined,
      result,
      write: async () => false,
      end: async () => {},
      signal: () => {},
      resize: () => {},
    };
  }
}
