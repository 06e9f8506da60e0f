// QMP, QEMU's control protocol: one JSON document a line over a unix socket. One session, commands in turn.
import type { Socket } from "node:net";
import { connectOwn } from "../socket.ts";

const COMMAND_MS = 10_000;
const MAX_REPLY_BYTES = 1 << 20;
/** Longest reason that is passed on, characters. */
const MAX_REASON = 1000;

interface Reply {
  readonly return?: unknown;
  readonly error?: unknown;
  readonly QMP?: unknown;
}

/** QEMU refused a command, or does not answer. */
export class QmpError extends Error {
  override readonly name = "QmpError";
}

export class Qmp {
  readonly #socket: Socket;
  readonly #waiting: { resolve: (value: unknown) => void; reject: (error: Error) => void }[] = [];
  #buffer = "";

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Connects to a monitor and takes it out of negotiation. */
  static async open(path: string): Promise<Qmp> {
    return await Qmp.over(await connectOwn(path));
  }

  /** The same with a monitor that is connected already. */
  static async over(socket: Socket): Promise<Qmp> {
    const qmp = new Qmp(socket);
    const greeting = qmp.#expect("greeting");
    socket.setEncoding("utf8");
    socket.on("data", (text: string) => qmp.#take(text));
    socket.on("error", () => {});
    socket.on("close", () => qmp.#fail("the monitor closed"));
    try {
      await greeting;
      await qmp.execute("qmp_capabilities");
    } catch (error) {
      socket.destroy();
      throw error;
    }
    return qmp;
  }

  /** Runs one command and gives what it returned. */
  async execute(command: string, args?: Record<string, unknown>): Promise<unknown> {
    const answer = this.#expect(command);
    this.#socket.write(
      `${JSON.stringify(args === undefined ? { execute: command } : { execute: command, arguments: args })}\n`,
    );
    return await answer;
  }

  close(): void {
    this.#socket.destroy();
  }

  #expect(what: string): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#fail(`no answer to ${what} within ${COMMAND_MS} ms`);
        this.#socket.destroy();
      }, COMMAND_MS);
      this.#waiting.push({
        resolve: (value) => {
          clearTimeout(timer);
          resolve(value);
        },
        reject: (error) => {
          clearTimeout(timer);
          reject(new QmpError(`${what}: ${error.message}`));
        },
      });
    });
  }

  #take(text: string): void {
    this.#buffer += text;
    if (this.#buffer.length > MAX_REPLY_BYTES) this.#breakOff("its answer is too long");
    for (let end = this.#buffer.indexOf("\n"); end >= 0; end = this.#buffer.indexOf("\n")) {
      const line = this.#buffer.slice(0, end);
      this.#buffer = this.#buffer.slice(end + 1);
      const reply = parse(line);
      if (reply === undefined) this.#breakOff("it answers what is no QMP");
      else if (reply.error !== undefined) this.#waiting.shift()?.reject(new Error(describe(reply.error)));
      else if (reply.QMP !== undefined || "return" in reply) this.#waiting.shift()?.resolve(reply.return);
    }
  }

  /** A VMM that was taken over may say anything. */
  #breakOff(why: string): void {
    this.#buffer = "";
    this.#fail(why);
    this.#socket.destroy();
  }

  #fail(why: string): void {
    for (const waiter of this.#waiting.splice(0)) waiter.reject(new Error(why));
  }
}

function describe(error: unknown): string {
  const { desc } = Object(error) as { desc?: unknown };
  return typeof desc === "string" ? desc.slice(0, MAX_REASON) : "it failed without saying how";
}

function parse(line: string): Reply | undefined {
  try {
    const reply: unknown = JSON.parse(line);
    return typeof reply === "object" && reply !== null ? reply : undefined;
  } catch {
    return undefined;
  }
}
