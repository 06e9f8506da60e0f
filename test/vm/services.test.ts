// Services in a real microVM, from all three faces: ready by what they were told, followed, stopped; what fails, with its
// reason; and what is left of them when something else ends.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro, PyroError } from "pyro-mcp";
import type { OutputOf } from "../../src/operations/table.ts";
import { told } from "./faulty.ts";
import { PYRO, pyro, sharedHome } from "./harness.ts";
import { pushPrograms, Services, server } from "./services.ts";
import { type LogEntry, scratch, type Workspace, Workspaces } from "./workspaces.ts";

const all = new Workspaces();
let workspace: Workspace;
let services: Services;

before(async () => {
  workspace = await all.create();
  services = new Services(all, workspace.id);
  await pushPrograms(workspace);
});

after(async () => {
  await workspace[Symbol.asyncDispose]();
});

/** How many processes of the guest have these words in their command line. */
async function running(words: string): Promise<number> {
  return Number((await workspace.exec(["pgrep", "-f", "-c", words])).stdout.toString());
}

test("from the command line: a server, ready by HTTP, asked, followed and stopped", { timeout: 240_000 }, async () => {
  const made = await services.start("web", ["--ready-http", "http://localhost:8000/moved"], server(8000, 1));
  const { readiness, ready_at, published_ports } = made;
  assert.deepEqual([made.state, made.stop_reason, published_ports], ["running", null, []]);
  assert.deepEqual([readiness?.type, readiness?.target], ["http", "http://localhost:8000/moved"]);
  assert.ok(Date.parse(ready_at ?? "") >= Date.parse(made.started_at) + 900, `${made.started_at} ${ready_at}`);

  const followed = all.start(services.words("logs", ["web", "--follow", "--json"]));
  assert.equal(await workspace.ok(["python3", "client.py", "8000", "/from-a-command"]), "hello\n");
  await followed.untilOutput("/from-a-command");

  const counts = await workspace.status();
  assert.deepEqual([counts.service_count, counts.running_service_count], [1, 1]);
  const again = await services.finish("start", ["web", "--", "true"]);
  assert.equal(again.status, 1);
  assert.match(again.stderr.toString(), /^pyro: The service web is running in .*\n.*service stop/);

  const stopped = await services.stop("web");
  assert.deepEqual([stopped.state, stopped.stop_reason, stopped.exit_code], ["stopped", "requested", 0]);
  assert.deepEqual(await services.stop("web"), stopped, "one that has ended stays as it is");
  const { status, stdout } = await followed.finished;
  assert.equal(status, 0);
  const lines = stdout.toString().trimEnd().split("\n");
  const pieces = lines.map((line) => JSON.parse(line) as { stream: string; output: string; service_name: string });
  const text = pieces.map(({ output }) => output).join("");
  assert.match(
    text,
    /^starting\nlistening\nasked: GET \/moved HTTP\/1\.1\n.*asked: GET \/from-a-command .*\ngoing down\n$/s,
  );
  assert.ok(pieces.every(({ stream, service_name }) => stream === "stdout" && service_name === "web"));
  assert.equal(await services.log("web"), text);
  const tail = await services.finish("logs", ["web", "--tail", "1"]);
  assert.deepEqual([tail.stdout.toString(), tail.status], ["going down\n", 0]);
  assert.match(tail.stderr.toString(), /web is stopped/);
  const after = await workspace.status();
  assert.deepEqual([after.service_count, after.running_service_count], [1, 0]);
  assert.equal(await running("server.py 8000"), 0);
});

