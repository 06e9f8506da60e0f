// When a workspace was last used, and the moment from which on it is idle for too long.

/** Longest a timer of Node's can be, ms. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Idleness {
  readonly #due: () => void;
  #ttlMs: number;
  #lastMs: number;
  #users = 0;
  #timer: NodeJS.Timeout | undefined;
  #watching = false;

  /** `due` is called when nobody has used it for `ttlSeconds` (0: never), while it is watched. */
  constructor(ttlSeconds: number, last: Date, due: () => void) {
    this.#ttlMs = ttlSeconds * 1000;
    this.#lastMs = last.getTime();
    this.#due = due;
  }

  get inUse(): boolean {
    return this.#users > 0;
  }

  /** Now, while somebody uses it. */
  get lastActivity(): Date {
    return new Date(this.inUse ? Date.now() : this.#last());
  }

  /** Undefined while it is in use, and for one that never is too long idle. */
  get expiresAt(): Date | undefined {
    if (this.inUse || this.#ttlMs === 0) return undefined;
    return new Date(this.#last() + this.#ttlMs);
  }

  /** True when it has not been used for too long. */
  get isDue(): boolean {
    const at = this.expiresAt;
    return at !== undefined && at.getTime() <= Date.now();
  }

  /** Somebody uses it, until what is returned is called; calling that twice is once. */
  use(): () => void {
    this.#users++;
    this.#arm();
    let using = true;
    return () => {
      if (!using) return;
      using = false;
      this.#users--;
      this.#lastMs = Date.now();
      this.#arm();
    };
  }

  setTtl(seconds: number): void {
    this.#ttlMs = seconds * 1000;
    this.#arm();
  }

  /** Begins to look, from the last use on. */
  watch(): void {
    this.#watching = true;
    this.#arm();
  }

  unwatch(): void {
    this.#watching = false;
    this.#arm();
  }

  /** A clock that was set back must not make it last for ever. */
  #last(): number {
    this.#lastMs = Math.min(this.#lastMs, Date.now());
    return this.#lastMs;
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const at = this.expiresAt;
    if (!this.#watching || at === undefined) return;
    const ms = Math.min(Math.max(0, at.getTime() - Date.now()), LONGEST_TIMER_MS);
    this.#timer = setTimeout(() => (this.isDue ? this.#due() : this.#arm()), ms);
    this.#timer.unref();
  }
}
