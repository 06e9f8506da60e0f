// The calls of one client: in the table's keys and checked before anything is started, answers in the caller's, and all of
// them ended when the client is closed.
import { call } from "../client/call.ts";
import { type OutgoingName, takeOut } from "../client/download/take-out.ts";
import { download } from "../client/download.ts";
import { withSecretFiles } from "../client/secrets.ts";
import { withUserDefaults } from "../client/settings.ts";
import { openStream, type Stream } from "../client/stream.ts";
import { withUpload } from "../client/upload.ts";
import type { Where } from "../client/where.ts";
import { PyroError } from "../errors/error.ts";
import { parseInput } from "../operations/check.ts";
import type { Operation } from "../operations/define.ts";
import { type EventOf, type InputOf, OPERATIONS, type OperationName } from "../operations/table.ts";
import { camelKey, toCamel, toSnake } from "./case.ts";
import type * as t from "./types.ts";

export interface Told<N extends OperationName> extends t.CallOptions {
  readonly onEvent?: ((event: t.SdkEvent<N>) => void | Promise<void>) | undefined;
}

const CALLS = new WeakMap<object, Calls>();

/** Says whose calls a handle makes, for faces that make others for it. `of`: a client's calls, or another handle of the client. */
export function shareCalls(handle: object, of: Calls | object): void {
  const calls = of instanceof Calls ? of : CALLS.get(of);
  if (calls !== undefined) CALLS.set(handle, calls);
}

/** Errors: INVALID_INPUT for what is no client and no handle of one. */
export function callsOf(handle: object): Calls {
  const calls = CALLS.get(handle);
  if (calls !== undefined) return calls;
  throw new PyroError("INVALID_INPUT", "That is neither a Pyro nor a workspace of one.");
}

export class Calls {
  readonly where: Where;
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<unknown>>();

  constructor(where: Where) {
    this.where = where;
  }

  /** Aborts when the client is closed. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Ends what was started and is still waited for. */
  async close(): Promise<void> {
    this.#closing.abort(new PyroError("CANCELLED", "The client was closed."));
    await Promise.allSettled(this.#running);
  }

  /** A call with one answer. */
  async call<N extends OperationName>(name: N, input: unknown, options: t.CallOptions): Promise<t.SdkOutput<N>> {
    const answer = call(this.where, name, this.checked(name, input), { signal: this.signal(options) });
    this.track(answer);
    return toCamel(OPERATIONS[name].output, await answer) as t.SdkOutput<N>;
  }

  /** A call that tells of itself before its answer. */
  async stream<N extends OperationName>(
    name: N,
    input: unknown,
    { onEvent, ...options }: Told<N>,
  ): Promise<t.SdkOutput<N>> {
    const answer = this.open(name, input, { onEvent, signal: this.signal(options) }).then(({ result }) => result);
    this.track(answer);
    return toCamel(OPERATIONS[name].output, await answer) as t.SdkOutput<N>;
  }

  /** A call that brings something out of a workspace, to a file of this host or into its answer. */
  async takeOut<N extends OutgoingName>(
    name: N,
    input: unknown,
    { onEvent, ...options }: Told<N>,
  ): Promise<t.SdkOutput<N>> {
    const { events, output }: Operation = OPERATIONS[name];
    const told = (event: EventOf<OutgoingName>) =>
      onEvent?.((events ? toCamel(events, event) : event) as t.SdkEvent<N>);
    const answer = takeOut(this.where, name, this.checked(name, input), {
      cwd: process.cwd(),
      signal: this.signal(options),
      onEvent: told,
    });
    this.track(answer);
    return toCamel(output, await answer) as t.SdkOutput<N>;
  }

  /** A call that makes a file of this host. */
  async download<N extends OperationName>(
    name: N,
    input: unknown,
    { onEvent, ...options }: Told<N>,
  ): Promise<t.SdkOutput<N>> {
    const { events }: Operation = OPERATIONS[name];
    const answer = download(this.where, name, this.checked(name, input), {
      cwd: process.cwd(),
      signal: this.signal(options),
      onEvent: (event) => onEvent?.((events ? toCamel(events, event) : event) as t.SdkEvent<N>),
    });
    this.track(answer);
    return toCamel(OPERATIONS[name].output, await answer) as t.SdkOutput<N>;
  }

  /** Begins a streaming call, with what it sends of this host opened first. */
  async open<N extends OperationName>(
    name: N,
    input: unknown,
    { onEvent, signal }: Told<N> & { readonly signal: AbortSignal },
  ): Promise<Stream<N>> {
    const { events }: Operation = OPERATIONS[name];
    const told = (event: EventOf<N>) => onEvent?.((events ? toCamel(events, event) : event) as t.SdkEvent<N>);
    const sent = await withUpload(name, this.checked(name, input), { cwd: process.cwd(), signal });
    return openStream(this.where, name, sent.input, { signal, upload: sent.upload, onEvent: told });
  }

  /** In the table's keys, checked before anything is started. Errors: INVALID_INPUT in the caller's own keys. */
  checked<N extends OperationName>(name: N, input: unknown): InputOf<N> {
    const row: Operation = OPERATIONS[name];
    const omit = "method" in row.sdk ? (row.sdk.omit ?? []) : [];
    const given = withUserDefaults(name, toSnake(row.input, input), this.where.environment);
    const allowed = { ...row, name: "method" in row.sdk ? row.sdk.method : name, input: without(row.input, omit) };
    // Only what the row has was turned into its keys; anything else is named as it was written.
    const label = (key: string) => (Object.hasOwn(row.input.shape, key) ? camelKey(key) : key);
    return withSecretFiles(parseInput(allowed, given, label) as InputOf<N>, process.cwd());
  }

  /** Aborts with the caller's signal, or when the client is closed. */
  signal(options: t.CallOptions): AbortSignal {
    return options.signal ? AbortSignal.any([options.signal, this.#closing.signal]) : this.#closing.signal;
  }

  /** Closing waits for it. */
  track(call: Promise<unknown>): void {
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
