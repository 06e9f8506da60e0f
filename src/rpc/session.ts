// Connect calls over one HTTP/2 session on one given byte stream. A leaf.
//
// Why not @connectrpc/connect-node: its session manager's pings throw from a timer after the session was destroyed, and
// it begins to read a response's body so late that Node (24.21) takes a body that arrived in one piece for a premature
// close: Http2Stream.closed is true then, with data still to be read. Here the body flows from the response event on.

import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from "node:http2";
import { type Duplex, PassThrough } from "node:stream";
import type { Transport } from "@connectrpc/connect";
import type { UniversalClientRequest, UniversalClientResponse } from "@connectrpc/connect/protocol";
import { createTransport } from "@connectrpc/connect/protocol-connect";

const AUTHORITY = "http://pyro";
/** An answer is somebody else's and bounded; what is asked is ours, and a file of 16 MiB at most. */
const MAX_MESSAGE_BYTES = 4 << 20;
const MAX_REQUEST_BYTES = 17 << 20;

/** A session ends with its stream, and never comes back: whoever needs it again opens another. */
export class RpcSession {
  readonly transport: Transport;
  /** Resolves when nothing more can be called over it. */
  readonly closed: Promise<void>;
  readonly #http2: ClientHttp2Session;
  readonly #stream: Duplex;

  constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on("error", () => {});
    this.#http2 = connect(AUTHORITY, { createConnection: () => stream, settings: { enablePush: false } });
    this.#http2.on("error", () => {});
    this.closed = new Promise((resolve) => {
      const done = () => {
        this.close();
        resolve();
      };
      this.#http2.once("close", done);
      stream.once("close", done);
    });
    this.transport = createTransport({
      baseUrl: AUTHORITY,
      httpClient: (request) => this.#call(request),
      useBinaryFormat: true,
      interceptors: [],
      acceptCompression: [],
      sendCompression: null,
      compressMinBytes: 0,
      readMaxBytes: MAX_MESSAGE_BYTES,
      writeMaxBytes: MAX_REQUEST_BYTES,
    });
  }

  /** Ends it at once; calls under way reject. Idempotent. */
  close(): void {
    if (!this.#http2.destroyed) this.#http2.destroy();
    this.#stream.destroy();
  }

  async #call(request: UniversalClientRequest): Promise<UniversalClientResponse> {
    request.signal?.throwIfAborted();
    const headers: Record<string, string> = { ":method": request.method, ":path": new URL(request.url).pathname };
    request.header.forEach((value, name) => {
      headers[name] = value;
    });
    const stream = this.#http2.request(headers);
    const { promise, resolve, reject } = Promise.withResolvers<UniversalClientResponse>();
    stream.once("response", (received) => resolve(receive(stream, received)));
    stream.once("error", reject);
    const onAbort = () => {
      reject(request.signal?.reason);
      stream.close(constants.NGHTTP2_CANCEL);
    };
    request.signal?.addEventListener("abort", onAbort, { once: true });
    stream.once("close", () => {
      request.signal?.removeEventListener("abort", onAbort);
      reject(new Error("the session ended before the answer"));
    });
    void send(stream, request.body).catch((error: Error) => stream.destroy(error));
    return await promise;
  }
}

async function send(stream: ClientHttp2Stream, body: AsyncIterable<Uint8Array> | undefined): Promise<void> {
  for await (const chunk of body ?? []) {
    if (stream.destroyed || stream.writableEnded) return;
    if (stream.write(chunk)) continue;
    await new Promise<void>((resolve) => {
      stream.once("drain", resolve);
      stream.once("close", resolve);
    });
  }
  stream.end();
}

function receive(stream: ClientHttp2Stream, received: IncomingHttpHeaders): UniversalClientResponse {
  const body = new PassThrough();
  const trailer = new Headers();
  stream.on("trailers", (late: IncomingHttpHeaders) => copyHeaders(late, trailer));
  stream.on("error", (error) => body.destroy(error));
  stream.on("close", () => {
    if (stream.readableEnded) return;
    body.destroy(new Error("the session ended in the middle of an answer"));
  });
  // A reader that stops early must end the call, or the other side would go on sending.
  body.on("close", () => stream.destroy());
  body.on("error", () => {});
  stream.pipe(body);
  return { status: Number(received[":status"] ?? 0), header: copyHeaders(received, new Headers()), body, trailer };
}

function copyHeaders(from: IncomingHttpHeaders, to: Headers): Headers {
  for (const [name, value] of Object.entries(from)) {
    if (name.startsWith(":") || value === undefined) continue;
    for (const one of Array.isArray(value) ? value : [value]) to.append(name, one);
  }
  return to;
}
