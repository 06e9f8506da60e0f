// The connection to guestd: typed calls over a link that may drop at any byte. Every method of the guest protocol can
// be called again, so a call goes on over the next session until its deadline; what cannot be mended is a PyroError.

import type { Duplex } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, ConnectError, createClient } from "@connectrpc/connect";
import { orAborted } from "../abort/or-aborted.ts";
import { PyroError } from "../errors/error.ts";
import { GuestService, type ReadOutputResponse } from "../gen/pyro/guest/v1/guest_pb.js";
import { RpcSession } from "../rpc/session.ts";

/** How long a dropped link may take to come up again before the guest counts as not answering, ms. */
const RECONNECT_MS = 15_000;
/**
 * While output is awaited the guest is asked whether it is there; a session over which it does not say so in time is
 * dropped. These bound how long a dead guest goes unnoticed, ms.
 */
const PING_INTERVAL_MS = 5_000;
const PING_TIMEOUT_MS = 15_000;
/** The first try at a session; each further one takes twice as long, ms. */
const FIRST_TRY_MS = 2_000;
const RETRY_PAUSE_MS = 20;
/** How long streams of output may break one after the other without having told anything, ms. */
const FRUITLESS_MS = 60_000;

export type GuestCalls = Client<typeof GuestService>;

interface Connected {
  readonly session: RpcSession;
  readonly calls: GuestCalls;
  /** How many await output over it: while there are any the guest is pinged, once for all of them. */
  readers: number;
  ping: NodeJS.Timeout | undefined;
}

