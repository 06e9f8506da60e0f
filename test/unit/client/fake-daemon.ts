// A server on the daemon's socket that speaks the wire protocol, and badly where a test wants it: faults that a real
// daemon cannot be made to show at will.
import { mkdirSync, rmSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Where, whereFrom } from "../../../src/client/where.ts";
import {
  decodeJson,
  encodeFrame,
  encodeJsonFrame,
  encodeOutputFrame,
  type Frame,
  PROTOCOL,
  type RequestHead,
  readFrames,
  ToClient,
  ToDaemon,
} from "../../../src/wire/protocol.ts";

export interface Home extends AsyncDisposable {
  readonly where: Where;
  readonly directory: string;
}

/** A PYRO_HOME of its own, gone with the test, sockets too. */
export async function temporaryHome(): Promise<Home> {
  const directory = await mkdtemp(join(tmpdir(), "pyro-test-"));
  const where = whereFrom({ ...process.env, PYRO_HOME: directory });
  return {
    where,
    directory,
    [Symbol.asyncDispose]: async () => {
      await rm(directory, { recursive: true, force: true });
      await rm(where.paths.sockets, { recursive: true, force: true });
    },
  };
}

export interface Fake extends AsyncDisposable {
  /** Ends it as a kill would: connections drop, the socket file stays. */
  crash(): Promise<void>;
}

export type Handler = (request: IncomingMessage, response: ServerResponse) => void | Promise<void>;

export async function listen(where: Where, handler: Handler): Promise<Fake> {
  const { control, sockets, daemonSocket } = where.paths;
  mkdirSync(sockets, { recursive: true, mode: 0o711 });
  mkdirSync(control, { recursive: true, mode: 0o700 });
  rmSync(daemonSocket, { force: true });
  const server: Server = createServer((request, response) => {
    request.on("error", () => {});
    response.on("error", () => {});
    Promise.resolve(handler(request, response)).catch(() => response.destroy());
  });
  await new Promise<void>((resolve) => server.listen(daemonSocket, resolve));
  const crash = () =>
    new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
    });
  return { crash, [Symbol.asyncDispose]: crash };
}

export function greet(response: ServerResponse, status = 200, protocol: string = String(PROTOCOL)): void {
  response.writeHead(status, { "pyro-protocol": protocol, "pyro-version": "9.9.9" });
  response.flushHeaders();
}

/** The frames of a request, its head first. */
export class Conversation {
  readonly head: RequestHead;
  readonly #frames: AsyncGenerator<Frame>;
  readonly #response: ServerResponse;

  private constructor(head: RequestHead, frames: AsyncGenerator<Frame>, response: ServerResponse) {
    this.head = head;
    this.#frames = frames;
    this.#response = response;
  }

  static async open(request: IncomingMessage, response: ServerResponse): Promise<Conversation> {
    const frames = readFrames(request);
    const first = await frames.next();
    if (first.done || first.value.type !== ToDaemon.Head) throw new Error("no head");
    greet(response);
    return new Conversation(decodeJson(first.value) as RequestHead, frames, response);
  }

  async next(): Promise<Frame | undefined> {
    const next = await this.#frames.next();
    return next.done ? undefined : next.value;
  }

  json(type: number, value: unknown): void {
    this.#response.write(encodeJsonFrame(type, value));
  }

  output(stream: "stdout" | "stderr", cursor: number, data: Uint8Array | string): void {
    const type = stream === "stdout" ? ToClient.Stdout : ToClient.Stderr;
    this.#response.write(encodeOutputFrame(type, BigInt(cursor), Buffer.from(data)));
  }

  raw(type: number, payload: Uint8Array): void {
    this.#response.write(encodeFrame(type, payload));
  }

  finish(output: unknown): void {
    this.json(ToClient.Output, output);
    this.#response.end();
  }

  /** Bytes that the client has not taken. */
  get waiting(): number {
    return this.#response.writableLength;
  }

  drop(): void {
    this.#response.destroy();
  }
}

/** A run's output as a daemon sends it: without what was streamed. */
export function runOutput(vmId: string, change: Record<string, unknown> = {}): Record<string, unknown> {
  return {
    vm_id: vmId,
    process_id: "proc_1",
    sequence: 1,
    command: ["true"],
    cwd: "/workspace",
    state: "exited",
    exit_code: 0,
    signal: null,
    timed_out: false,
    out_of_memory: false,
    lost_reason: null,
    stdout: "",
    stdout_encoding: "utf-8",
    stdout_truncated: false,
    stderr: "",
    stderr_encoding: "utf-8",
    stderr_truncated: false,
    omitted_bytes: 0,
    next_cursor: "0",
    started_at: "2026-01-01T00:00:00Z",
    duration_ms: 5,
    redacted: false,
    ...change,
  };
}
