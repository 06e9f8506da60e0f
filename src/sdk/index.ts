// The SDK: one typed method per row of the table, and what callers need to type their own code.
import { call } from "../client/call.ts";
import { withUserDefaults } from "../client/settings.ts";
import { openStream } from "../client/stream.ts";
import { type Where, whereFrom } from "../client/where.ts";
import { PyroError } from "../errors/error.ts";
import { parseInput } from "../operations/check.ts";
import type { Operation } from "../operations/define.ts";
import { type EventOf, type InputOf, OPERATIONS, type OperationName } from "../operations/table.ts";
import { camelKey, toCamel, toSnake } from "./case.ts";
import { Run } from "./run.ts";
import type {
  CallOptions,
  DoctorEvent,
  DoctorReport,
  Environment,
  EnvironmentDetails,
  EnvironmentEvent,
  EnvironmentInspectInput,
  EnvironmentList,
  EnvironmentListInput,
  EnvironmentPruneInput,
  EnvironmentPruneResult,
  EnvironmentPullInput,
  EventOptions,
  ProcessReadInput,
  ProcessReadResult,
  RunInput,
  RunOptions,
  SdkEvent,
  SdkInput,
  SdkOutput,
} from "./types.ts";

export type { ErrorCode } from "../errors/codes.ts";
export { type ErrorData, PyroError } from "../errors/error.ts";
export type { Run } from "./run.ts";
export type * from "./types.ts";

export interface PyroOptions {
  /** Replaces the environment variable PYRO_HOME: where state is kept, and so which daemon is spoken to. */
  readonly home?: string;
}

/** A client of this user's daemon, which is started on demand. An idle one keeps nothing alive. */
export class Pyro implements AsyncDisposable {
  readonly #where: Where;
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: PyroOptions = {}) {
    this.#where = whereFrom(process.env, options.home);
  }

  /**
   * Runs one command in a new microVM and throws the microVM away. A non-zero exit and a timeout resolve, unless
   * `check` is set. It starts at once; await it for the result, iterate it for output as it comes.
   */
  run(input: RunInput, options: RunOptions = {}): Run {
    const run = new Run(this.#where, () => this.#checked("run", input), { ...options, signal: this.#signal(options) });
    this.#track(run.settled);
    return run;
  }

  /** Reads what a process printed, from a cursor on. */
  readProcess(input: ProcessReadInput, options: CallOptions = {}): Promise<ProcessReadResult> {
    return this.#call("process.read", input, options);
  }

  /** Lists the environments there are, and which are installed. */
  listEnvironments(input: EnvironmentListInput = {}, options: CallOptions = {}): Promise<EnvironmentList> {
    return this.#call("env.list", input, options);
  }

  /** Builds or fetches an environment, so that the first start does not wait for it. */
  pullEnvironment(input: EnvironmentPullInput, options: EventOptions<EnvironmentEvent> = {}): Promise<Environment> {
    return this.#stream("env.pull", input, options);
  }

  /** Shows all that is known of an environment. */
  inspectEnvironment(input: EnvironmentInspectInput, options: CallOptions = {}): Promise<EnvironmentDetails> {
    return this.#call("env.inspect", input, options);
  }

  /** Removes images, kernels and logs that nothing needs any more; what is in use stays. */
  pruneEnvironments(input: EnvironmentPruneInput = {}, options: CallOptions = {}): Promise<EnvironmentPruneResult> {
    return this.#call("env.prune", input, options);
  }

  /** Checks this host: what pyro found, what it will use, and how to get better. */
  doctor(input: SdkInput<"doctor"> = {}, options: EventOptions<DoctorEvent> = {}): Promise<DoctorReport> {
    return this.#stream("doctor", input, options);
  }

  /** Ends what this client started and still runs. The daemon goes on. */
  async close(): Promise<void> {
    this.#closing.abort(new PyroError("CANCELLED", "The client was closed."));
    await Promise.allSettled(this.#running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #call<N extends OperationName>(name: N, input: SdkInput<N>, options: CallOptions): Promise<SdkOutput<N>> {
    const answer = call(this.#where, name, this.#checked(name, input), { signal: this.#signal(options) });
    this.#track(answer);
    return toCamel(OPERATIONS[name].output, await answer) as SdkOutput<N>;
  }

  async #stream<N extends OperationName>(
    name: N,
    input: SdkInput<N>,
    { onEvent, ...options }: EventOptions<SdkEvent<N>>,
  ): Promise<SdkOutput<N>> {
    const row: Operation = OPERATIONS[name];
    const answer = openStream(this.#where, name, this.#checked(name, input), {
      signal: this.#signal(options),
      onEvent: (event: EventOf<N>) => onEvent?.((row.events ? toCamel(row.events, event) : event) as SdkEvent<N>),
    }).result;
    this.#track(answer);
    return toCamel(row.output, await answer) as SdkOutput<N>;
  }

  /** In the table's keys, checked before anything is started. Errors: INVALID_INPUT in the caller's own keys. */
  #checked<N extends OperationName>(name: N, input: unknown): InputOf<N> {
    const row: Operation = OPERATIONS[name];
    const omit = "method" in row.sdk ? (row.sdk.omit ?? []) : [];
    const given = withUserDefaults(name, toSnake(row.input, input), this.#where.environment);
    const allowed = { ...row, name: "method" in row.sdk ? row.sdk.method : name, input: without(row.input, omit) };
    return parseInput(allowed, given, camelKey) as InputOf<N>;
  }

  #signal(options: CallOptions): AbortSignal {
    return options.signal ? AbortSignal.any([options.signal, this.#closing.signal]) : this.#closing.signal;
  }

  #track(call: Promise<unknown>): void {
    const settled = call.then(
      () => {},
      () => {},
    );
    this.#running.add(settled);
    void settled.then(() => this.#running.delete(settled));
  }
}

function without(schema: Operation["input"], keys: readonly string[]): Operation["input"] {
  const mask: Record<string, true> = Object.fromEntries(keys.map((key) => [key, true]));
  return keys.length === 0 ? schema : schema.omit(mask as Parameters<typeof schema.omit>[0]);
}
