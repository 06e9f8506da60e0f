// HTTP on the unix socket: routes a request to its operation, checks protocol and input, turns errors into replies.

import { unlink } from "node:fs/promises";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { type Engine, removeSocketDirectories } from "../engine/engine.ts";
import type { Paths } from "../engine/paths.ts";
import { PyroError } from "../errors/error.ts";
import { installation } from "../host/installation.ts";
import { log, logLevel } from "../log/log.ts";
import { parseInput, unknownKeys } from "../operations/check.ts";
import { OPERATIONS, type OperationName } from "../operations/table.ts";
import { type DaemonStatus, PROTOCOL, type RequestHead, ToClient, ToDaemon } from "../wire/protocol.ts";
import { STREAMING, UNARY } from "./dispatch.ts";
import { readHead } from "./frames.ts";
import { checkState } from "./legality.ts";
import { Redaction } from "./redaction.ts";
import { Reply, Requests } from "./stream.ts";

/** Largest body of a row that does not stream, bytes: a file of 16 MiB as base64, and what is said beside it. */
const MAX_BODY_BYTES = 24 << 20;

/** How long a caller who asks to stop waits for the engine, and the last replies have to get out, ms. */
const STOP_MS = 10_000;
const CLOSE_MS = 1000;
/** How long a client that has been sent its answer may go on sending, ms. */
const LINGER_MS = 2000;

export interface Server {
  close(): Promise<void>;
}

/** Serves until closed, or until somebody asks to stop: `stop` ends the engine, the reply comes after it. */
export async function serve(paths: Paths, engine: Engine, stop: () => Promise<void>): Promise<Server> {
  const startedAt = new Date().toISOString();
  const status = (): DaemonStatus => ({
    version: installation().version,
    pid: process.pid,
    socket: paths.daemonSocket,
    log: paths.log,
    log_level: logLevel(),
    started_at: startedAt,
    vm_count: engine.runs.running + engine.workspaces.live.length,
    workspace_vm_count: engine.workspaces.live.length,
    pool: { size: engine.pool.size, ready: engine.pool.ready },
  });
  const close = async () => {
    await new Promise<void>((resolve) => {
      server.close(() => resolve());
      server.closeIdleConnections();
      setTimeout(() => server.closeAllConnections(), CLOSE_MS).unref();
    });
    await removeSocketDirectories(paths);
    log("stopped");
  };
  const server = createServer(
    { requestTimeout: 0, headersTimeout: 10_000, keepAliveTimeout: 1000 },
    (request, response) => {
      response.setHeader("pyro-protocol", PROTOCOL);
      response.setHeader("pyro-version", installation().version);
      route(engine, status, stop, () => void close(), request, response).catch((thrown: unknown) => {
        const error = PyroError.from(thrown);
        if (error.code === "INTERNAL") log(`${request.url}: ${(thrown as Error).stack ?? error.message}`, "error");
        replyError(response, error);
      });
    },
  );
  // The lock is ours, so a socket that is there is a dead daemon's.
  await unlink(paths.daemonSocket).catch(() => {});
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(paths.daemonSocket, resolve);
  });
  return { close };
}

async function route(
  engine: Engine,
  status: () => DaemonStatus,
  stop: () => Promise<void>,
  close: () => void,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const route = `${request.method} ${request.url}`;
  const began = performance.now();
  response.once("close", () => {
    const how = response.writableFinished ? response.statusCode : "caller gone";
    log(`${route}: ${how} after ${Math.round(performance.now() - began)} ms`, "debug");
  });
  // Status and stop answer whatever the protocol: they are the way out of a mismatch.
  if (route === "GET /v1/status") return replyJson(response, status());
  if (route === "POST /v1/stop") {
    request.resume();
    const stopped = stop();
    await Promise.race([stopped, sleep(STOP_MS, undefined, { ref: false })]).catch(() => {});
    response.once("close", close);
    response.setHeader("connection", "close");
    return replyJson(response, {});
  }
  if (request.headers["pyro-protocol"] !== String(PROTOCOL)) {
    throw new PyroError(
      "DAEMON_INCOMPATIBLE",
      `This daemon is pyro ${installation().version}, protocol ${PROTOCOL}; the caller speaks protocol ${request.headers["pyro-protocol"] ?? "none"}.`,
    );
  }
  const name = /^POST \/v1\/([a-z_.]+)$/.exec(route)?.[1];
  if (name === undefined || !isOperation(name))
    throw new PyroError("UNKNOWN_OPERATION", `There is no operation ${route}.`);
  if (name in STREAMING) await stream(engine, name as keyof typeof STREAMING, request, response);
  else await unary(engine, name as keyof typeof UNARY, request, response);
}

