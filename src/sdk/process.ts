// A command as a person writes it, in a microVM of its own or in a workspace: await it for the result, iterate it for
// the output, write to it and signal it meanwhile.
import { Collector } from "../client/collect.ts";
import { type OutputStream, openStream, type Stream, type StreamOptions, toBytes } from "../client/stream.ts";
import type { Where } from "../client/where.ts";
import { PyroError } from "../errors/error.ts";
import { signalNumber } from "../operations/signals.ts";
import { type InputOf, OPERATIONS } from "../operations/table.ts";
import { toCamel } from "./case.ts";
import type { ExecResult, OutputChunk, ProcessOptions, RunResult, SdkEvent, Signal } from "./types.ts";

/** Output that waits for its iterator, bytes; more holds the command back. */
const QUEUE_BYTES = 1 << 20;

/** Rows that run a command. */
export type CommandName = "run" | "workspace.exec";

type Begun = Pick<Stream<CommandName>, "id" | "result" | "write" | "end" | "signal" | "resize">;
type Either = RunResult | ExecResult;
type Options = ProcessOptions<SdkEvent<CommandName>>;

/** @internal */
export interface Beginning<N extends CommandName> {
  readonly where: Where;
  readonly operation: N;
  /** The input in the table's keys. What it throws is what the process rejects with. */
  readonly checked: () => InputOf<N>;
}

export class Process<Result extends Either = ExecResult> implements PromiseLike<Result>, AsyncIterable<OutputChunk> {
  /**
   * Id of the process, as soon as it was started. Rejects when it never was. With it, and the id of its workspace, other
   * calls name it.
   */
  readonly processId: Promise<string>;
  readonly #operation: CommandName;
  readonly #stream: Begun;
  readonly #options: Options;
  readonly #result: Promise<Result>;
  readonly #started = Promise.withResolvers<string>();
  #queue: OutputChunk[] = [];
  #queued = 0;
  #awaited = false;
  #iterated = false;
  #left = false;
  #detached = false;
  #wrote = false;
  #over = false;
  #wakeReader: (() => void) | undefined;
  #wakeWriter: (() => void) | undefined;

  /** @internal Made by Pyro.run and Pyro.execWorkspace. */
  constructor(beginning: Beginning<CommandName>, options: Options) {
    this.#options = options;
    this.processId = this.#started.promise;
    this.processId.catch(() => {});
    const { operation } = beginning;
    this.#operation = operation;
    const collector = new Collector(options.collectBytes);
    this.#stream = begin(beginning, (input) => {
      this.#detached = "detach" in input && input.detach === true;
      if (this.#detached) refuseWithDetach(options);
      return {
        stdin: input.no_stdin !== true,
        ...(options.signal ? { signal: options.signal } : {}),
        ...(options.terminal ? { terminal: options.terminal } : {}),
        onEvent: (event) => {
          if (event.type === "started") this.#started.resolve(event.process_id);
          options.onEvent?.(toCamel(OPERATIONS[operation].events, event) as SdkEvent<CommandName>);
        },
        onOutput: (name, data) => {
          collector.add(name, data);
          return this.#offer(name, data);
        },
      };
    });
    this.#result = this.#finish(operation, collector);
    // Whoever only iterates learns of a failure there.
    this.#result.catch(() => {});
    if (options.stdin !== undefined) {
      void this.write(options.stdin);
      void this.end();
    }
  }

  /** Id of a run's microVM, known from the start. */
  get vmId(): Result extends RunResult ? string : undefined {
    return (this.#operation === "run" ? (this.#stream.id ?? "") : undefined) as Result extends RunResult
      ? string
      : undefined;
  }

  /** Resolves when it is over, however it ended. Unlike awaiting it, it asks for nothing. */
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
  signal(signal: Signal): void {
    this.#stream.signal(signalNumber(signal));
  }

  /** Tells the command's terminal its new size. */
  resize(columns: number, rows: number): void {
    this.#stream.resize(columns, rows);
  }

  // biome-ignore lint/suspicious/noThenProperty: a command is awaited like a promise, that is its interface
  then<A = Result, B = never>(
    onResult?: ((result: Result) => A | PromiseLike<A>) | null,
    onError?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.#awaited = true;
    // A command that reads stdin would wait for ever for a caller who waits for it. A detached one is written to later.
    if (!this.#wrote && !this.#detached && this.#options.keepStdin !== true) void this.#stream.end();
    this.#wakeWriter?.();
    return this.#result.then(onResult, onError);
  }

  catch<B = never>(onError?: ((reason: unknown) => B | PromiseLike<B>) | null): Promise<Result | B> {
    return this.then(undefined, onError);
  }

  finally(onEnd?: (() => void) | null): Promise<Result> {
    return this.then().finally(onEnd);
  }

  /**
   * The output from the beginning; throws what awaiting would reject with. One loop per command, begun before or in the
   * same turn as the await. Leaving it early does not end the command: abort the signal for that.
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<OutputChunk, void, undefined> {
    if (this.#iterated) throw new PyroError("INVALID_INPUT", "The output of a command can be iterated once.");
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

  async #finish(operation: CommandName, collector: Collector): Promise<Result> {
    try {
      const output = collector.fill(await this.#stream.result);
      const result = toCamel(OPERATIONS[operation].output, output) as Result;
      this.#started.resolve(result.processId);
      if (this.#options.check && (result.exitCode !== 0 || result.timedOut)) {
        throw new PyroError("COMMAND_FAILED", `${result.command.join(" ").slice(0, 200)} ${howItEnded(result)}.`, {
          details: { result },
        });
      }
      return result;
    } catch (thrown) {
      this.#started.reject(thrown);
      throw thrown;
    } finally {
      this.#over = true;
      this.#wakeReader?.();
    }
  }
}

/** A command in a microVM of its own. */
export type Run = Process<RunResult>;

function howItEnded({ timedOut, exitCode, lostReason }: Either): string {
  if (timedOut) return "ran out of time";
  return exitCode === null ? `was lost: ${lostReason ?? "its end is not known"}` : `exited with ${exitCode}`;
}

/** Errors: INVALID_INPUT for what would have to wait for a command that nobody waits for. */
function refuseWithDetach({ check, stdin }: ProcessOptions<never>): void {
  if (check) throw new PyroError("INVALID_INPUT", "check needs the end of the command, which detach does not await.");
  if (stdin === undefined) return;
  throw new PyroError("INVALID_INPUT", "stdin is not given to a detached command; writeProcess writes to it.");
}

/** A command that cannot even begin is still a Process, that rejects: callers have one way to learn of failures. */
function begin(
  { where, operation, checked }: Beginning<CommandName>,
  options: (input: InputOf<CommandName>) => StreamOptions<CommandName>,
): Begun {
  try {
    const input = checked();
    return openStream(where, operation, input, options(input));
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
