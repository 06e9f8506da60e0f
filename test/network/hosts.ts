// The hosts of the tests' internet: a program that runs in a network namespace of a test's, and serves names, pages, a
// package index, a git repository and large files there. Run as: node hosts.ts DIRECTORY, with its plan on stdin.
import { spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { appendFileSync, readFileSync } from "node:fs";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import { createServer as createTlsServer } from "node:https";
import { createServer as createTcpServer } from "node:net";
import { join } from "node:path";
import { api } from "./api.ts";
import { answerQuery } from "./dns.ts";

export interface Plan {
  /** Where it listens: names on port 53 of the first, pages on 80 and 443 of all. */
  readonly addresses: readonly string[];
  /** Addresses of a name; of several lists each question gets the next, the last for ever. */
  readonly names: Readonly<Record<string, readonly (readonly string[])[]>>;
  /** PEM, for HTTPS; none without. */
  readonly key?: string;
  readonly certificate?: string;
}

/** In the directory: a line for each request that came (internet.ts reads it). */
const ASKED = "asked.jsonl";
/** What lies below it is served to whoever gives a name and a password. */
const LOCKED = "/locked";

const [directory = "."] = process.argv.slice(2);
const plan = JSON.parse(readFileSync(0, "utf8")) as Plan;
const asked = new Map<string, number>();

const names = createSocket("udp4");
names.on("message", (message, from) => {
  const answer = answerQuery(message, (name, first) => {
    const lists = plan.names[name];
    if (lists === undefined) return undefined;
    const count = (asked.get(name) ?? 0) + Number(first);
    asked.set(name, count);
    return lists[Math.min(Math.max(count - 1, 0), lists.length - 1)];
  });
  if (answer !== undefined) names.send(answer, from.port, from.address);
});

function serve(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? "/", "http://host");
  const { host = "", authorization = "" } = request.headers;
  appendFileSync(join(directory, ASKED), `${JSON.stringify({ host, path: request.url, authorization })}\n`);
  if (url.pathname.startsWith(LOCKED)) {
    if (authorization === "") {
      response.writeHead(401, { "www-authenticate": "Basic" }).end();
      return;
    }
    url.pathname = url.pathname.slice(LOCKED.length);
  }
  if (url.pathname.startsWith("/api/")) api(request, response, url);
  else if (url.pathname.startsWith("/git/")) git(request, response, url);
  else if (url.pathname.startsWith("/bytes/")) bytes(response, Number(url.pathname.slice(7)));
  else if (/^\/(simple|npm|files)\//.test(url.pathname)) file(response, url.pathname);
  else response.end(`hello from ${request.headers.host}\n`);
}

/** So many bytes, as fast as they are taken. */
function bytes(response: ServerResponse, count: number): void {
  response.setHeader("content-length", count);
  const block = Buffer.alloc(256 << 10, "x");
  let left = count;
  const more = () => {
    while (left > 0) {
      const piece = block.subarray(0, Math.min(left, block.length));
      left -= piece.length;
      if (!response.write(piece)) {
        response.once("drain", more);
        return;
      }
    }
    response.end();
  };
  more();
}

function file(response: ServerResponse, path: string): void {
  try {
    const name = path.endsWith("/") ? `${path}index.html` : path;
    response.setHeader("content-type", name.endsWith(".html") ? "text/html" : "application/octet-stream");
    response.end(readFileSync(join(directory, name)));
  } catch {
    response.statusCode = 404;
    response.end();
  }
}

/** git's own program for serving a repository over HTTP, as a CGI. */
function git(request: IncomingMessage, response: ServerResponse, url: URL): void {
  const child = spawn("git", ["http-backend"], {
    env: {
      ...process.env,
      GIT_PROJECT_ROOT: directory,
      GIT_HTTP_EXPORT_ALL: "1",
      GIT_CONFIG_COUNT: "1",
      GIT_CONFIG_KEY_0: "safe.directory",
      GIT_CONFIG_VALUE_0: "*",
      PATH_INFO: url.pathname,
      QUERY_STRING: url.search.slice(1),
      REQUEST_METHOD: request.method ?? "GET",
      CONTENT_TYPE: request.headers["content-type"] ?? "",
      HTTP_CONTENT_ENCODING: request.headers["content-encoding"] ?? "",
      GIT_PROTOCOL: String(request.headers["git-protocol"] ?? ""),
    },
    stdio: ["pipe", "pipe", "inherit"],
  });
  request.pipe(child.stdin);
  let head = Buffer.alloc(0);
  let told = false;
  child.stdout.on("data", (chunk: Buffer) => {
    if (told) {
      response.write(chunk);
      return;
    }
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    told = true;
    for (const line of head.toString("latin1", 0, end).split("\r\n")) {
      const [name = "", value = ""] = line.split(/:\s*(.*)/s);
      if (name.toLowerCase() === "status") response.statusCode = Number.parseInt(value, 10);
      else response.setHeader(name, value);
    }
    response.write(head.subarray(end + 4));
  });
  child.once("close", () => response.end());
}

const listening = [
  new Promise<void>((resolve) => names.bind(53, plan.addresses[0], () => resolve())),
  // What is said there comes back; at every address, the private one too.
  new Promise<void>((resolve) =>
    createTcpServer((socket) => socket.on("error", () => {}).pipe(socket)).listen(7, "0.0.0.0", 4096, resolve),
  ),
];
const { key, certificate: cert } = plan;
for (const address of plan.addresses) {
  listening.push(new Promise<void>((resolve) => createServer(serve).listen(80, address, 4096, resolve)));
  if (key === undefined || cert === undefined) continue;
  listening.push(
    new Promise<void>((resolve) => createTlsServer({ key, cert }, serve).listen(443, address, 4096, resolve)),
  );
}
await Promise.all(listening);
process.stdout.write("ready\n");
