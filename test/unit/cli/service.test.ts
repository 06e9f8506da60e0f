// `pyro workspace service` against a daemon whose answers the test chooses: what is asked for, what is printed where, and
// with which status it ends.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { OutputOf } from "../../../src/operations/table.ts";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { type Conversation, type Home, temporaryHome } from "../client/fake-daemon.ts";
import { daemon, say, start } from "./command-line.ts";

let home: Home;

before(async () => {
  home = await temporaryHome();
});
after(async () => {
  await home[Symbol.asyncDispose]();
});

type Service = OutputOf<"service.status">;

function service(change: Partial<Service> = {}): Service {
  return {
    workspace_id: "ws_abcdefghij",
    service_name: "web",
    state: "running",
    command: ["python3", "server.py"],
    cwd: "/workspace",
    started_at: "2026-01-01T00:00:00Z",
    ready_at: "2026-01-01T00:00:01Z",
    ended_at: null,
    exit_code: null,
    readiness: { type: "tcp", target: "localhost:80", timeout_seconds: 30, interval_ms: 500, last_reason: null },
    stop_reason: null,
    failure: null,
    published_ports: [],
    ...change,
  };
}

function log(change: object = {}): OutputOf<"service.logs"> {
  return {
    workspace_id: "ws_abcdefghij",
    service_name: "web",
    state: "running",
    exit_code: null,
    output: "",
    output_encoding: "utf-8",
    omitted_bytes: 0,
    next_cursor: "c9",
    redacted: false,
    ...change,
  };
}

const failed = {
  code: "SERVICE_FAILED",
  message: "The service web has failed: it exited with 3 before it was ready.",
  hint: "Read the end of its log.",
  retryable: false,
  details: { log_tail: "last \u001b[2Jwords\n" },
};

test("start asks for what was typed, and says what came of it", async () => {
  const asked: [string, unknown][] = [];
  const talk = (one: Conversation) => {
    if (Object(one.head.input).service_name === "bad") return one.json(ToClient.Error, failed);
    one.json(ToClient.Event, { type: "progress", stage: "ready", message: "web is not ready: no", fraction: null });
    one.finish(service());
  };
  await using _fake = await daemon(home, {}, { "service.start": talk }, asked);
  const words = ["--cwd", "src", "--env", "A=1", "--env", "B=2", "--ready-http", "http://localhost/"];
  const times = ["--ready-timeout-seconds", "5", "--ready-interval-ms", "50"];
  const made = await say(home, "ws", "service", "start", "w", "web", ...words, ...times, "--", "python3", "--", "-x");
  assert.deepEqual([made.status, made.stdout], [0, "web running\n"]);
  assert.match(made.stderr, /next: pyro workspace service logs ws_abcdefghij web/);
  assert.deepEqual(asked[0]?.[1], {
    workspace_id: "w",
    service_name: "web",
    cwd: "src",
    env: { A: "1", B: "2" },
    ready_http: "http://localhost/",
    ready_timeout_seconds: 5,
    ready_interval_ms: 50,
    command: ["python3", "--", "-x"],
  });
  const bad = await say(home, "ws", "service", "start", "w", "bad", "--", "x");
  assert.equal(bad.status, 1);
  assert.equal(
    bad.stderr,
    "pyro: The service web has failed: it exited with 3 before it was ready.\n" +
      "      Read the end of its log.\n    | last \\x1b[2Jwords\n",
  );
  const json = await say(home, "ws", "service", "start", "w", "bad", "--json", "--", "x");
  assert.deepEqual([json.status, JSON.parse(json.stdout), json.stderr], [1, { error: failed }, ""]);
});

test("status, list and stop read as a person does", async () => {
  const lost = service({ service_name: "lost", state: "stopped", stop_reason: "workspace_idle", exit_code: 143 });
  const bad = service({
    service_name: "bad",
    state: "failed",
    stop_reason: "not_ready",
    ready_at: null,
    ended_at: "2026-01-01T00:00:09Z",
    failure: { message: "it was not ready within 5 s: no.", log_tail: "tail\n", log_tail_encoding: "utf-8" },
  });
  await using _fake = await daemon(
    home,
    {
      "service.list": () => ({ workspace_id: "w", services: [bad, lost, service()], next_cursor: "web" }),
      "service.status": () => bad,
    },
    { "service.stop": (one) => one.finish(lost) },
  );
  const list = await say(home, "ws", "service", "list", "w");
  assert.match(
    list.stdout,
    /^SERVICE +STATE .*\nbad +failed .*\nlost +stopped: its workspace was stopped as idle .*\nweb +running /,
  );
  assert.match(list.stderr, /--cursor web/);
  const status = await say(home, "ws", "service", "status", "w", "bad");
  assert.match(status.stdout, /^State +failed$/m);
  assert.match(status.stdout, /^Failed +it was not ready within 5 s: no\.\n {4}\| tail$/m);
  const stopped = await say(home, "ws", "service", "stop", "w", "lost");
  assert.deepEqual([stopped.status, stopped.stdout], [0, ""]);
  assert.match(stopped.stderr, /lost stopped: its workspace was stopped as idle/);
});

