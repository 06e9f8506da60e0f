// The terminals of all shells that somebody looks at: one thread for them, started when it is needed and ended when it has
// not been for a while. A thread that does not answer in time is ended, and who asked is told; what a terminal showed can be
// made again from what its shell printed.
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Worker } from "node:worker_threads";
import { PyroError } from "../../errors/error.ts";
import type { Screen, Size } from "./emulator.ts";

/** How long one question may take, ms: a piece of output takes milliseconds. */
const ANSWER_MS = 8000;
/** Without a question for this long the thread is ended, with all terminals in it, ms. */
const IDLE_MS = 60_000;
/** Most memory of the thread's own objects, MiB. */
const HEAP_MIB = 256;
/** Terminals kept at once. */
const MOST_OPEN = 16;

export type Ask =
  | { readonly kind: "open" | "resize"; readonly key: string; readonly size: Size }
  | { readonly kind: "feed"; readonly key: string; readonly data: Uint8Array }
  | { readonly kind: "screen" | "redraw" | "drop"; readonly key: string }
  | { readonly kind: "plain"; readonly size: Size; readonly data: Uint8Array };

export interface Answer {
  readonly id: number;
  readonly value?: unknown;
  readonly failure?: string;
}

/** One thread; another one has none of its terminals. */
class Thread {
  readonly #worker: Worker;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  #asked = 0;
  #ended = false;

  constructor() {
    this.#worker = new Worker(entry(), { resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB } });
    this.#worker.on("message", ({ id, value, failure }: Answer) => {
      const asked = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (failure === undefined) asked?.resolve(value);
      else asked?.reject(notRendered(failure));
    });
    this.#worker.on("error", (error) => this.end(error.message));
    this.#worker.on("exit", () => this.end("its thread ended"));
    // A daemon that is told to end does not wait for it, but for its answers.
    this.#worker.unref();
  }

  get ended(): boolean {
    return this.#ended;
  }

  get busy(): boolean {
    return this.#waiting.size > 0;
  }

  async ask(ask: Ask): Promise<unknown> {
    const id = ++this.#asked;
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.set(id, answer);
    const late = setTimeout(() => this.end(`it took more than ${ANSWER_MS / 1000} s`), ANSWER_MS);
    try {
      this.#worker.ref();
      this.#worker.postMessage({ id, ask });
      return await answer.promise;
    } finally {
      clearTimeout(late);
      if (!this.busy) this.#worker.unref();
    }
  }

  end(why: string): void {
    if (this.#ended) return;
    this.#ended = true;
    void this.#worker.terminate();
    for (const { reject } of this.#waiting.values()) reject(notRendered(why));
    this.#waiting.clear();
  }
}

export class Terminals {
  #thread: Thread | undefined;
  /** Terminals in the thread, the one that was used longest ago first. */
  readonly #open = new Set<string>();
  #idle: NodeJS.Timeout | undefined;

  /** False for one that was never opened, or has gone since. */
  has(key: string): boolean {
    return this.#thread?.ended === false && this.#open.has(key);
  }

  async open(key: string, size: Size): Promise<void> {
    const [oldest] = this.#open;
    if (oldest !== undefined && this.#open.size >= MOST_OPEN && !this.#open.has(key)) await this.drop(oldest);
    await this.#ask({ kind: "open", key, size });
    this.#open.add(key);
  }

  async resize(key: string, size: Size): Promise<void> {
    await this.#ask({ kind: "resize", key, size });
  }

  /** Resolves when it shows what these bytes make of it. */
  async feed(key: string, data: Uint8Array): Promise<void> {
    await this.#ask({ kind: "feed", key, data });
  }

  async screen(key: string): Promise<Screen> {
    // The last to be looked at is the last to go.
    if (this.#open.delete(key)) this.#open.add(key);
    return (await this.#ask({ kind: "screen", key })) as Screen;
  }

  async redraw(key: string): Promise<string> {
    if (this.#open.delete(key)) this.#open.add(key);
    return (await this.#ask({ kind: "redraw", key })) as string;
  }

  /** Forgets one; nothing is started for that. Never rejects. */
  async drop(key: string): Promise<void> {
    if (!this.has(key)) return;
    this.#open.delete(key);
    await this.#ask({ kind: "drop", key }).catch(() => {});
  }

  /** Of a piece of output on a terminal of its own. */
  async plain(data: Uint8Array, size: Size): Promise<string> {
    return (await this.#ask({ kind: "plain", data, size })) as string;
  }

  /** Errors: SHELL_NOT_RENDERED. */
  async #ask(ask: Ask): Promise<unknown> {
    const thread = this.#running();
    clearTimeout(this.#idle);
    try {
      return await thread.ask(ask);
    } finally {
      clearTimeout(this.#idle);
      this.#idle = setTimeout(() => {
        if (!thread.busy) thread.end("nobody looked");
      }, IDLE_MS);
      this.#idle.unref();
    }
  }

  #running(): Thread {
    if (this.#thread === undefined || this.#thread.ended) {
      this.#open.clear();
      this.#thread = new Thread();
    }
    return this.#thread;
  }
}

function notRendered(why: string): PyroError {
  return new PyroError("SHELL_NOT_RENDERED", `What the shell printed could not be shown as a terminal would: ${why}.`);
}

/** The thread's program: beside the daemon's in dist, beside this module in a checkout. */
function entry(): string {
  const here = fileURLToPath(import.meta.url);
  if (here.endsWith(".ts")) return join(dirname(here), "worker.ts");
  const candidates = [join(dirname(here), "terminal.js"), join(dirname(here), "..", "terminal.js")];
  return candidates.find(existsSync) ?? join(dirname(here), "terminal.js");
}
