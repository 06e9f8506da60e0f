// A real daemon against what no client of pyro's own does: frames that are none, and a fault outside every call. And
// what it says of itself.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { join } from "node:path";
import { buffer } from "node:stream/consumers";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { ErrorData } from "../../src/errors/error.ts";
import { newVmId } from "../../src/wire/ids.ts";
import {
  type DaemonStatus,
  decodeJson,
  encodeFrame,
  encodeJsonFrame,
  PROTOCOL,
  readFrames,
  ToClient,
  ToDaemon,
} from "../../src/wire/protocol.ts";
import { type OwnHome, ownHome, pyro, ROOT, runOk, startPyro } from "./harness.ts";

const HEAD = { attached: true, stdin_closed: true };

interface Talk {
  readonly request: ClientRequest;
  readonly reply: Promise<IncomingMessage>;
}

function talk(home: OwnHome, first: Buffer): Talk {
  const headers = { "pyro-protocol": PROTOCOL, "pyro-version": "0.0.0" };
  const made = request({ socketPath: home.paths.daemonSocket, method: "POST", path: "/v1/run", headers });
  const reply = once(made, "response").then(([head]) => head as IncomingMessage);
  made.on("error", () => {});
  made.write(first);
  return { request: made, reply };
}

/** The error that a reply ends with, as a frame or as a body. Fails when there is none within 20 s. */
async function errorOf(reply: IncomingMessage): Promise<ErrorData> {
  const timer = setTimeout(() => reply.destroy(new Error("no error within 20 s")), 20_000);
  try {
    if (reply.statusCode !== 200) {
      const body = await buffer(reply);
      return (JSON.parse(body.toString()) as { error: ErrorData }).error;
    }
    for await (const frame of readFrames(reply)) {
      if (frame.type === ToClient.Error) return decodeJson(frame) as ErrorData;
    }
    throw new Error("it ended without an error");
  } finally {
    clearTimeout(timer);
  }
}

test("a head that is none is INVALID_INPUT, a control that is none ends its run with it, and the daemon goes on", {
  timeout: 180_000,
}, async () => {
  await using home = await ownHome({ templates: true });
  await runOk(["--", "true"], { env: home.env });
  const input = { command: ["sleep", "600"] };
  const resume = { cursor: "not a number", stdin_offset: 0 };
  const heads = [
    encodeFrame(ToDaemon.Head, Buffer.from("{")),
    encodeJsonFrame(ToDaemon.Head, null),
    encodeJsonFrame(ToDaemon.Head, { ...HEAD, input, resume }),
    encodeJsonFrame(ToDaemon.Head, { ...HEAD, input, resume: { cursor: "0", stdin_offset: 1.5 } }),
  ];
  for (const head of heads) {
    const { request: sent, reply } = talk(home, head);
    const error = await errorOf(await reply);
    assert.equal(error.code, "INVALID_INPUT", error.message);
    sent.destroy();
  }
  for (const control of ["{", "null", '{"type":"signal"}']) {
    const { request: sent, reply } = talk(
      home,
      encodeJsonFrame(ToDaemon.Head, { ...HEAD, stdin_closed: false, vm_id: newVmId(), input }),
    );
    // One that only a newer client has is passed over.
    sent.write(encodeJsonFrame(ToDaemon.Control, { type: "of-tomorrow" }));
    sent.write(encodeFrame(ToDaemon.Control, Buffer.from(control)));
    const error = await errorOf(await reply);
    assert.equal(error.code, "INVALID_INPUT", `${control}: ${error.message}`);
    sent.destroy();
  }
  assert.equal(await runOk(["--", "echo", "on"], { env: home.env }), "on\n");
  const log = await readFile(home.paths.log, "utf8");
  assert.doesNotMatch(log, /unhandled|INTERNAL/);
});

test("a fault outside every call is logged and ends the daemon; the next takes up what runs, and no byte is lost", {
  timeout: 240_000,
}, async () => {
  await using home = await ownHome({ templates: true });
  await pyro(["daemon", "stop"], { env: home.env });
  // The real daemon, started as a client starts it, with a fault that comes when it is told.
  const fault = "process.on('SIGUSR2', () => { throw new Error('a stray fault'); })";
  const main = [process.execPath, "--import", `data:text/javascript,${encodeURIComponent(fault)}`];
  const daemon = spawn("flock", ["--no-fork", home.paths.daemonLock, ...main, join(ROOT, "dist", "daemon.js")], {
    env: { ...process.env, ...home.env },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const ended = once(daemon, "close");
  let said = "";
  daemon.stderr.on("data", (chunk: Buffer) => {
    said += chunk;
  });
  while (!said.includes("serving on")) await sleep(50);
  const script =
    "echo started >>/workspace/log; for i in $(seq 40); do echo line $i; sleep 0.1; done; wc -l </workspace/log";
  const run = startPyro(["run", "--", "sh", "-c", script], { env: home.env });
  await run.untilOutput("line 3\n");
  assert.equal(await home.pid(), daemon.pid);
  daemon.kill("SIGUSR2");
  const [how, { status, stdout, stderr }] = await Promise.all([ended, run.finished]);
  assert.deepEqual(how, [1, null]);
  assert.match(said, /^\S+Z \d+ error uncaught, ending: Error: a stray fault\n {4}at /m);
  const lines = Array.from({ length: 40 }, (_, index) => `line ${index + 1}\n`).join("");
  assert.equal(stdout.toString(), `${lines}1\n`, stderr.toString());
  assert.equal(status, 0);
  assert.notEqual(await home.pid(), daemon.pid);
});

test("its status says how much its log holds", { timeout: 120_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const env = { ...home.env, PYRO_LOG: "debug" };
  await runOk(["--", "true"], { env });
  const { stdout } = await pyro(["daemon", "status", "--json"], { env });
  const status = JSON.parse(stdout.toString()) as DaemonStatus;
  assert.equal(status.log_level, "debug");
  const shown = (await pyro(["daemon", "status"], { env })).stdout.toString();
  assert.ok(shown.includes(`\nlog       ${status.log} (level debug)\n`), shown);
});

test("a guest whose memory runs out: 137, and the result says why", { timeout: 120_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const eat = ["run", "--mem-mib", "256", "--no-stdin", "--", "tail", "/dev/zero"];
  const told = await pyro(eat, { env: home.env });
  assert.equal(told.status, 137, told.stderr.toString());
  assert.match(told.stderr.toString(), /^pyro: the guest's memory ran out.*--mem-mib gives more\.$/m);
  const { stdout } = await pyro([...eat.slice(0, 1), "--json", ...eat.slice(1)], { env: home.env });
  const { out_of_memory, signal } = JSON.parse(stdout.toString()) as Record<string, unknown>;
  assert.deepEqual({ out_of_memory, signal }, { out_of_memory: true, signal: "SIGKILL" });
});