test("from the SDK: ready by TCP, by a file, by a command; a handle that follows and stops", {
  timeout: 240_000,
}, async () => {
  await using client = new Pyro({ home: sharedHome() });
  const handle = client.workspace(workspace.id);
  const seen: string[] = [];
  const web = await handle.service.start(
    { serviceName: "sdk-web", command: server(8001, 1), readyTcp: "localhost:8001", readyIntervalMs: 100 },
    { onEvent: (event) => seen.push(event.message) },
  );
  assert.equal(web.started?.state, "running");
  assert.match(seen.join("\n"), /sdk-web is not ready: localhost:8001: connection refused/);
  assert.equal((await handle.exec(["python3", "client.py", "8001", "/sdk"])).stdout, "hello\n");
  const followed: string[] = [];
  const loop = (async () => {
    for await (const { stream, data } of web.logs({ follow: true, tail: "all" })) {
      followed.push(`${stream} ${Buffer.from(data)}`);
    }
  })();
  const part = await web.logs({ tail: 1 });
  assert.match(part.output, /^asked: GET \/sdk HTTP\/1\.0\n$/);
  assert.equal((await web.stop()).state, "stopped");
  await loop;
  assert.match(followed.join(""), /starting.*GET \/sdk.*going down/s);
  const rest = await web.logs({ cursor: part.nextCursor });
  assert.equal(rest.output, "going down\n");
  assert.equal((await web.logs({ cursor: rest.nextCursor })).output, "");

  // A string is run by a shell, with variables; both sides of readiness see the same directory.
  const file = await handle.service.start({
    serviceName: "file",
    command: "sleep 1; echo here >ready; exec sleep 1000",
    cwd: "/tmp",
    readyFile: "/tmp/ready",
    readyIntervalMs: 50,
  });
  assert.equal(file.started?.readiness?.type, "file");
  const command = await handle.service.start({
    serviceName: "command",
    command: ["sleep", "1000"],
    cwd: "/tmp",
    env: { WORD: "here" },
    readyCommand: 'grep -qx "$WORD" ready',
  });
  const plain = await handle.service.start({ serviceName: "plain", command: ["sleep", "1000"] });
  assert.deepEqual([plain.started?.state, plain.started?.readiness], ["running", null]);
  const { services: listed } = await handle.service.list({ limit: 2 });
  assert.deepEqual(
    listed.map(({ serviceName }) => serviceName),
    ["command", "file"],
  );
  const names: string[] = [];
  for await (const one of handle.service.list({ limit: 2 })) names.push(one.serviceName);
  assert.deepEqual(names, ["command", "file", "plain", "sdk-web", "web"]);
  // A list is read like any other; and what the shell kills no grace time is waited for.
  for (const one of [file, command, plain]) assert.equal((await one.stop()).exitCode, 143);

  const controller = new AbortController();
  const started = handle.service.start(
    { serviceName: "aborted", command: ["sleep", "1000"], readyFile: "never" },
    { signal: controller.signal, onEvent: () => controller.abort(new Error("enough")) },
  );
  await assert.rejects(started, /enough/);
  const aborted = await handle.service.get("aborted").status();
  assert.deepEqual([aborted.state, aborted.stopReason], ["stopped", "cancelled"]);
  await assert.rejects(handle.service.get("nobody").status(), { code: "SERVICE_NOT_FOUND" });
});

