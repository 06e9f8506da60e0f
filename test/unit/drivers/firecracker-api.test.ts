// Firecracker's API and vsock with one that answers what is no answer: a VMM that was taken over is an error of one
// request, not the daemon's end.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Api, ApiError } from "../../../src/drivers/firecracker/api.ts";
import { openVsock } from "../../../src/drivers/firecracker/vsock.ts";

/** A socket at which everyone who connects is served so. */
async function serving(serve: (socket: Socket) => void) {
  const directory = await mkdtemp(join(tmpdir(), "pyro-api-"));
  const path = join(directory, "api.sock");
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    serve(socket);
  });
  await new Promise<void>((resolve) => void server.listen(path, resolve));
  return {
    path,
    [Symbol.asyncDispose]: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
      await rm(directory, { recursive: true });
    },
  };
}

function answering(text: string) {
  return serving((socket) => void socket.once("data", () => socket.write(text)));
}

const json = (status: string, body: string) =>
  `HTTP/1.1 ${status}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;

test("a request says what it wants, and gives what was answered", async () => {
  let asked = "";
  await using server = await serving((socket) => {
    socket.on("data", (chunk: Buffer) => {
      asked += chunk.toString();
      if (asked.endsWith('"Paused"}')) socket.write("HTTP/1.1 204 \r\nServer: Firecracker API\r\n\r\n");
    });
  });
  const api = new Api(server.path);
  assert.deepEqual(await api.ask({ method: "PATCH", path: "/vm", body: { state: "Paused" } }), {});
  assert.match(asked, /^PATCH \/vm HTTP\/1\.1\r\n/);
  assert.match(asked, /content-length: 18\r\n/i);
  await using told = await answering(json("200 OK", '{"state":"Running"}'));
  assert.deepEqual(await new Api(told.path).ask({ method: "GET", path: "/" }), { state: "Running" });
});

for (const [answer, message, refused] of [
  [json("400 Bad Request", '{"fault_message":"no such drive"}'), /^GET \/: no such drive$/, true],
  [json("400 Bad Request", '{"fault_message":{"toString":1}}'), /^GET \/: status 400$/, true],
  [json("500 Oops", "no JSON"), /^GET \/: status 500$/, true],
  [json("400 Bad Request", `{"fault_message":"${"x".repeat(5000)}"}`), /^GET \/: x{1000}$/, true],
  [json("200 OK", "x".repeat(200_000)), /^GET \/: its answer is too long$/, false],
  ["no HTTP\r\n\r\n", /^GET \/: /, false],
  ["HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort", /^GET \/: no answer within 300 ms$/, false],
  ["", /^GET \/: no answer within 300 ms$/, false],
] as const) {
  test(`an API that answers ${JSON.stringify(answer.slice(0, 60))}`, async () => {
    await using server = await answering(answer);
    await assert.rejects(new Api(server.path).ask({ method: "GET", path: "/" }, 300), (error) => {
      assert.ok(error instanceof ApiError, String(error));
      assert.match(error.message, message);
      assert.equal(error.refused, refused);
      return true;
    });
  });
}

test("an API that closes in the middle, or is not there", async () => {
  await using server = await serving((socket) => {
    socket.once("data", () => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nsho"));
  });
  await assert.rejects(new Api(server.path).ask({ method: "GET", path: "/" }), ApiError);
  await assert.rejects(new Api(`${server.path}.not`).ask({ method: "GET", path: "/" }), { code: "ENOENT" });
});

test("a guest port is asked for until somebody listens, and its first bytes are not lost", {
  timeout: 30_000,
}, async () => {
  let asked = 0;
  await using server = await serving((socket) => {
    socket.once("data", (chunk: Buffer) => {
      assert.equal(chunk.toString(), "CONNECT 1024\n");
      // Nobody listens yet: Firecracker closes. Then something that is no answer.
      if (asked++ === 0) return socket.destroy();
      if (asked === 2) return void socket.write(`${"x".repeat(200)}\n`);
      socket.write("OK 107");
      setTimeout(() => socket.write("3741824\nfirst"), 20);
      return undefined;
    });
  });
  const stream = await openVsock(server.path, 1024, AbortSignal.timeout(10_000), () => false);
  assert.equal(asked, 3);
  const first = await new Promise<Buffer>((resolve) => void stream.once("data", resolve).resume());
  assert.equal(first.toString(), "first");
  stream.destroy();
});

test("a guest port that never answers is given up with the signal; one of a VMM that has gone at once", async () => {
  await using silent = await serving(() => {});
  const late = openVsock(silent.path, 1024, AbortSignal.timeout(200), () => false);
  await assert.rejects(late, { name: "TimeoutError" });
  const gone = openVsock(`${silent.path}.not`, 1024, AbortSignal.timeout(10_000), () => true);
  await assert.rejects(gone, /the VMM has gone/);
});
