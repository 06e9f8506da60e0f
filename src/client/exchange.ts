// One HTTP exchange with the daemon over a socket that is open already, with the handshake of versions.
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import type { Socket } from "node:net";
import { CODES } from "../errors/codes.ts";
import { type ErrorData, PyroError } from "../errors/error.ts";
import { installation } from "../host/installation.ts";
import { PROTOCOL } from "../wire/protocol.ts";

const MAX_REPLY_BYTES = 64 << 20;

/** The connection ended, or was silent too long, before the answer was whole. Never leaves src/client. */
export class Broken extends Error {
  override readonly name = "Broken";
}

export interface Exchange {
  readonly request: ClientRequest;
  /** Resolves with the reply's head. Rejects with Broken, or PyroError DAEMON_INCOMPATIBLE. */
  readonly reply: Promise<IncomingMessage>;
}

/** Sends the head; the caller writes the body to `request` and ends it. */
export function exchange(
  socket: Socket,
  method: "GET" | "POST",
  path: string,
  headMs: number,
  protocol: number = PROTOCOL,
): Exchange {
  // Without an agent the socket belongs to this exchange alone and nothing stays behind to keep Node alive.
  const sent = request({
    createConnection: () => socket,
    method,
    path,
    headers: { host: "pyro", "pyro-protocol": String(protocol), "pyro-version": installation().version },
  });
  const reply = new Promise<IncomingMessage>((resolve, reject) => {
    const timer = setTimeout(() => sent.destroy(new Broken(`no answer within ${headMs} ms`)), headMs);
    sent.on("error", (error) => {
      clearTimeout(timer);
      reject(error instanceof Broken ? error : new Broken(error.message, { cause: error }));
    });
    sent.once("close", () => {
      clearTimeout(timer);
      reject(new Broken("the connection ended without an answer"));
    });
    sent.once("response", (head) => {
      clearTimeout(timer);
      head.on("error", () => {});
      resolve(head);
    });
  });
  reply.catch(() => {});
  return { request: sent, reply };
}

/** Errors: DAEMON_INCOMPATIBLE when the other side speaks another protocol, or none. */
export function checkProtocol(head: IncomingMessage): void {
  const theirs = head.headers["pyro-protocol"];
  if (theirs === String(PROTOCOL)) return;
  const version = head.headers["pyro-version"];
  const who = typeof version === "string" ? `The daemon is pyro ${version}` : "What answers is no pyro daemon";
  const speaks = typeof theirs === "string" ? ` and speaks protocol ${theirs}` : "";
  throw new PyroError(
    "DAEMON_INCOMPATIBLE",
    `${who}${speaks}; this is pyro ${installation().version}, protocol ${PROTOCOL}.`,
    {
      details: { protocol: theirs ?? null, version: version ?? null },
    },
  );
}

/** The whole body as JSON. Rejects with Broken when it stops, is silent for `idleMs`, or is no JSON. */
export async function readJson(head: IncomingMessage, idleMs: number): Promise<unknown> {
  const chunks: Buffer[] = [];
  let size = 0;
  head.setTimeout(idleMs, () => head.destroy(new Broken(`silent for ${idleMs} ms`)));
  try {
    for await (const chunk of head as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MAX_REPLY_BYTES) throw new Broken(`a reply of more than ${MAX_REPLY_BYTES} bytes`);
      chunks.push(chunk);
    }
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch (thrown) {
    if (thrown instanceof Broken) throw thrown;
    throw new Broken(thrown instanceof Error ? thrown.message : String(thrown), { cause: thrown });
  }
}

/** Makes an error of what the daemon sent as one, whatever it is. */
export function errorFrom(value: unknown): PyroError {
  const data = value as Partial<ErrorData> | null | undefined;
  if (typeof data !== "object" || data === null || typeof data.code !== "string" || typeof data.message !== "string") {
    return new PyroError("INTERNAL", "The daemon failed without saying how.", { details: { reply: value } });
  }
  const known = Object.hasOwn(CODES, data.code);
  return PyroError.fromData({
    code: known ? data.code : "INTERNAL",
    message: data.message,
    hint: typeof data.hint === "string" ? data.hint : CODES[known ? data.code : "INTERNAL"].hint,
    retryable: data.retryable === true,
    details: typeof data.details === "object" && data.details !== null ? data.details : {},
  });
}

/** What a caller gets to see of a broken exchange. */
export function brokenToError(thrown: unknown, socketPath: string): unknown {
  if (!(thrown instanceof Broken)) return thrown;
  return new PyroError("DAEMON_UNREACHABLE", `The daemon at ${socketPath} did not answer: ${thrown.message}.`, {
    cause: thrown,
  });
}
