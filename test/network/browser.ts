// Chromium without a window, over its DevTools protocol on a pipe: enough to open a page and to ask it something.
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { findProgram } from "../../src/host/resources.ts";

/** Debian's packages have the names of their programs; the first is the smaller. */
const PROGRAMS = ["chromium-headless-shell", "chromium"] as const;
/** It is sandboxed by nobody: the pages are the test's own, and its sandbox wants what root in a container has not. */
const ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"] as const;
const ANSWER_MS = 60_000;
const TOLD = 4000;

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly message: string };
}

/** Why none can be opened here; false where one can. */
export async function noBrowser(): Promise<false | string> {
  return (await programOf()) === undefined ? `none of ${PROGRAMS.join(" and ")} is installed` : false;
}

async function programOf(): Promise<string | undefined> {
  const found = await Promise.all(PROGRAMS.map(findProgram));
  return found.find((path) => path !== undefined);
}

/** Opens a page, with a command line before the browser's own, and resolves with the value of an expression or promise in it. */
export async function askPage(url: string, expression: string, before: readonly string[] = []): Promise<unknown> {
  const profile = await mkdtemp(join(tmpdir(), "pyro-browser-"));
  const words = [
    ...before,
    (await programOf()) ?? "",
    ...ARGUMENTS,
    "--remote-debugging-pipe",
    `--user-data-dir=${profile}`,
  ];
  const child = spawn(words[0] ?? "", words.slice(1), {
    stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
    // What it starts ends with it.
    detached: true,
    env: { ...process.env, HOME: profile },
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const tools = new DevTools(child.stdio[3] as Writable, child.stdio[4] as Readable, child.stderr as Readable);
  const lost = ended.then(() => Promise.reject(new Error(`the browser has ended: ${tools.said}`)));
  try {
    return await Promise.race([tools.ask(url, expression), lost]);
  } finally {
    if (child.pid !== undefined) process.kill(-child.pid, "SIGKILL");
    await ended;
    await rm(profile, { recursive: true, force: true, maxRetries: 10 });
  }
}

class DevTools {
  readonly #out: Writable;
  readonly #answers = new Map<number, (message: Message) => void>();
  readonly #events = new Map<string, () => void>();
  /** The last of its complaints. */
  said = "";
  #count = 0;

  constructor(out: Writable, from: Readable, errors: Readable) {
    this.#out = out.on("error", () => {});
    errors.on("data", (data: Buffer) => {
      this.said = (this.said + data.toString()).slice(-TOLD);
    });
    let rest = "";
    from.setEncoding("utf8").on("data", (text: string) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop() ?? "";
      for (const message of messages) this.#take(JSON.parse(message) as Message);
    });
  }

  async ask(url: string, expression: string): Promise<unknown> {
    const { targetId } = await this.#call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.#call("Target.attachToTarget", { targetId, flatten: true });
    await this.#call("Page.enable", {}, sessionId);
    const loaded = this.#within<void>("the page to load", (resolve) =>
      this.#events.set("Page.loadEventFired", resolve),
    );
    const { errorText } = await this.#call("Page.navigate", { url }, sessionId);
    if (errorText !== undefined) throw new Error(`${url}: ${errorText}`);
    await loaded;
    const wanted = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails } = await this.#call("Runtime.evaluate", wanted, sessionId);
    if (exceptionDetails !== undefined) throw new Error(JSON.stringify(exceptionDetails));
    return (result as { readonly value?: unknown }).value;
  }

  async #call(method: string, params: object, sessionId?: unknown): Promise<Record<string, unknown>> {
    const id = ++this.#count;
    const { result, error } = await this.#within<Message>(method, (resolve) => {
      this.#answers.set(id, resolve);
      this.#out.write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
    if (result === undefined) throw new Error(`${method}: ${error?.message}`);
    return result;
  }

  #take(message: Message): void {
    if (message.id !== undefined) this.#answers.get(message.id)?.(message);
    else this.#events.get(message.method ?? "")?.();
  }

  #within<T>(what: string, begin: (resolve: (value: T) => void) => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const late = () => reject(new Error(`the browser took over ${ANSWER_MS} ms for ${what}: ${this.said}`));
      const timer = setTimeout(late, ANSWER_MS);
      begin((value) => {
        clearTimeout(timer);
        resolve(value);
      });
    });
  }
}
