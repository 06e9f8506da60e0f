// One request of a client while it is carried out: how long it may take, what it is told meanwhile, and how it ends early.
import { SdkError, SdkErrorCode, type ServerContext } from "@modelcontextprotocol/server";
import { PyroError } from "../errors/error.ts";
import { DEFAULT_WAIT_SECONDS } from "./schema.ts";

/** What the daemon may take beyond wait_seconds before a call is given up. */
const GRACE_MS = 8000;

export class Request implements Disposable {
  /** Aborts when the client cancelled the request, or has gone. */
  readonly signal: AbortSignal;
  /** Aborts when the answer is overdue. */
  readonly overdue: AbortSignal;
  readonly #deadline: number;
  readonly #timer: NodeJS.Timeout;
  readonly #context: ServerContext;
  #progress = 0;

  /** The wait begins now; Infinity is not a wait. */
  constructor(context: ServerContext, waitSeconds: unknown) {
    const waitMs = (typeof waitSeconds === "number" ? waitSeconds : DEFAULT_WAIT_SECONDS) * 1000;
    this.#context = context;
    this.signal = context.mcpReq.signal;
    this.#deadline = Date.now() + waitMs;
    const controller = new AbortController();
    this.overdue = controller.signal;
    const most = waitMs + GRACE_MS;
    this.#timer = setTimeout(() => {
      const told = `The call was not answered within ${Math.round(most / 1000)} s.`;
      controller.abort(new PyroError("DAEMON_UNREACHABLE", told));
    }, most);
  }

  /** What is left of the wait, ms. */
  get leftMs(): number {
    return Math.max(0, this.#deadline - Date.now());
  }

  /** True when nobody is left to answer, as against a request that was cancelled. */
  get clientGone(): boolean {
    const { reason } = this.signal;
    return reason instanceof SdkError && reason.code === SdkErrorCode.ConnectionClosed;
  }

  /** The promise, unless it is overdue first: then that error, whatever becomes of the promise. */
  async inTime<T>(promise: Promise<T>): Promise<T> {
    promise.catch(() => {});
    const late = Promise.withResolvers<never>();
    const giveUp = () => late.reject(this.overdue.reason);
    if (this.overdue.aborted) giveUp();
    this.overdue.addEventListener("abort", giveUp, { once: true });
    try {
      return await Promise.race([promise, late.promise]);
    } finally {
      this.overdue.removeEventListener("abort", giveUp);
    }
  }

  /** Sends progress when the client asked for it; each with a larger number, as the protocol wants. */
  progress(message: string): void {
    const { mcpReq } = this.#context;
    const progressToken = mcpReq._meta?.progressToken;
    if (progressToken === undefined || this.signal.aborted) return;
    this.#progress++;
    const params = { progressToken, progress: this.#progress, message };
    mcpReq.notify({ method: "notifications/progress", params }).catch(() => {});
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
