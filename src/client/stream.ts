// A call that streams: events and output as they come, stdin and controls the other way, and for `run` a new
// connection that takes up where a broken one left off.
import { setTimeout as sleep } from "node:timers/promises";
import { PyroError } from "../errors/error.ts";
import { log } from "../log/log.ts";
import { FACTS } from "../operations/facts.ts";
import type { EventOf, InputOf, OperationName, OutputOf } from "../operations/table.ts";
import { newVmId } from "../wire/ids.ts";
import { CLAIM_MS, type Control, type RequestHead, ToDaemon } from "../wire/protocol.ts";
import { openSocket } from "./connect.ts";
import { Broken, brokenToError } from "./exchange.ts";
import { type Received, runSession, type Session } from "./session.ts";
import { StdinWindow } from "./stdin-window.ts";
import type { Where } from "./where.ts";

/** After a cancel, how long the daemon has to say so. */
const CANCEL_MS = 5000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;
/** Connections in all: a daemon that dies of what it is asked must not be started for ever. */
const CONNECTIONS = { resumed: 100, repeated: 3 } as const;

export type OutputStream = "stdout" | "stderr";

export interface StreamOptions<N extends OperationName> {
  /** Aborting ends what was started; the result rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** False: what runs is kept until read when the caller goes. Default true. */
  readonly attached?: boolean;
  /** False: the command reads an end of file at once. Default false. */
  readonly stdin?: boolean;
  readonly terminal?: { readonly columns: number; readonly rows: number };
  readonly onEvent?: (event: EventOf<N>) => void;
  /** A promise holds further output back until it resolves. */
  readonly onOutput?: (stream: OutputStream, data: Buffer) => void | Promise<void>;
}

export interface Stream<N extends OperationName> {
  /** The vm_id this client chose, for a row that makes a microVM. */
  readonly vmId: string | undefined;
  /** The row's output; stdout and stderr in it are empty, they were given to onOutput. */
  readonly result: Promise<OutputOf<N>>;
  /** Resolves when handed on: false when nothing more will be read. */
  write(data: Uint8Array): Promise<boolean>;
  end(): Promise<void>;
  /** Sends a signal by number to the command. */
  signal(number: number): void;
  resize(columns: number, rows: number): void;
}

/** Begins at once. Errors of `result`: those of the row, DAEMON_*, or the abort's reason. */
export function openStream<N extends OperationName>(
  where: Where,
  operation: N,
  input: InputOf<N>,
  options: StreamOptions<N> = {},
): Stream<N> {
  return new OperationStream(where, operation, input, options);
}

class OperationStream<N extends OperationName> implements Stream<N> {
  readonly vmId: string | undefined;
  readonly result: Promise<OutputOf<N>>;
  readonly #where: Where;
  readonly #operation: N;
  readonly #input: InputOf<N>;
  readonly #options: StreamOptions<N>;
  readonly #stdin = new StdinWindow();
  readonly #resumable: boolean;
  readonly #aborted = Promise.withResolvers<void>();
  #session: Session | undefined;
  #waiting: Control[] = [];
  #terminal: { columns: number; rows: number } | undefined;
  /** Cursor behind the last output that was handed on. */
  #cursor = 0n;
  /** Anything at all was received: the daemon knows of this run. */
  #known = false;
  #lastProgress = Date.now();
  /** Breaks in all, and since something was last received. */
  #breaks = 0;
  #breaksInRow = 0;

  constructor(where: Where, operation: N, input: InputOf<N>, options: StreamOptions<N>) {
    this.#where = where;
    this.#operation = operation;
    this.#input = input;
    this.#options = options;
    this.#terminal = options.terminal;
    this.#resumable = FACTS[operation].stdin;
    this.vmId = this.#resumable ? newVmId() : undefined;
    if (!options.stdin) this.#stdin.close();
    this.result = this.#abortable();
    this.result.catch(() => {});
  }

  write(data: Uint8Array): Promise<boolean> {
    return this.#stdin.write(data);
  }

  end(): Promise<void> {
    return this.#stdin.end();
  }

  signal(number: number): void {
    this.#control({ type: "signal", signal: number });
  }

  resize(columns: number, rows: number): void {
    this.#terminal = { columns, rows };
    this.#control({ type: "resize", columns, rows });
  }

  #control(control: Control): void {
    if (this.#session) this.#session.sendJson(ToDaemon.Control, control);
    else if (control.type !== "resize") this.#waiting.push(control);
  }

