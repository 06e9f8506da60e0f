// A call that streams: events and output as they come, stdin or an upload and controls the other way, and for commands a
// new connection that takes up where a broken one left off.
import { setTimeout as sleep } from "node:timers/promises";
import { PyroError } from "../errors/error.ts";
import { log } from "../log/log.ts";
import { FACTS } from "../operations/facts.ts";
import type { EventOf, InputOf, OperationName, OutputOf } from "../operations/table.ts";
import { newRequestId, newVmId, newWorkspaceId } from "../wire/ids.ts";
import { CLAIM_MS, type Control, type RequestHead, ToDaemon } from "../wire/protocol.ts";
import { openSocket } from "./connect.ts";
import { Broken, brokenToError } from "./exchange.ts";
import { sendUpload } from "./send-upload.ts";
import { type Received, runSession, type Session } from "./session.ts";
import type { Source } from "./source/source.ts";
import { StdinWindow } from "./stdin-window.ts";
import type { Where } from "./where.ts";

/** After a cancel, how long the daemon has to say so. */
const CANCEL_MS = 5000;
/** How long what makes an upload's bytes has to end, when its connection has. */
const SENDING_ENDS_MS = 2000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;
/** How long a connection that follows a broken one waits for an answer before it sends files again. */
const LISTEN_MS = 250;
/** What a client names before the daemon does, so that it can ask for the same again: by what, and where it is said. */
const CHOSEN: { readonly [N in OperationName]?: readonly [() => string, "vm_id" | "request_id"] } = {
  run: [newVmId, "vm_id"],
  "workspace.create": [newWorkspaceId, "request_id"],
  "workspace.clone": [newWorkspaceId, "request_id"],
  "workspace.reset": [newRequestId, "request_id"],
  "snapshot.create": [newRequestId, "request_id"],
  "workspace.exec": [newRequestId, "request_id"],
  "service.start": [newRequestId, "request_id"],
  "shell.open": [newRequestId, "request_id"],
  "shell.attach": [newRequestId, "request_id"],
};
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
  /** What is sent of the host, for a row that takes that. Never beside stdin. */
  readonly upload?: Source | undefined;
  /** A promise holds what follows back until it resolves. */
  readonly onEvent?: (event: EventOf<N>) => void | Promise<void>;
  /** A promise holds further output back until it resolves. */
  readonly onOutput?: (stream: OutputStream, data: Buffer) => void | Promise<void>;
}

export interface Stream<N extends OperationName> {
  /** What this client chose: the vm_id of a run, the workspace_id of a workspace that is made, a name for an exec. */
  readonly id: string | undefined;
  /** The row's output; stdout and stderr in it are empty, they were given to onOutput. */
  readonly result: Promise<OutputOf<N>>;
  /** Resolves when handed on: false when nothing more will be read. */
  write(data: Uint8Array): Promise<boolean>;
  end(): Promise<void>;
  /** Sends a signal by number to the command. */
  signal(number: number): void;
  resize(columns: number, rows: number): void;
  /**
   * Asks for the end of it and goes on waiting: the result is CANCELLED, what it was when that came too late, or
   * DAEMON_UNREACHABLE when the daemon says neither.
   */
  cancel(): void;
  /** Hangs up: the daemon does what it does for a client that vanished, and the result rejects with `reason`. */
  leave(reason: unknown): void;
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
  readonly id: string | undefined;
  readonly result: Promise<OutputOf<N>>;
  readonly #where: Where;
  readonly #operation: N;
  readonly #input: InputOf<N>;
  readonly #options: StreamOptions<N>;
  readonly #stdin = new StdinWindow();
  readonly #resumable: boolean;
  readonly #aborted = Promise.withResolvers<void>();
  readonly #ended = new AbortController();
  /** Ends the upload over this connection, and what makes its bytes. */
  #sending: AbortController | undefined;
  #cancelTimer: NodeJS.Timeout | undefined;
  /** Why nothing more can be sent: the source's own failure, which no other connection mends. */
  #sourceFailure: { readonly reason: unknown } | undefined;
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
    this.#resumable = FACTS[operation].resumes;
    this.id = CHOSEN[operation]?.[0]();
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

  cancel(): void {
    this.#cancel(new PyroError("DAEMON_UNREACHABLE", "The daemon did not say whether it could still be cancelled."));
  }