async function unary(
  engine: Engine,
  name: keyof typeof UNARY,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const input = checkedInput(name, await readJson(request));
  checkState(engine.workspaces, name, input);
  const gone = whenGone(response);
  const handler = UNARY[name] as (engine: Engine, input: unknown, signal: AbortSignal) => Promise<unknown>;
  const redaction = new Redaction(engine, input);
  try {
    replyJson(response, redaction.told(await handler(engine, input, gone)));
  } catch (thrown) {
    throw redaction.error(thrown);
  }
}

async function stream(
  engine: Engine,
  name: keyof typeof STREAMING,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const gone = whenGone(response);
  const requests = new Requests(request);
  const first = await requests.next();
  if (first?.type !== ToDaemon.Head)
    throw new PyroError("INVALID_INPUT", "The first frame must be the request's head.");
  const head = readHead(first);
  const redaction = new Redaction(engine, head.input);
  const reply = new Reply(response, (value) => redaction.told(value));
  try {
    const input = checkedInput(name, head.input);
    checkState(engine.workspaces, name, input);
    const handler = STREAMING[name] as (
      engine: Engine,
      input: unknown,
      head: RequestHead,
      requests: Requests,
      reply: Reply,
      signal: AbortSignal,
    ) => Promise<void>;
    await handler(engine, input, head, requests, reply, gone);
  } catch (thrown) {
    const error = redaction.error(thrown);
    if (error.code === "INTERNAL") log(`${name}: ${error.stack ?? error.message}`, "error");
    await reply.json(ToClient.Error, error.toData());
  } finally {
    await hearOut(request);
    reply.end();
  }
}

/**
 * What the client still sends has no reader any more, but is read: a socket that is closed with bytes unread takes the
 * answer with it. A client that has its answer closes.
 */
async function hearOut(request: IncomingMessage): Promise<void> {
  request.resume();
  if (request.complete || request.destroyed) return;
  const over = new AbortController();
  const closed = new Promise<void>((resolve) => request.once("close", resolve));
  await Promise.race([closed, sleep(LINGER_MS, undefined, { signal: over.signal }).catch(() => {})]);
  over.abort();
}

function checkedInput(name: OperationName, value: unknown): unknown {
  const row = OPERATIONS[name];
  const [surplus] = unknownKeys(row, value);
  if (surplus === undefined) return parseInput(row, value);
  // Every face has refused what its own row does not have, so this one's row has more than ours.
  throw new PyroError(
    "DAEMON_INCOMPATIBLE",
    `This daemon is pyro ${installation().version}, and its ${name} knows no ${surplus}.`,
  );
}

function isOperation(name: string): name is OperationName {
  return Object.hasOwn(OPERATIONS, name);
}

/** Aborts when the caller's connection closes before the reply is complete. */
function whenGone(response: ServerResponse): AbortSignal {
  const controller = new AbortController();
  response.once("close", () => {
    if (!response.writableFinished) controller.abort(new PyroError("CANCELLED", "The caller has gone."));
  });
  return controller.signal;
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MAX_BODY_BYTES)
      throw new PyroError("INVALID_INPUT", `The input is longer than ${MAX_BODY_BYTES} bytes.`);
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString("utf8"));
  } catch {
    throw new PyroError("INVALID_INPUT", "The input is not JSON.");
  }
}

function replyJson(response: ServerResponse, value: unknown): void {
  response.setHeader("content-type", "application/json");
  response.end(JSON.stringify(value));
}

function replyError(response: ServerResponse, error: PyroError): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.statusCode = error.code === "DAEMON_INCOMPATIBLE" ? 409 : error.code === "INTERNAL" ? 500 : 400;
  replyJson(response, { error: error.toData() });
}