test("over MCP: started within the wait, watched on, read by cursors, stopped", { timeout: 240_000 }, async () => {
  const client = new Client({ name: "test", version: "1" });
  const env = { PATH: process.env.PATH ?? "", TMPDIR: process.env.TMPDIR ?? "/tmp", PYRO_HOME: sharedHome() };
  const args = [PYRO, "mcp", "serve", "--profile", "workspace-full"];
  await client.connect(new StdioClientTransport({ command: process.execPath, args, env, stderr: "inherit" }));
  type Json = Record<string, unknown>;
  const workspace_id = workspace.id;
  const ask = async (name: string, more: Json, isError = false): Promise<Json> => {
    const result = await client.callTool({ name, arguments: { workspace_id, ...more } });
    const size = Buffer.byteLength(JSON.stringify(result));
    assert.ok(size <= 9500, `${name}: ${size} bytes`);
    assert.equal(result.isError === true, isError, JSON.stringify(result.content));
    const [text] = result.content as { text: string }[];
    assert.doesNotMatch(text?.text ?? "", /\bpyro [a-z-]/);
    const said = JSON.parse(text?.text ?? "") as Json;
    return isError ? (said.error as Json) : said;
  };
  try {
    const service_name = "mcp";
    const http = { ready_http: "http://127.0.0.1:8002/", command: server(8002, 3).join(" ") };
    const began = await ask("service_start", { service_name, ...http, wait_seconds: 0 });
    assert.equal(began.state, "starting");
    const ready = await ask("service_status", { service_name });
    assert.deepEqual([ready.state, ready.failure], ["running", null]);
    const asked = await ask("workspace_exec", { command: "python3 client.py 8002 60 | wc -l" });
    assert.equal(asked.stdout, "60\n");

    // Lines of the log through results that are small: none is lost, none comes twice.
    let log = "";
    let cursor: unknown;
    for (let turn = 0; turn < 30; turn++) {
      const page = await ask(
        "service_logs",
        cursor === undefined ? { service_name, tail: "all" } : { service_name, cursor },
      );
      if (turn === 0) {
        // The end of it was asked for: from there on.
        assert.ok(Number(String(page.next_cursor).slice(1)) > 8000);
        const begin = await ask("service_logs", { service_name, cursor: "c0" });
        log = String(begin.output);
        cursor = begin.next_cursor;
        continue;
      }
      if (page.output === "") break;
      log += String(page.output);
      cursor = page.next_cursor;
    }
    const numbers = [...log.matchAll(/^asked: GET \/(\d+)\/x{300} HTTP/gm)].map(([, number]) => Number(number));
    assert.deepEqual(
      numbers,
      Array.from({ length: 60 }, (_, index) => index + 1),
    );
    const exists = await ask("service_start", { service_name, command: ["true"] }, true);
    assert.deepEqual([exists.code, /service_stop/.test(String(exists.hint))], ["SERVICE_EXISTS", true]);
    const stopped = await ask("service_stop", { service_name });
    assert.deepEqual([stopped.state, stopped.stop_reason], ["stopped", "requested"]);

    const failed = await ask(
      "service_start",
      {
        service_name,
        command: "echo first; yes filling | head -n 5000; echo the last words; exit 4",
        ready_file: "no",
      },
      true,
    );
    assert.equal(failed.code, "SERVICE_FAILED");
    const details = failed.details as Json;
    assert.match(String(failed.message), /exited with 4 before it was ready/);
    assert.match(String(details.log_tail), /filling\nthe last words\n$/);
    const states = new Map<unknown, unknown>();
    for (let page: Json = { next_cursor: "0" }; page.next_cursor !== null; ) {
      const next = states.size === 0 ? {} : { cursor: page.next_cursor };
      page = await ask("service_list", { limit: 3, ...next });
      for (const one of page.services as Json[]) states.set(one.service_name, one.state);
    }
    assert.equal(states.get("mcp"), "failed");
    assert.equal(states.size, (await services.list()).length);

    // A request that is cancelled ends what it began.
    const abort = new AbortController();
    const waiting = { workspace_id, service_name, command: ["sleep", "1000"], ready_file: "never" };
    const cancelled = client.callTool({ name: "service_start", arguments: waiting }, { signal: abort.signal });
    setTimeout(() => abort.abort(), 1500);
    await assert.rejects(cancelled);
    let state: unknown = "starting";
    for (let turn = 0; turn < 50 && state === "starting"; turn++) {
      state = (await ask("service_status", { service_name, wait_seconds: 1 })).state;
    }
    assert.equal(state, "stopped");
  } finally {
    await client.close();
  }
});

test("what is never ready has failed, with why and the end of its log, and nothing of it is left", {
  timeout: 240_000,
}, async () => {
  const died = await services.finish("start", [
    ...["dies", "--ready-tcp", "localhost:81", "--"],
    ...["sh", "-c", "setsid sleep 4242 & echo starting up; echo no such table >&2; exit 3"],
  ]);
  assert.equal(died.status, 1);
  assert.equal(died.stdout.toString(), "");
  assert.match(died.stderr.toString(), /The service dies has failed: it exited with 3 before it was ready\.\n/);
  assert.match(died.stderr.toString(), /^ {4}\| starting up$/m);
  assert.match(died.stderr.toString(), /^ {4}\| no such table$/m);

  const stubborn = `trap '' TERM; setsid sh -c 'trap "" TERM; while :; do sleep 4242; done' & echo waiting; while :; do sleep 4242; done`;
  const late = await services.finish("start", [
    ...["never", "--json", "--ready-file", "ready", "--ready-timeout-seconds", "2", "--"],
    ...["sh", "-c", stubborn],
  ]);
  assert.equal(late.status, 1);
  const error = told(late.stdout);
  assert.equal(error.code, "SERVICE_FAILED");
  assert.match(error.message, /it was not ready within 2 s: there is no \/workspace\/ready\.$/);
  const { service, log_tail } = error.details as { service: { state: string; stop_reason: string }; log_tail: string };
  assert.deepEqual([service.state, service.stop_reason, log_tail], ["failed", "not_ready", "waiting\n"]);
  assert.equal(await running("sleep 4242"), 0);

  const refused = await services.finish("start", [
    ...["wrong", "--ready-http", "http://localhost:8003/missing", "--ready-timeout-seconds", "3", "--"],
    ...server(8003),
  ]);
  assert.match(refused.stderr.toString(), /not ready within 3 s: http:\/\/localhost:8003\/missing answered with 404\./);
  const said = await services.finish("start", [
    ...["said", "--ready-command", "echo half way; false", "--ready-timeout-seconds", "2", "--", "sleep", "1000"],
  ]);
  assert.match(said.stderr.toString(), /not ready within 2 s: the command exited with 1: half way\./);
  const gone = await services.finish("start", ["gone", "--", "/no/such/program"]);
  const unstarted = await services.status("gone");
  assert.deepEqual([gone.status, unstarted.state, unstarted.exit_code], [0, "exited", 127]);
  assert.match(await (await services.finish("logs", ["gone"])).stderr.toString(), /not found/);

  for (const [name, state] of [
    ["dies", "failed"],
    ["never", "failed"],
    ["wrong", "failed"],
    ["said", "failed"],
  ] as const) {
    const now = await services.status(name);
    assert.deepEqual([now.state, typeof now.failure?.message], [state, "string"]);
  }
  // The name is free again, and the log is the new one's.
  const anew = await services.start("dies", [], ["sh", "-c", "echo anew; exec sleep 1000"]);
  assert.deepEqual([anew.state, anew.failure], ["running", null]);
  assert.equal(await services.log("dies"), "anew\n");
  assert.equal((await services.stop("dies")).state, "stopped");
});

