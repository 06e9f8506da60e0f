// One request for a tool while it is carried out: how long it may take, what is told meanwhile, and how it ends early.
import { PyroError } from "../errors/error.ts";
import { DEFAULT_WAIT_SECONDS } from "./schema.ts";

/** What the daemon may take beyond wait_seconds before a call is given up. */
const GRACE_MS = 8000;

/** Who asked, over whatever protocol. */
export interface Asker {
  /** Aborts when the request was cancelled, or nobody is left to answer. */
  readonly signal: AbortSignal;
  /** Whether an abort means that nobody is left to answer. */
  hasGone(): boolean;
  /** Tells of progress, if that is wanted. */
  tell(message: string): void;
}

export class Request implements Disposable {
  /** The asker's own. */
  readonly signal: AbortSignal;
  /** Aborts when the answer is overdue. */
  readonly overdue: AbortSignal;
  readonly #deadline: number;
  readonly #timer: NodeJS.Timeout;
  readonly #asker: Asker;

  /** The wait begins now; Infinity is not a wait. */
  constructor(asker: Asker, waitSeconds: unknown) {
    const waitMs = (typeof waitSeconds === "number" ? waitSeconds : DEFAULT_WAIT_SECONDS) * 1000;
    this.#asker = asker;
    this.signal = asker.signal;
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
    return this.signal.aborted && this.#asker.hasGone();
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

  progress(message: string): void {
    if (!this.signal.aborted) this.#asker.tell(message);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}
