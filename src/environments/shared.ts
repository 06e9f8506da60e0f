// One piece of work for several waiters: the first starts it, later ones join it, and it is aborted only when all
// of them have gone.
import { orAborted } from "../abort/or-aborted.ts";
import type { BuildProgress, OnProgress } from "./progress.ts";

interface Running {
  readonly result: Promise<unknown>;
  readonly controller: AbortController;
  readonly listeners: Set<OnProgress>;
  last: BuildProgress | undefined;
}

export class SharedWork {
  readonly #running = new Map<string, Running>();

  has(key: string): boolean {
    return this.#running.has(key);
  }

  /** Joins the work under `key` or starts it. Rejects with the signal's reason when this waiter is aborted. */
  async run<T>(
    key: string,
    onProgress: OnProgress,
    signal: AbortSignal | undefined,
    work: (onProgress: OnProgress, signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    signal?.throwIfAborted();
    let running = this.#running.get(key);
    // One whose waiters have all gone is being torn down: wait for that, then begin anew.
    while (running?.controller.signal.aborted) {
      await running.result.catch(() => {});
      signal?.throwIfAborted();
      running = this.#running.get(key);
    }
    running ??= this.#start(key, work);
    // A listener of its own, so that two waiters with one callback count as two.
    const listener: OnProgress = (progress) => onProgress(progress);
    running.listeners.add(listener);
    if (running.last) onProgress(running.last);
    try {
      return (await orAborted(running.result, signal)) as T;
    } finally {
      running.listeners.delete(listener);
      if (running.listeners.size === 0) running.controller.abort();
    }
  }

  #start<T>(key: string, work: (onProgress: OnProgress, signal: AbortSignal) => Promise<T>): Running {
    const controller = new AbortController();
    const listeners = new Set<OnProgress>();
    const tell: OnProgress = (progress) => {
      running.last = progress;
      for (const listener of listeners) listener(progress);
    };
    // Begun in a later turn: `work` may tell of progress at once.
    const result = Promise.resolve()
      .then(() => work(tell, controller.signal))
      .finally(() => this.#running.delete(key));
    result.catch(() => {});
    const running: Running = { result, controller, listeners, last: undefined };
    this.#running.set(key, running);
    return running;
  }
}
