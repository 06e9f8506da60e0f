// Firecracker's API: HTTP on a unix socket in the VMM's directory, one request a connection. What answers may have been
// taken over by its guest, so answers are bounded in size and time.
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { connectOwn } from "../socket.ts";

/** A request that changes or tells something takes milliseconds; some tens of times that on a busy machine. */
const REQUEST_MS = 15_000;
const MAX_ANSWER_BYTES = 64 << 10;
/** Longest reason that is passed on, characters. */
const MAX_REASON = 1000;

/** Firecracker refused a request, or does not answer. `refused` tells which. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly refused: boolean;

  constructor(message: string, refused: boolean) {
    super(message);
    this.refused = refused;
  }
}

export type Method = "GET" | "PUT" | "PATCH";

/** One thing to ask for: see Firecracker's own description of its API for what may be. */
export interface Action {
  readonly method: Method;
  readonly path: string;
  readonly body?: Readonly<Record<string, unknown>>;
}

export class Api {
  readonly #socketPath: string;

  constructor(socketPath: string) {
    this.#socketPath = socketPath;
  }

  /** Makes one request and gives what it answered: an object, empty where there was nothing to say. */
  async ask(action: Action, deadlineMs = REQUEST_MS): Promise<Readonly<Record<string, unknown>>> {
    const what = `${action.method} ${action.path}`;
    const socket = await connectOwn(this.#socketPath);
    const deadline = setTimeout(() => {
      socket.destroy(new ApiError(`${what}: no answer within ${deadlineMs} ms`, false));
    }, deadlineMs);
    try {
      const text = action.body === undefined ? undefined : JSON.stringify(action.body);
      const headers = {
        Host: "localhost",
        Accept: "application/json",
        ...(text === undefined
          ? {}
          : { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) }),
      };
      const { method, path } = action;
      const sent = request({ method, path, headers, createConnection: () => socket });
      const { status, body } = await answerTo(sent, text);
      const answer = parse(body);
      if (status >= 200 && status < 300) return answer;
      const { fault_message: fault } = answer;
      const reason = typeof fault === "string" ? fault.slice(0, MAX_REASON) : `status ${status}`;
      throw new ApiError(`${what}: ${reason}`, true);
    } catch (error) {
      if (error instanceof ApiError) throw error;
      throw new ApiError(`${what}: ${(error as Error).message}`, false);
    } finally {
      clearTimeout(deadline);
      socket.destroy();
    }
  }

  /** Makes requests one after the other; the first that fails ends them. */
  async all(actions: readonly Action[]): Promise<void> {
    for (const action of actions) await this.ask(action);
  }
}

function answerTo(sent: ClientRequest, text: string | undefined): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    sent.on("error", reject);
    sent.once("response", (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) sent.destroy(new Error("its answer is too long"));
        else chunks.push(chunk);
      });
      response.once("error", reject);
      response.once("end", () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }));
      response.once("close", () => reject(new Error("the connection closed in the middle of the answer")));
    });
    sent.end(text);
  });
}

function parse(body: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(body);
    return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