export interface GuestCallOptions {
  /** For the whole call, reconnects included, ms. */
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export class GuestClient {
  readonly #open: (signal: AbortSignal) => Promise<Duplex>;
  #connected: Promise<Connected> | undefined;
  readonly #closed = new AbortController();
  /** Set while the guest is known to stand still. */
  #held: { readonly reason: PyroError; readonly over: PromiseWithResolvers<void> } | undefined;

  /** `open` gives a fresh session on the control port; it rejects with a PyroError when the microVM has gone. */
  constructor(open: (signal: AbortSignal) => Promise<Duplex>) {
    this.#open = open;
  }

  /**
   * Makes one call, again over a new session when the link drops.
   * Errors: GUEST_UNRESPONSIVE past the deadline, MICROVM_LOST, CANCELLED after close; the guest's own refusal comes
   * as the ConnectError it sent.
   */
  async call<T>(
    method: (calls: GuestCalls, options: { signal: AbortSignal }) => Promise<T>,
    options: GuestCallOptions,
  ): Promise<T> {
    const deadline = AbortSignal.timeout(options.timeoutMs);
    const signals = [deadline, this.#closed.signal];
    if (options.signal) signals.push(options.signal);
    const signal = AbortSignal.any(signals);
    for (;;) {
      this.#refuseHeld();
      let connected: Connected | undefined;
      try {
        connected = await this.#connect(signal);
        return await method(connected.calls, { signal });
      } catch (error) {
        if (options.signal?.aborted) throw options.signal.reason;
        if (this.#closed.signal.aborted) throw this.#closed.signal.reason;
        this.#refuseHeld();
        if (deadline.aborted) throw unresponsive(options.timeoutMs, error);
        if (error instanceof PyroError || !isLinkFailure(error)) throw error;
        this.#drop(connected);
      }
      await sleep(RETRY_PAUSE_MS);
    }
  }

  /**
   * A process's output from a cursor on, then its exit, over as many sessions as it takes. The link may be down for
   * RECONNECT_MS at a time.
   */
  async *readOutput(processId: string, from: bigint, signal: AbortSignal): AsyncGenerator<ReadOutputResponse["event"]> {
    let cursor = from;
    let failingSince: number | undefined;
    for (;;) {
      if (this.isHeld) failingSince = undefined;
      await this.untilMoving(signal);
      const connected = await this.#reconnect(signal);
      if (connected === undefined) continue;
      const opened = Date.now();
      this.#watch(connected);
      try {
        for await (const response of connected.calls.readOutput({ processId, cursor }, { signal })) {
          failingSince = undefined;
          yield response.event;
          if (response.event.case === "exited") return;
          if (response.event.case === "chunk") {
            cursor = response.event.value.cursor + BigInt(response.event.value.data.length);
          }
        }
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (this.#closed.signal.aborted) throw this.#closed.signal.reason;
        if (error instanceof PyroError || !isLinkFailure(error)) throw error;
      } finally {
        unwatch(connected);
      }
      this.#drop(connected);
      // A guest over which no stream ever tells anything is not there, however often it takes a new one.
      if (Date.now() - opened > PING_INTERVAL_MS) failingSince = undefined;
      failingSince ??= opened;
      if (Date.now() - failingSince > FRUITLESS_MS) throw unresponsive(FRUITLESS_MS, undefined);
      await sleep(RETRY_PAUSE_MS);
    }
  }

  /**
   * The guest stands still, and nobody is to take that for its end: calls reject with `reason` until `unhold`, whoever
   * awaits output waits on.
   */
  hold(reason: PyroError): void {
    this.#held ??= { reason, over: Promise.withResolvers() };
  }

  get isHeld(): boolean {
    return this.#held !== undefined;
  }

  /** Resolves when the guest is not known to stand still. Rejects with the signal's reason, or that of a close. */
  async untilMoving(signal: AbortSignal): Promise<void> {
    while (this.#held !== undefined) {
      await orAborted(this.#held.over.promise, AbortSignal.any([signal, this.#closed.signal]));
    }
  }

  #refuseHeld(): void {
    if (this.#held !== undefined) throw this.#held.reason;
  }

  unhold(): void {
    this.#held?.over.resolve();
    this.#held = undefined;
  }

  /** Ends the session; calls under way and later ones reject with `reason`. Idempotent: the first reason stands. */
  close(reason = new PyroError("CANCELLED", "The connection to the guest was closed.")): void {
    if (this.#closed.signal.aborted) return;
    this.#closed.abort(reason);
    const connected = this.#connected;
    this.#connected = undefined;
    connected?.then(
      ({ session }) => session.close(),
      () => {},
    );
  }

  /** Somebody awaits output over it, until `unwatch`. */
  #watch(connected: Connected): void {
    connected.readers++;
    connected.ping ??= setInterval(() => void this.#ping(connected), PING_INTERVAL_MS);
  }

  async #ping(connected: Connected): Promise<void> {
    const deadline = AbortSignal.timeout(PING_TIMEOUT_MS);
    await connected.calls.hello({}, { signal: deadline }).catch(() => {
      if (deadline.aborted) this.#drop(connected);
    });
  }

  /** Undefined when the guest turned out to stand still. */
  async #reconnect(signal: AbortSignal): Promise<Connected | undefined> {
    const deadline = AbortSignal.timeout(RECONNECT_MS);
    const bounded = AbortSignal.any([signal, deadline, this.#closed.signal]);
    for (;;) {
      try {
        return await this.#connect(bounded);
      } catch (error) {
        if (signal.aborted) throw signal.reason;
        if (this.#closed.signal.aborted) throw this.#closed.signal.reason;
        if (this.#held !== undefined) return undefined;
        if (deadline.aborted) throw unresponsive(RECONNECT_MS, error);
        if (error instanceof PyroError) throw error;
        await sleep(RETRY_PAUSE_MS);
      }
    }
  }

  /** One connection for all callers; the one who waits may give up without ending it for the others. */
  async #connect(signal: AbortSignal): Promise<Connected> {
    signal.throwIfAborted();
    if (this.#connected === undefined) {
      const opening = this.#start();
      this.#connected = opening;
      opening.catch(() => {
        if (this.#connected === opening) this.#connected = undefined;
      });
    }
    return await orAborted(this.#connected, signal);
  }

  async #start(): Promise<Connected> {
    const stream = await this.#openSession();
    const session = new RpcSession(stream);
    const calls = createClient(GuestService, session.transport);
    const connected: Connected = { session, calls, readers: 0, ping: undefined };
    session.closed.then(() => this.#drop(connected));
    return connected;
  }

  /**
   * Opens a session, each try on a fresh connection: the guest's kernel may have missed that the host came back, and
   * hears of it again with the next one.
   */
  async #openSession(): Promise<Duplex> {
    const deadline = AbortSignal.any([this.#closed.signal, AbortSignal.timeout(RECONNECT_MS)]);
    for (let tryMs = FIRST_TRY_MS; ; tryMs *= 2) {
      const attempt = AbortSignal.timeout(tryMs);
      try {
        return await this.#open(AbortSignal.any([deadline, attempt]));
      } catch (error) {
        if (deadline.aborted) throw deadline.reason;
        if (!attempt.aborted) throw error;
      }
    }
  }

  #drop(connected: Connected | undefined): void {
    if (connected === undefined) return;
    const current = this.#connected;
    current?.then(
      (now) => {
        if (now === connected && this.#connected === current) this.#connected = undefined;
      },
      () => {},
    );
    connected.session.close();
  }
}

function unwatch(connected: Connected): void {
  connected.readers--;
  if (connected.readers > 0) return;
  clearInterval(connected.ping);
  connected.ping = undefined;
}

/** The link's failures, as against the guest's answers: those came over the wire whole. */
function isLinkFailure(error: unknown): boolean {
  return !(error instanceof ConnectError && error.isWireError);
}

function unresponsive(ms: number, cause: unknown): PyroError {
  return new PyroError("GUEST_UNRESPONSIVE", `The guest did not answer within ${ms / 1000} s.`, { cause });
}