test("a log is its bytes, stdout and stderr apart; one document, or a line of JSON for each piece", async () => {
  const asked: [string, unknown][] = [];
  const talk = (one: Conversation) => {
    if (Object(one.head.input).max_bytes !== undefined) return one.finish(log({ output: "part\n" }));
    one.output("stdout", 3, Buffer.from([0x61, 0xe6, 0xbc]));
    one.json(ToClient.Event, { type: "gap", dropped_bytes: 7 });
    one.output("stderr", 11, "e");
    one.output("stdout", 12, Buffer.from([0xa2]));
    one.output("stdout", 13, Buffer.from([0xff]));
    one.finish(log({ state: "exited", exit_code: 3 }));
  };
  await using _fake = await daemon(home, {}, { "service.logs": talk }, asked);
  const plain = await say(home, "ws", "service", "logs", "w", "web", "--tail", "5");
  assert.deepEqual(plain.bytes, Buffer.from([0x61, 0xe6, 0xbc, 0xa2, 0xff]));
  assert.equal(plain.stderr, "pyro: 7 bytes of the log were lost.\nepyro: web is exited with 3\n");
  assert.deepEqual(asked[0]?.[1], { workspace_id: "w", service_name: "web", tail: "5" });
  const followed = await say(home, "ws", "service", "logs", "w", "web", "--follow", "--json");
  assert.deepEqual(
    followed.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as unknown),
    [
      { service_name: "web", stream: "stdout", output: "a", output_encoding: "utf-8" },
      { service_name: "web", dropped_bytes: 7 },
      { service_name: "web", stream: "stderr", output: "e", output_encoding: "utf-8" },
      { service_name: "web", stream: "stdout", output: "漢", output_encoding: "utf-8" },
      { service_name: "web", stream: "stdout", output: "/w==", output_encoding: "base64" },
    ],
  );
  const document = await say(home, "ws", "service", "logs", "w", "web", "--json");
  assert.equal((JSON.parse(document.stdout) as { output: string }).output, "part\n");
  assert.equal((await say(home, "ws", "service", "logs", "w", "web", "--max-bytes", "9")).stdout, "part\n");
});

test("following ends with an interrupt, and a reader who has gone ends it too", async () => {
  const talk = async (one: Conversation) => {
    one.output("stdout", 2, "a\n");
    for (let frame = await one.next(); frame !== undefined; frame = await one.next()) {
      if (frame.type === ToDaemon.Control) one.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    }
  };
  await using _fake = await daemon(home, {}, { "service.logs": talk });
  const { child, ended } = start(home, ["ws", "service", "logs", "w", "web", "--follow"]);
  await new Promise((resolve) => child.stdout.once("data", resolve));
  child.kill("SIGINT");
  const { status, stdout, stderr } = await ended;
  assert.deepEqual({ status, stdout, stderr }, { status: 130, stdout: "a\n", stderr: "" });
});

test("a log whose connection breaks goes on from where it was, and tells nothing twice", async () => {
  const resumed: unknown[] = [];
  const talk = (one: Conversation) => {
    resumed.push(one.head.resume);
    if (one.head.resume === undefined) {
      one.output("stdout", 4, "one\n");
      setTimeout(() => one.drop(), 50);
      return;
    }
    one.output("stdout", 4, "one\n");
    one.output("stdout", 8, "two\n");
    one.finish(log());
  };
  await using _fake = await daemon(home, {}, { "service.logs": talk });
  const { stdout, status } = await say(home, "ws", "service", "logs", "w", "web", "--follow");
  assert.deepEqual([stdout, status], ["one\ntwo\n", 0]);
  assert.deepEqual(resumed, [undefined, { cursor: "4", stdin_offset: 0 }]);
});

test("names of services are completed, but for a new one", async () => {
  await using _fake = await daemon(home, {
    "service.list": () => ({ workspace_id: "w", services: [service()], next_cursor: null }),
  });
  const offered = async (...words: string[]) => (await say(home, "__complete", "--", ...words)).stdout;
  assert.equal(await offered("ws", "service", "stop", "w", ""), "web\trunning\n");
  assert.doesNotMatch(await offered("ws", "service", "start", "w", ""), /web/);
});