test("bad input is refused before anything starts", { timeout: 240_000 }, async () => {
  const count = (await services.list()).length;
  const start = (...args: string[]) => services.words("start", [...args, "--json", "--", "sleep", "1000"]);
  const refusals: [string[], string, RegExp][] = [
    [start("bad", "--ready-tcp", "localhost:0"), "INVALID_INPUT", /no port 0/],
    [start("bad", "--ready-tcp", "localhost:65536"), "INVALID_INPUT", /no port 65536/],
    [start("bad", "--ready-tcp", "8000"), "INVALID_INPUT", /HOST:PORT/],
    [start("bad", "--ready-http", "localhost:8000"), "INVALID_INPUT", /http:\/\//],
    [start("bad", "--ready-http", "http://localhost:99999/"), "INVALID_INPUT", /no URL/],
    [start("bad", "--ready-http", "http://a:b@localhost/"), "INVALID_INPUT", /no password/],
    [start("bad", "--ready-file", ""), "INVALID_INPUT", /empty/],
    [start("bad", "--ready-file", "x", "--ready-tcp", "localhost:1"), "INVALID_INPUT", /one of/],
    [start("bad", "--ready-timeout-seconds", "0"), "INVALID_INPUT", /ready-timeout-seconds/],
    [start("bad", "--ready-interval-ms", "1"), "INVALID_INPUT", /ready-interval-ms/],
    [start("-bad/name"), "INVALID_INPUT", /./],
    [start("bad name"), "INVALID_INPUT", /a name has/],
    [start("x".repeat(65)), "INVALID_INPUT", /a name has/],
    [start("bad", "--cwd", "/no/such"), "CWD_NOT_FOUND", /\/no\/such/],
    [services.words("status", ["nobody", "--json"]), "SERVICE_NOT_FOUND", /no service nobody/],
    [services.words("stop", ["nobody", "--json"]), "SERVICE_NOT_FOUND", /no service nobody/],
    [services.words("logs", ["nobody", "--json"]), "SERVICE_NOT_FOUND", /no service nobody/],
    [services.words("logs", ["web", "--tail", "-1", "--json"]), "INVALID_INPUT", /tail/],
    [services.words("logs", ["web", "--cursor", "c99999", "--json"]), "CURSOR_INVALID", /beyond/],
    [services.words("logs", ["web", "--cursor", "x", "--json"]), "CURSOR_INVALID", /no cursor|not a cursor/],
    [services.words("list", ["--cursor", "?", "--json"]), "CURSOR_INVALID", /not a cursor/],
    [["service", "start", "nowhere", "x", "--json", "--", "true"], "WORKSPACE_NOT_FOUND", /nowhere/],
  ];
  for (const [words, code, message] of refusals) {
    const { status, stdout, stderr } = await all.finish(words);
    assert.notEqual(status, 0, words.join(" "));
    const error = told(stdout.length > 0 ? stdout : stderr);
    assert.deepEqual([words.join(" "), error.code], [words.join(" "), code]);
    assert.match(error.message, message);
  }
  const bare = await all.finish(services.words("start", ["bad"]));
  assert.equal(bare.status, 2);
  assert.equal((await services.list()).length, count);
});

test("five at once, and what one of them prints 50 MB of", { timeout: 300_000 }, async () => {
  const names = ["a", "b", "c", "d", "e"];
  await using client = new Pyro({ home: sharedHome() });
  const handle = client.workspace(workspace.id);
  const started = await Promise.all(
    names.map((serviceName, index) =>
      handle.service.start({ serviceName, command: server(8100 + index), readyTcp: `localhost:${8100 + index}` }),
    ),
  );
  assert.deepEqual(
    started.map((one) => one.started?.state),
    names.map(() => "running"),
  );
  assert.equal((await workspace.status()).running_service_count, 5);

  const before = await daemonMemory();
  const lines = 700_000;
  const flood = await handle.service.start({
    serviceName: "flood",
    command: [
      "sh",
      "-c",
      `awk 'BEGIN { for (n = 1; n <= ${lines}; n++) printf "%070d\\n", n }'; echo end; exec sleep 1000`,
    ],
  });
  const whole = createHash("sha256");
  let bytes = 0;
  for await (const { data } of flood.logs({ follow: true, tail: "all" })) {
    whole.update(data);
    bytes += data.length;
    if (bytes >= lines * 71 + 4) break;
  }
  const wanted = createHash("sha256");
  for (let number = 1; number <= lines; number++) wanted.update(`${String(number).padStart(70, "0")}\n`);
  wanted.update("end\n");
  assert.deepEqual([bytes, whole.digest("hex")], [lines * 71 + 4, wanted.digest("hex")]);
  // Cursors count bytes, wherever one begins.
  const at = 71 * 345_678 + 60;
  const middle = await flood.logs({ cursor: `c${at}`, maxBytes: 71 + 11 });
  assert.equal(middle.output, `0000345679\n${"0".repeat(64)}345680\n`);
  assert.equal(middle.nextCursor, `c${at + 82}`);
  const last = await flood.logs({ tail: 2 });
  assert.equal(last.output, `${"0".repeat(64)}700000\nend\n`);
  const grown = (await daemonMemory()) - before;
  assert.ok(grown < 48 << 10, `the daemon has ${grown} KiB more than before`);

  assert.equal(await workspace.ok(["python3", "client.py", "8104", "/"]), "hello\n");
  const ended = await Promise.all([...started, flood].map((one) => one.stop()));
  assert.deepEqual(new Set(ended.map(({ state }) => state)), new Set(["stopped"]));
});

test("one that does not obey is killed after its grace time, and a shorter one counts at once", {
  timeout: 240_000,
}, async () => {
  await services.start("deaf", [], ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"]);
  const patient = all.start(services.words("stop", ["deaf", "--grace-seconds", "600", "--json"]));
  await sleep(1000);
  assert.equal((await services.status("deaf")).state, "running");
  const stopped = await services.stop("deaf", ["--grace-seconds", "0.5"]);
  assert.deepEqual([stopped.state, stopped.exit_code], ["stopped", 137]);
  const { status, stdout } = await patient.finished;
  assert.equal(status, 0);
  assert.deepEqual(JSON.parse(stdout.toString()), stopped);
});

test("an idle workspace is stopped with its services, and starts without them", { timeout: 240_000 }, async () => {
  await using other = await all.create(["--ttl-seconds", "2"]);
  const own = new Services(all, other.id);
  await own.start(
    "web",
    [],
    ["sh", "-c", "trap 'echo asked to go; exit 0' TERM; echo up; while :; do sleep 0.1; done"],
  );
  await other.untilState("stopped");
  const { state, stop_reason, failure } = await own.status("web");
  assert.deepEqual([state, stop_reason, failure], ["stopped", "workspace_idle", null]);
  assert.match(await own.log("web"), /^up\n/);
  assert.deepEqual(await own.stop("web"), await own.status("web"));
  const again = await own.start("web", ["--ready-command", "true"], ["sleep", "1000"]);
  assert.equal(again.state, "running", "starting it starts the workspace");
  const counts = await other.status();
  assert.deepEqual([counts.service_count, counts.running_service_count], [1, 1]);

  // Root in the guest says of its own cgroup what it likes.
  const hide = `g=/sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup); echo populated 0 >/tmp/events
    mount --bind /tmp/events $g/cgroup.events && mount --bind /dev/null $g/cgroup.procs && echo hidden
    trap '' TERM; while :; do sleep 0.1; done`;
  await own.start(
    "hidden",
    ["--ready-command", "grep -q populated.0 /sys/fs/cgroup/pyro/svc_*/cgroup.events"],
    ["sh", "-c", hide],
  );
  const hidden = await own.stop("hidden", ["--grace-seconds", "1"]);
  assert.deepEqual([hidden.state, hidden.exit_code], ["stopped", 137]);
});

test("a summary has what was done, what runs and what was changed, of a stopped workspace too, until a reset", {
  timeout: 240_000,
}, async () => {
  await using other = await all.create(["--name", "summed-up"]);
  await using out = await scratch();
  await using client = new Pyro({ home: sharedHome() });
  await pushPrograms(other);
  const own = new Services(all, other.id);
  await own.start("web", ["--ready-tcp", "localhost:8000"], server(8000));
  await other.exec(["sh", "-c", "mkdir src; for n in 1 2 3; do echo $n >src/$n; done; exit 3"]);
  await other.exec(["true"]);
  const { process_id } = await all.ask<LogEntry>(["exec", other.id, "--detach", "--", "sleep", "1000"]);
  const shell = await client.openShell({ workspaceId: other.id });
  await all.ask(["snapshot", "create", other.id, "kept"]);
  await all.ask(["export", other.id, "src", "--output", join(out.path, "src")]);
  const first = await client.workspace("summed-up").summary();
  const { total, succeeded, failed, running } = first.commands;
  assert.deepEqual([total, succeeded, failed, running], [3, 1, 1, 1]);
  const told = first.commands.entries.map(({ processId, state, exitCode }) => [processId, state, exitCode]);
  assert.deepEqual(told, [
    ["proc_1", "exited", 3],
    ["proc_2", "exited", 0],
    [process_id, "running", null],
  ]);
  assert.deepEqual(first.changes?.directories, [
    { path: "src", total: 3 },
    { path: ".", total: 2 },
  ]);
  assert.deepEqual(first.services.entries, [{ serviceName: "web", state: "running", exitCode: null, hostPorts: [] }]);
  assert.deepEqual([first.shells.open, first.shells.entries[0]?.shellId], [1, shell.shellId]);
  assert.equal(first.snapshots.entries[0]?.snapshotName, "kept");
  assert.deepEqual([first.pushes.total, first.pushes.entries[0]?.entryCount], [1, 2]);
  assert.equal(first.exports.entries[0]?.outputPath, join(out.path, "src"));

  const session = new Client({ name: "test", version: "0" });
  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: sharedHome() };
  await session.connect(new StdioClientTransport({ command: process.execPath, args: [PYRO, "mcp", "serve"], env }));
  const result = await session.callTool({ name: "workspace_summary", arguments: { workspace_id: other.id } });
  await session.close();
  assert.deepEqual((result.structuredContent as OutputOf<"workspace.summary">).commands.failed, 1);
  assert.ok(JSON.stringify(result).length < 5000, JSON.stringify(result));

  await all.ask(["stop", other.id]);
  const screen = (await all.finish(["summary", other.id])).stdout.toString();
  assert.match(screen, /^Workspace +summed-up \(ws_\w+\), stopped \(stopped\), created \d+s ago$/m);
  assert.match(screen, /^Commands +3: 1 succeeded, 1 failed, 1 lost$/m);
  assert.match(screen, /^Changes +5: 5 added, 0 modified, 0 deleted, \+\d+ -0 lines$/m);
  assert.match(screen, /^Services +web stopped$/m);
  assert.match(screen, /^Still runs +nothing$/m);
  assert.equal((await other.status()).state, "stopped", "it is not started for that");

  await all.ask(["reset", other.id]);
  const anew = await all.ask<OutputOf<"workspace.summary">>(["summary", other.id]);
  assert.deepEqual([anew.commands.total, anew.pushes.total, anew.exports.total], [0, 0, 0]);
  assert.deepEqual([anew.changes?.total, anew.snapshots.total, anew.reset_count], [0, 1, 1]);
});

async function daemonMemory(): Promise<number> {
  const { stdout } = await pyro(["daemon", "status", "--json"]);
  const { pid } = JSON.parse(stdout.toString()) as { pid: number };
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
}

test("errors of the SDK are what they are everywhere", async () => {
  await using client = new Pyro({ home: sharedHome() });
  const input = { workspaceId: workspace.id, serviceName: "x", command: "exit 1", readyFile: "no" };
  await assert.rejects(client.startService(input), (thrown) => {
    assert.ok(thrown instanceof PyroError);
    assert.deepEqual([thrown.code, thrown.retryable], ["SERVICE_FAILED", false]);
    return true;
  });
});
