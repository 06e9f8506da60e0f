// The port to the program in the outer guest (go/cmd/labd): one request at a time, its answers, and a watch over
// whether the guest still lives.
import type { Duplex } from "node:stream";
import { GuestLost, within } from "./failure.ts";

/** The letters of go/cmd/labd/channel.go. */
const ASK = { prepare: "P", run: "R", fetch: "F", ping: "?" } as const;
const TOLD = {
  ready: "r",
  prepared: "p",
  stdout: "o",
  stderr: "e",
  archive: "a",
  done: "d",
  failed: "x",
  pong: "!",
} as const;

const PING_MS = 10_000;
/** A guest that has not said a thing since so many pings hangs. Busy ones take some seconds for an answer. */
const UNANSWERED = 12;

/** Where what comes goes. A promise holds the guest up until it is settled. */
export interface Output {
  readonly onStdout: (data: Buffer) => void;
  readonly onStderr: (data: Buffer) => void;
  readonly onArchive: (data: Buffer) => Promise<void> | undefined;
}

interface Pending {
  readonly output: Partial<Output>;
  readonly resolve: (body: string) => void;
  readonly reject: (error: Error) => void;
}

/** The guest refused a request, or could not carry it out. */
export class Refused extends Error {
  override readonly name = "Refused";
}

export class Channel {
  readonly #port: Duplex;
  #rest: Buffer = Buffer.alloc(0);
  #pending: Pending | undefined;
  #lost: GuestLost | undefined;
  /** Pings since anything was heard. Not a time: this process, too, may stand still for a while. */
  #unanswered = 0;
  #held = false;

  constructor(port: Duplex) {
    this.#port = port;
    port.on("data", (data: Buffer) => this.#take(data));
    port.on("error", () => {});
    port.on("close", () => this.lose("the outer guest has ended"));
  }

  /** Waits for the guest to have booted. */
  async ready(deadlineMs: number): Promise<void> {
    await this.#within(deadlineMs, "to boot", this.#wait({}));
  }

  async prepare(what: unknown, deadlineMs: number): Promise<void> {
    await this.#within(deadlineMs, "to take what a run brings along", this.#ask(ASK.prepare, JSON.stringify(what), {}));
  }

  /** Runs a command and gives its exit status. It may take as long as it likes, as long as the guest answers. */
  async run(what: unknown, output: Partial<Output>): Promise<number> {
    return await this.#watched(this.#ask(ASK.run, JSON.stringify(what), output));
  }

  /** Fetches a path as a tar archive; gives tar's exit status. */
  async fetch(path: string, output: Partial<Output>): Promise<number> {
    return await this.#watched(this.#ask(ASK.fetch, path, output));
  }

  /** Nothing more comes: whoever waits hears why. */
  lose(why: string): void {
    this.#lost ??= new GuestLost(why);
    this.#pending?.reject(this.#lost);
    this.#pending = undefined;
  }

  async #within<T>(deadlineMs: number, what: string, work: Promise<T>): Promise<T> {
    return await within(
      deadlineMs,
      work,
      () => new GuestLost(`the outer guest took over ${deadlineMs / 1000} s ${what}`),
    );
  }

  async #watched(work: Promise<string>): Promise<number> {
    this.#unanswered = 0;
    const watch = setInterval(() => {
      if (this.#held) return;
      if (this.#unanswered === UNANSWERED) {
        this.lose(`the outer guest has said nothing for ${(UNANSWERED * PING_MS) / 1000} s`);
      }
      this.#unanswered++;
      this.#send(ASK.ping, "");
    }, PING_MS);
    try {
      return Number(await work);
    } finally {
      clearInterval(watch);
    }
  }

  #ask(kind: string, body: string, output: Partial<Output>): Promise<string> {
    const answered = this.#wait(output);
    this.#send(kind, body);
    return answered;
  }

  #wait(output: Partial<Output>): Promise<string> {
    if (this.#lost !== undefined) return Promise.reject(this.#lost);
    return new Promise((resolve, reject) => {
      this.#pending = { output, resolve, reject };
    });
  }

  #send(kind: string, text: string): void {
    const body = Buffer.from(text);
    const header = Buffer.alloc(5);
    header.write(kind, "latin1");
    header.writeUInt32LE(body.length, 1);
    this.#port.write(Buffer.concat([header, body]));
  }

  #take(data: Buffer): void {
    this.#unanswered = 0;
    let rest: Buffer = this.#rest.length === 0 ? data : Buffer.concat([this.#rest, data]);
    while (rest.length >= 5) {
      const end = 5 + rest.readUInt32LE(1);
      if (rest.length < end) break;
      this.#answer(rest.toString("latin1", 0, 1), rest.subarray(5, end));
      rest = rest.subarray(end);
    }
    this.#rest = rest;
  }

  #answer(kind: string, body: Buffer): void {
    const { output, resolve, reject } = this.#pending ?? {};
    if (kind === TOLD.stdout) output?.onStdout?.(body);
    else if (kind === TOLD.stderr) output?.onStderr?.(body);
    else if (kind === TOLD.archive) this.#hold(output?.onArchive?.(body));
    else if (kind !== TOLD.pong) {
      this.#pending = undefined;
      if (kind === TOLD.failed) reject?.(new Refused(body.toString("utf8")));
      else resolve?.(body.toString("utf8"));
    }
  }

  #hold(until: Promise<void> | undefined): void {
    if (until === undefined || this.#held) return;
    this.#held = true;
    this.#port.pause();
    void until.finally(() => {
      this.#held = false;
      this.#port.resume();
    });
  }
}