  leave(reason: unknown): void {
    this.#ended.abort(reason);
  }

  #control(control: Control): void {
    if (this.#session) this.#session.sendJson(ToDaemon.Control, control);
    else if (control.type !== "resize") this.#waiting.push(control);
  }

  /** The drive, and beside it the abort: it asks the daemon to cancel and gives it CANCEL_MS to confirm. */
  async #abortable(): Promise<OutputOf<N>> {
    const { signal } = this.#options;
    const aborted = () => this.#cancel(signal?.reason);
    if (signal?.aborted) throw signal.reason;
    signal?.addEventListener("abort", aborted, { once: true });
    try {
      const output = await this.#drive(this.#ended.signal);
      signal?.throwIfAborted();
      return output;
    } catch (thrown) {
      signal?.throwIfAborted();
      if (this.#sourceFailure !== undefined) throw this.#sourceFailure.reason;
      this.#ended.signal.throwIfAborted();
      throw brokenToError(thrown, this.#where.paths.daemonSocket);
    } finally {
      clearTimeout(this.#cancelTimer);
      signal?.removeEventListener("abort", aborted);
      this.#stdin.close();
      this.#session?.destroy();
    }
  }

  #cancel(reason: unknown): void {
    this.#aborted.resolve();
    this.#stdin.close();
    // What is still to be sent would stand before the cancel.
    this.#sending?.abort(reason);
    if (this.#session) {
      this.#session.sendJson(ToDaemon.Control, { type: "cancel" } satisfies Control);
      this.#cancelTimer ??= setTimeout(() => this.#ended.abort(reason), CANCEL_MS);
    } else {
      this.#ended.abort(reason);
    }
  }

  async #drive(ended: AbortSignal): Promise<OutputOf<N>> {
    for (;;) {
      try {
        return (await this.#once(ended)) as OutputOf<N>;
      } catch (thrown) {
        const cancelled = this.#options.signal?.aborted || this.#cancelTimer !== undefined;
        const over = cancelled || this.#sourceFailure !== undefined;
        if (!(thrown instanceof Broken) || over || !this.#mayTryAgain()) throw thrown;
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
    // A command never runs twice, and a workspace is not made twice: the id makes a second request a continuation.
    const connections = this.#breaks + 1;
    if (this.#resumable) return connections < CONNECTIONS.resumed && Date.now() - this.#lastProgress < CLAIM_MS;
    // What was brought out so far would be brought out twice.
    if (FACTS[this.#operation].download !== null && this.#known) return false;
    const repeatable = FACTS[this.#operation].effect.idempotent || this.id !== undefined;
    return repeatable && connections < CONNECTIONS.repeated;
  }

  async #once(ended: AbortSignal): Promise<unknown> {
    const socket = await openSocket(this.#where, { start: true, signal: ended });
    const over = new AbortController();
    this.#sending = over;
    let sending: Promise<void> | undefined;
    try {
      return await runSession(socket, `/v1/${this.#operation}`, this.#head(), {
        ended,
        ready: (session) => {
          this.#ready(session);
          sending = this.#upload(session, over.signal);
        },
        received: (received) => this.#received(received),
      });
    } finally {
      over.abort(new Broken("the connection ended"));
      // The next connection begins when nothing of this one is left; a file server that hangs holds it up but a moment.
      await Promise.race([sending, sleep(SENDING_ENDS_MS, undefined, { ref: false })]);
    }
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

  /** Never rejects: what fails in the source ends the call. */
  async #upload(session: Session, over: AbortSignal): Promise<void> {
    const { upload } = this.#options;
    if (upload === undefined) return;
    try {
      // A refusal that came while more was being sent may have been lost with the connection: this time it is heard.
      if (this.#breaks > 0) await sleep(LISTEN_MS, undefined, { signal: over });
      await sendUpload(upload, session, over);
    } catch (reason) {
      if (over.aborted) return;
      this.#sourceFailure = { reason };
      this.#cancel(reason);
    }
  }

  #head(): RequestHead {
    const chosen = CHOSEN[this.#operation];
    return {
      input: this.#input,
      ...(chosen === undefined ? {} : { [chosen[1]]: this.id }),
      ...(this.#options.upload === undefined ? {} : { upload: true }),
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
        await Promise.race([this.#options.onEvent?.(received.event as EventOf<N>), this.#aborted.promise]);
        this.#lastProgress = Date.now();
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