  /** The drive, and beside it the abort: it asks the daemon to cancel and gives it CANCEL_MS to confirm. */
  async #abortable(): Promise<OutputOf<N>> {
    const { signal } = this.#options;
    const ended = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const aborted = () => {
      this.#aborted.resolve();
      this.#stdin.close();
      if (this.#session) {
        this.#session.sendJson(ToDaemon.Control, { type: "cancel" } satisfies Control);
        timer = setTimeout(() => ended.abort(signal?.reason), CANCEL_MS);
      } else {
        ended.abort(signal?.reason);
      }
    };
    if (signal?.aborted) throw signal.reason;
    signal?.addEventListener("abort", aborted, { once: true });
    try {
      const output = await this.#drive(ended.signal);
      signal?.throwIfAborted();
      return output;
    } catch (thrown) {
      signal?.throwIfAborted();
      throw brokenToError(thrown, this.#where.paths.daemonSocket);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
      this.#stdin.close();
      this.#session?.destroy();
    }
  }

  async #drive(ended: AbortSignal): Promise<OutputOf<N>> {
    for (;;) {
      try {
        return (await this.#once(ended)) as OutputOf<N>;
      } catch (thrown) {
        if (!(thrown instanceof Broken) || this.#options.signal?.aborted || !this.#mayTryAgain()) throw thrown;
        log(`the daemon's answer broke off (${thrown.message}): taking ${this.#operation} up again`);
      } finally {
        this.#session = undefined;
        this.#stdin.disconnect();
      }
      const pause = Math.min(FIRST_PAUSE_MS * 2 ** Math.min(this.#breaksInRow, 10), LONGEST_PAUSE_MS);
      this.#breaks++;
      this.#breaksInRow++;
      await sleep(pause, undefined, { signal: ended });
    }
  }

  #mayTryAgain(): boolean {
    // A run's command never runs twice: its id makes a second request a continuation.
    const connections = this.#breaks + 1;
    if (this.#resumable) return connections < CONNECTIONS.resumed && Date.now() - this.#lastProgress < CLAIM_MS;
    return FACTS[this.#operation].effect.idempotent && connections < CONNECTIONS.repeated;
  }

  async #once(ended: AbortSignal): Promise<unknown> {
    const socket = await openSocket(this.#where, { start: true, signal: ended });
    return runSession(socket, `/v1/${this.#operation}`, this.#head(), {
      ended,
      ready: (session) => this.#ready(session),
      received: (received) => this.#received(received),
    });
  }

  #ready(session: Session): void {
    this.#session = session;
    for (const control of this.#waiting.splice(0)) session.sendJson(ToDaemon.Control, control);
    if (!this.#options.stdin) return;
    this.#stdin.connect({
      data: (piece) => session.send(ToDaemon.Stdin, piece),
      end: () => session.send(ToDaemon.StdinEnd, new Uint8Array(0)),
    });
  }

  #head(): RequestHead {
    return {
      input: this.#input,
      ...(this.vmId === undefined ? {} : { vm_id: this.vmId }),
      ...(this.#terminal === undefined ? {} : { terminal: this.#terminal }),
      ...(this.#resumable && this.#known
        ? { resume: { cursor: String(this.#cursor), stdin_offset: this.#stdin.offset } }
        : {}),
      attached: this.#options.attached ?? true,
      stdin_closed: !this.#options.stdin,
    };
  }

  async #received(received: Received): Promise<void> {
    this.#lastProgress = Date.now();
    this.#breaksInRow = 0;
    switch (received.kind) {
      case "alive":
        return;
      case "event":
        this.#known = true;
        this.#options.onEvent?.(received.event as EventOf<N>);
        return;
      case "ack":
        this.#known = true;
        this.#stdin.acknowledge(received.ack);
        return;
      case "output":
        this.#known = true;
        // What a resumed connection tells twice is told once.
        if (received.cursor <= this.#cursor) return;
        // A reader who does not read must not keep an abort from being heard.
        if (!this.#options.signal?.aborted) {
          await Promise.race([this.#options.onOutput?.(received.stream, received.data), this.#aborted.promise]);
        }
        this.#cursor = received.cursor;
        this.#lastProgress = Date.now();
        return;
    }
  }
}

/** Errors: INVALID_INPUT. For faces that were given something that is neither text nor bytes. */
export function toBytes(data: unknown): Uint8Array {
  if (typeof data === "string") return Buffer.from(data);
  if (data instanceof Uint8Array) return data;
  throw new PyroError("INVALID_INPUT", "stdin takes a string or a Uint8Array.");
}
