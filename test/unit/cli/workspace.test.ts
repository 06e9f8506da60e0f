// The commands of workspaces and their processes: the input that is sent, what is printed for a person and as data, and
// the exit status. The daemon's answers are the test's.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { type Conversation, temporaryHome } from "../client/fake-daemon.ts";
import { control } from "../client/fake-rows.ts";
import { daemon, type Input, result, say, start, workspace } from "./command-line.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");
const HOSTILE = "a\u001b[2Jb\nc";
const SHOWN = "a\\x1b[2Jb\\nc";
const MISSING = { error: { code: "WORKSPACE_NOT_FOUND", message: "There is no such workspace.", hint: "Look." } };

/** As a daemon tells it: facts of a process without its output. */
function facts(change: Record<string, unknown> = {}) {
  const { stdout: _, stderr: __, ...rest } = result(change);
  return rest;
}

test("create sends what was typed and says what was made; --id-only and --json say less and more", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const skipped = Array.from({ length: 7 }, (_, index) => ({
    path: index === 0 ? HOSTILE : `s${index}`,
    reason: "socket",
  }));
  const seed = {
    mode: "directory",
    seed_path: "/src",
    entry_count: 12,
    bytes_written: 3000,
    skipped,
    skipped_count: 9,
  } as const;
  const made = workspace({ seed: { ...seed, skipped: [...seed.skipped] } });
  const answer = (talk: Conversation) => {
    talk.json(ToClient.Event, { type: "progress", message: "Sending", stage: "seed", fraction: 0.5 });
    talk.finish(made);
  };
  await using _fake = await daemon(home, {}, { "workspace.create": answer }, asked);
  const flags = ["--mem-mib", "512", "--label", "a=b=c", "--label", "d=", "--env", "E=1", "--ttl-seconds", "0"];
  const { stdout, stderr, status } = await say(
    home,
    "workspace",
    "create",
    "debian:12",
    "--name",
    "fix-tests",
    ...flags,
  );
  assert.equal(status, 0, stderr);
  assert.deepEqual(asked[0]?.[1], {
    environment: "debian:12",
    name: "fix-tests",
    mem_mib: 512,
    labels: { a: "b=c", d: "" },
    env: { E: "1" },
    ttl_seconds: 0,
  });
  assert.equal(stderr, "Sending\npyro: next: pyro workspace exec fix-tests -- ls -la\n");
  assert.equal(
    stdout,
    [
      "Workspace    ws_abcdefghij",
      "Name         fix-tests",
      "Labels       team=core",
      "State        started",
      "Environment  debian:12",
      "Seed         12 entries, 3 KiB, of directory /src",
      `Not sent     ${SHOWN} (socket)`,
      ...[1, 2, 3, 4].map((index) => `             s${index} (socket)`),
      "             and 4 more",
      "",
    ].join("\n"),
  );
  const id = await say(home, "ws", "create", "--id-only", "--quiet");
  assert.deepEqual([id.stdout, id.stderr, id.status], ["ws_abcdefghij\n", "", 0]);
  const json = await say(home, "ws", "create", "--json", "--quiet");
  assert.deepEqual([JSON.parse(json.stdout), json.stderr], [made, ""]);
  const both = await say(home, "ws", "create", "--json", "--id-only");
  assert.equal(both.status, 2);
  assert.match(both.stdout, /--id-only and --json exclude each other/);
});

test("Ctrl-C in the middle of a create cancels it and says so", async () => {
  await using home = await temporaryHome();
  let cancelled = 0;
  const talk = async (with_: Conversation) => {
    with_.json(ToClient.Event, { type: "progress", message: "Sending", stage: "seed", fraction: null });
    for (;;) {
      const frame = await with_.next();
      if (frame === undefined) return;
      if (frame.type !== ToDaemon.Control) continue;
      cancelled++;
      with_.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    }
  };
  await using _fake = await daemon(home, {}, { "workspace.create": talk });
  const { child, ended } = start(home, ["ws", "create"]);
  await once(child.stderr, "data");
  child.kill("SIGINT");
  const { status, stderr, stdout } = await ended;
  assert.deepEqual(
    { status, stderr, stdout },
    { status: 130, stderr: "Sending\npyro: cancelled by SIGINT\n", stdout: "" },
  );
  assert.equal(cancelled, 1);
});

test("a Ctrl-C that comes too late says so, and shows what was made", async () => {
  await using home = await temporaryHome();
  const talk = async (with_: Conversation) => {
    with_.json(ToClient.Event, { type: "progress", message: "Sending", stage: "seed", fraction: null });
    for (;;) {
      const frame = await with_.next();
      if (frame === undefined) return;
      if (frame.type === ToDaemon.Control) with_.finish(workspace());
    }
  };
  await using _fake = await daemon(home, {}, { "workspace.create": talk });
  const { child, ended } = start(home, ["ws", "create", "--id-only"]);
  await once(child.stderr, "data");
  child.kill("SIGINT");
  const { status, stderr, stdout } = await ended;
  assert.deepEqual({ status, stdout }, { status: 130, stdout: "ws_abcdefghij\n" });
  assert.equal(stderr, "Sending\npyro: cancelled by SIGINT, but it was done by then\n");
});

test("a push that is refused while it is sent ends and says why", async () => {
  await using home = await temporaryHome();
  const refuse = (talk: Conversation) =>
    talk.json(ToClient.Error, { code: "PATH_CONFLICT", message: "There is a directory.", hint: "Remove it." });
  await using _fake = await daemon(home, {}, { "workspace.sync_push": refuse });
  // More than pipes and sockets hold: most of it is never read.
  const source = join(import.meta.dirname, "..", "..", "..", "src");
  const { status, stderr } = await say(home, "ws", "sync", "push", "w", source);
  assert.deepEqual({ status, stderr }, { status: 1, stderr: "pyro: There is a directory.\n      Remove it.\n" });
});

test("list is a table that holds whatever names hold, and says when there is more, or nothing", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const two = [
    workspace(),
    workspace({ workspace_id: "ws_b", name: null, environment: HOSTILE, state: "stopped", command_count: 12 }),
  ];
  let answer: unknown = { workspaces: two, next_cursor: "17" };
  await using _fake = await daemon(home, { "workspace.list": () => answer }, {}, asked);
  const { stdout, stderr, status } = await say(
    home,
    "ws",
    "list",
    "--label",
    "team=core",
    "--limit",
    "2",
    "--cursor",
    "3",
  );
  assert.deepEqual({ stderr, status }, { stderr: "pyro: there are more: --cursor 17\n", status: 0 });
  assert.deepEqual(asked[0], ["workspace.list", { labels: { team: "core" }, limit: 2, cursor: "3" }]);
  const rows = stdout
    .trimEnd()
    .split("\n")
    .map((line) => line.split(/ {2,}/));
  assert.deepEqual(rows, [
    ["ID", "NAME", "STATE", "ENVIRONMENT", "COMMANDS", "AGE"],
    ["ws_abcdefghij", "fix-tests", "started", "debian:12", "0", "2h"],
    ["ws_b", "-", "stopped", SHOWN, "12", "2h"],
  ]);
  assert.deepEqual(JSON.parse((await say(home, "ws", "list", "--json")).stdout), answer);
  answer = { workspaces: [], next_cursor: null };
  const none = await say(home, "ws", "list");
  assert.match(none.stderr, /^pyro: there is none; `pyro workspace create` makes one\n$/);
  assert.equal((await say(home, "ws", "list", "--quiet")).stderr, "");
});

test("status says why one is stopped or failed, with the end of its console", async () => {
  await using home = await temporaryHome();
  let answer: unknown;
  await using _fake = await daemon(home, { "workspace.status": () => answer });
  const shown = async (change: Parameters<typeof workspace>[0]) => {
    answer = workspace(change);
    const { stdout, stderr, status } = await say(home, "ws", "status", "fix-tests");
    assert.deepEqual({ stderr, status }, { stderr: "", status: 0 });
    return stdout;
  };
  assert.match(
    await shown({ state: "stopped", stop_reason: "idle" }),
    /^State {8}stopped: was idle; .* starts it again$/m,
  );
  assert.match(
    await shown({ state: "stopped", stop_reason: "lost" }),
    /^State {8}stopped: its microVM was lost; files are kept/m,
  );
  assert.match(await shown({ ttl_seconds: 0, expires_at: null }), /^Idle limit {3}none: it is never stopped$/m);
  const last = {
    process_id: "proc_2",
    sequence: 2,
    command: ["sh", "-c", HOSTILE],
    exit_code: 3,
    started_at: "2026-01-01T00:00:00Z",
  };
  assert.match(
    await shown({ last_command: { ...last, state: "exited" } }),
    /^Last one {5}proc_2, exit 3: sh -c 'a\\x1b\[2Jb\\nc'$/m,
  );
  const failed = await shown({
    state: "failed",
    failure: { stage: "seed", message: HOSTILE, console_tail: "one\n\u001b[2Jtwo\n" },
  });
  assert.ok(failed.endsWith(`Failed at    seed: ${SHOWN}\n    | one\n    | \\x1b[2Jtwo\n`), failed);
  assert.match(failed, /^State {8}failed: it can only be deleted$/m);
  assert.deepEqual(JSON.parse((await say(home, "ws", "status", "x", "--json")).stdout), answer);
});

test("update and push send what was typed and say what came of it", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const pushed = {
    workspace_id: "ws_abcdefghij",
    mode: "directory",
    source_path: "/x",
    destination: "/workspace/docs",
    entry_count: 1,
    bytes_written: 10,
    skipped: [],
    skipped_count: 0,
  };
  const push = (talk: Conversation) => talk.finish(pushed);
  await using _fake = await daemon(
    home,
    { "workspace.update": () => workspace({ name: null }) },
    { "workspace.sync_push": push },
    asked,
  );
  const update = await say(
    home,
    "ws",
    "update",
    "w",
    "--clear-name",
    "--label",
    "a=b",
    "--clear-label",
    "c",
    "--clear-label",
    "d",
  );
  assert.deepEqual([update.status, update.stderr], [0, ""]);
  assert.match(update.stdout, /^Workspace {4}ws_abcdefghij\nLabels/);
  assert.deepEqual(asked[0]?.[1], {
    workspace_id: "w",
    clear_name: true,
    labels: { a: "b" },
    clear_labels: ["c", "d"],
  });
  const told = await say(
    home,
    "ws",
    "sync",
    "push",
    "w",
    import.meta.dirname,
    "--dest",
    "docs",
    "--exclude",
    "*.o",
    "--exclude",
    "tmp/",
  );
  assert.deepEqual([told.status, told.stderr], [0, ""]);
  assert.equal(told.stdout, "Pushed       1 entry, 10 B to /workspace/docs of ws_abcdefghij\n");
  assert.deepEqual(asked[1]?.[1], {
    workspace_id: "w",
    source_path: import.meta.dirname,
    destination: "docs",
    exclude: ["*.o", "tmp/"],
  });
});

test("delete: one, several of which one is missing, a selection", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const remove = ({ workspace_id }: Input) =>
    workspace_id === "nope" ? MISSING : { workspace_id: `ws_${workspace_id}`, deleted: true };
  const list = ({ cursor }: Input) =>
    cursor === undefined
      ? { workspaces: [workspace({ workspace_id: "one", name: null })], next_cursor: "1" }
      : { workspaces: [workspace({ workspace_id: "two", name: "second" })], next_cursor: null };
  await using _fake = await daemon(home, { "workspace.delete": remove, "workspace.list": list }, {}, asked);
  const one = await say(home, "ws", "delete", "a");
  assert.deepEqual([one.status, one.stdout, one.stderr], [0, "deleted a (ws_a)\n", ""]);
  const json = await say(home, "ws", "delete", "a", "--json");
  assert.deepEqual([json.status, json.stdout], [0, '{"workspace_id":"ws_a","deleted":true}\n']);
  const missing = await say(home, "ws", "delete", "nope", "--json");
  assert.equal(missing.status, 1);
  assert.equal((JSON.parse(missing.stdout) as typeof MISSING).error.code, "WORKSPACE_NOT_FOUND");

  const several = await say(home, "ws", "delete", "a", "nope", "b", "a");
  assert.deepEqual([several.status, several.stdout], [1, "deleted a (ws_a)\ndeleted b (ws_b)\n"]);
  assert.equal(several.stderr, "pyro: There is no such workspace.\n      Look.\n");
  const document = await say(home, "ws", "delete", "a", "nope", "--json");
  assert.equal(document.status, 1);
  const { workspaces } = JSON.parse(document.stdout) as { workspaces: Record<string, unknown>[] };
  assert.deepEqual(workspaces[0], { workspace_id: "ws_a", deleted: true });
  assert.deepEqual([workspaces[1]?.workspace_id, workspaces[1]?.deleted], ["nope", false]);
  assert.equal((workspaces[1]?.error as { code: string } | undefined)?.code, "WORKSPACE_NOT_FOUND");

  asked.length = 0;
  const selected = await say(home, "ws", "delete", "--label", "a=1", "--label", "b=2");
  assert.deepEqual([selected.status, selected.stderr], [0, ""]);
  assert.equal(selected.stdout, "deleted one (ws_one)\ndeleted second (ws_two)\n");
  assert.deepEqual(asked, [
    ["workspace.list", { limit: 1000, labels: { a: "1", b: "2" } }],
    ["workspace.list", { limit: 1000, labels: { a: "1", b: "2" }, cursor: "1" }],
    ["workspace.delete", { workspace_id: "one" }],
    ["workspace.delete", { workspace_id: "two" }],
  ]);
  asked.length = 0;
  const refused = await say(home, "ws", "delete", "--all");
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /^pyro: --all needs --yes where nobody can be asked\.\n/);
  assert.ok(asked.every(([name]) => name === "workspace.list"));
  assert.equal(
    (await say(home, "ws", "delete", "--all", "--yes")).stdout,
    "deleted one (ws_one)\ndeleted second (ws_two)\n",
  );
});

test("delete --all asks on a terminal, and takes only yes for an answer", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const remove = ({ workspace_id }: Input) => ({ workspace_id, deleted: true });
  const list = () => ({ workspaces: [workspace()], next_cursor: null });
  await using _fake = await daemon(home, { "workspace.delete": remove, "workspace.list": list }, {}, asked);
  const pyro = `${process.execPath} ${join(import.meta.dirname, "..", "..", "cli", "pyro.ts")}`;
  for (const [key, status, deleted] of [
    ["\n", 1, 0],
    ["n\n", 1, 0],
    ["\x03", 130, 0],
    ["\x04", 1, 0],
    ["y\n", 0, 1],
  ] as const) {
    asked.length = 0;
    // script(1) makes a terminal, and ends as what it ran did.
    const child = spawn("script", ["-qec", `${pyro} ws delete --all`, "/dev/null"], {
      env: { ...process.env, PYRO_HOME: home.directory, SHELL: "/bin/sh" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    let seen = "";
    child.stdout.on("data", (chunk: Buffer) => {
      const before = seen;
      seen += chunk;
      if (seen.includes("[y/N]") && !before.includes("[y/N]")) child.stdin.write(key);
    });
    const [code] = await once(child, "close");
    assert.equal(code, status, seen);
    assert.match(seen, /^ {2}fix-tests \(ws_abcdefghij\)\r\nDelete this workspace and all in it\? \[y\/N\] /);
    assert.equal(asked.filter(([name]) => name === "workspace.delete").length, deleted);
    assert.equal(/Nothing was deleted/.test(seen), status === 1);
  }
});

test("delete of a selection that finds nothing deletes nothing, and is no failure", async () => {
  await using home = await temporaryHome();
  await using _fake = await daemon(home, { "workspace.list": () => ({ workspaces: [], next_cursor: null }) });
  const none = await say(home, "ws", "delete", "--all", "--yes");
  assert.deepEqual([none.status, none.stdout, none.stderr], [0, "", "pyro: there is none to delete\n"]);
  assert.equal((await say(home, "ws", "delete", "--label", "a=b", "--json")).stdout, '{"workspaces":[]}\n');
});

test("logs: a header a command, its bytes as they were, and one document", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const entries = [
    result({ process_id: "proc_1", command: ["echo", "a b", HOSTILE], stdout: "a\u001b[1mb", duration_ms: 1500 }),
    result({
      process_id: "proc_2",
      sequence: 2,
      exit_code: 137,
      signal: "SIGKILL",
      stdout: "/wA=",
      stdout_encoding: "base64",
      stderr: "no\n",
      omitted_bytes: 7,
    }),
  ];
  const output = { workspace_id: "ws_abcdefghij", entries, next_cursor: "2" };
  await using _fake = await daemon(home, {}, { "workspace.logs": (talk) => talk.finish(output) }, asked);
  const { bytes, stderr, status } = await say(home, "ws", "logs", "w", "--limit", "2", "--max-bytes", "10");
  assert.equal(status, 0);
  assert.deepEqual(asked[0]?.[1], { workspace_id: "w", limit: 2, max_bytes: 10 });
  assert.deepEqual(
    bytes,
    Buffer.concat([
      Buffer.from(`==> 2026-01-01T00:00:00Z proc_1 exit 0, 1.5 s: echo 'a b' '${SHOWN}'\na\u001b[1mb\n`),
      Buffer.from("==> 2026-01-01T00:00:00Z proc_2 SIGKILL, 0.0 s: true\n"),
      Buffer.from([0xff, 0x00, 0x0a]),
    ]),
  );
  assert.equal(
    stderr,
    "no\npyro: 7 bytes of proc_2 are left out; `pyro workspace process read ws_abcdefghij proc_2` has them\n" +
      "pyro: there are more: --cursor 2\n",
  );
  assert.deepEqual(JSON.parse((await say(home, "ws", "logs", "w", "--json")).stdout), output);
  assert.equal((await say(home, "ws", "logs", "w", "--quiet")).stderr, "no\n");
});

test("logs --follow prints entries as they end, once each, as lines of JSON too, until it is interrupted", async () => {
  await using home = await temporaryHome();
  const talk = async (with_: Conversation) => {
    for (const sequence of [1, 2, 2]) {
      const entry = result({ process_id: `proc_${sequence}`, sequence, stdout: "x\n" });
      with_.json(ToClient.Event, { type: "entry", entry });
    }
    for (;;) {
      const frame = await with_.next();
      if (frame === undefined) return;
      if (frame.type === ToDaemon.Control) with_.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    }
  };
  await using _fake = await daemon(home, {}, { "workspace.logs": talk });
  for (const flags of [[], ["--json"]]) {
    const { child, ended } = start(home, ["ws", "logs", "w", "--follow", ...flags]);
    let seen = "";
    await new Promise<void>((resolve) => {
      child.stdout.on("data", (chunk: Buffer) => {
        seen += chunk;
        if (seen.includes("proc_2")) resolve();
      });
    });
    child.kill("SIGINT");
    const { status, stdout, stderr } = await ended;
    assert.deepEqual({ status, stderr }, { status: 130, stderr: "" });
    const lines = stdout.trimEnd().split("\n");
    if (flags.length > 0) {
      assert.deepEqual(
        lines.map((line) => (JSON.parse(line) as { sequence: number }).sequence),
        [1, 2],
      );
    } else assert.deepEqual(lines.filter((line) => line.startsWith("==>")).length, 2);
  }
});

test("logs --follow holds back what its reader does not take, and an interrupt waits for no reader", {
  timeout: 20_000,
}, async () => {
  await using home = await temporaryHome();
  let held = false;
  const holding = Promise.withResolvers<void>();
  const talk = async (with_: Conversation) => {
    for (let sequence = 1; sequence <= 40; sequence++) {
      with_.json(ToClient.Event, { type: "entry", entry: result({ sequence, stdout: "x".repeat(900_000) }) });
      await sleep(10);
    }
    held = with_.waiting > 8 << 20;
    holding.resolve();
    await control(with_);
    with_.drop();
  };
  await using _fake = await daemon(home, {}, { "workspace.logs": talk });
  const child = spawn(process.execPath, [PYRO, "ws", "logs", "w", "--follow"], {
    env: { ...process.env, PYRO_HOME: home.directory },
    stdio: ["ignore", "pipe", "ignore"],
  });
  const ended = once(child, "exit");
  await holding.promise;
  assert.ok(held, "what is not printed waits at the daemon");
  child.kill("SIGINT");
  assert.deepEqual(await ended, [null, "SIGINT"]);
  child.stdout.destroy();
});

test("process list and signal; a word of an id of a run is a run's", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const processes = [
    facts({ state: "running", exit_code: null, command: ["sleep", "1 0"] }),
    facts({ process_id: "proc_2", exit_code: null, lost_reason: "gone" }),
  ];
  await using _fake = await daemon(
    home,
    {
      "process.list": () => ({ workspace_id: "w", processes, next_cursor: null }),
      "process.signal": ({ process_id }) => ({
        workspace_id: "w",
        process_id,
        signal: "SIGINT",
        delivered: process_id === "proc_1",
      }),
      "process.read": () =>
        result({
          state: "running",
          exit_code: null,
          stdout: "/w==",
          stdout_encoding: "base64",
          stderr: "e",
          next_cursor: "9",
        }),
    },
    {},
    asked,
  );
  const list = await say(home, "ws", "process", "list", "w", "--all");
  assert.match(list.stdout, /^PROCESS {2}STATE .*\nproc_1 {3}running .* sleep '1 0'\nproc_2 {3}lost .* true\n$/);
  const sent = await say(home, "ws", "process", "signal", "w", "proc_1", "--signal", "INT");
  assert.deepEqual([sent.status, sent.stdout, sent.stderr], [0, "", "pyro: proc_1 was sent SIGINT\n"]);
  assert.equal((await say(home, "ws", "process", "signal", "w", "proc_2")).stderr, "pyro: proc_2 had ended already\n");
  const read = await say(home, "ws", "process", "read", "w", "proc_1", "--wait-seconds", "1");
  assert.deepEqual([...read.bytes], [0xff]);
  assert.equal(read.stderr, "epyro: proc_1 still runs; go on with --cursor 9\n");
  await say(home, "ws", "process", "read", "vm_abcdefghij", "proc_1");
  assert.deepEqual(
    asked.map(([, input]) => input),
    [
      { workspace_id: "w", all: true },
      { workspace_id: "w", process_id: "proc_1", signal: "INT" },
      { workspace_id: "w", process_id: "proc_2" },
      { workspace_id: "w", process_id: "proc_1", wait_seconds: 1 },
      { vm_id: "vm_abcdefghij", process_id: "proc_1" },
    ],
  );
});

test("process write: a text as it is, stdin of any bytes and length, and an end of it", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const write = ({ input, input_encoding, process_id }: Input) => {
    const bytes = Buffer.from(String(input ?? ""), input_encoding === "base64" ? "base64" : "utf8");
    if (process_id === "proc_9" && bytes.length > 0) {
      return {
        error: { code: "PROCESS_NOT_READING", message: "It does not read.", hint: "-", details: { accepted_bytes: 1 } },
      };
    }
    return { workspace_id: "w", process_id, accepted_bytes: bytes.length, closed: false };
  };
  await using _fake = await daemon(home, { "process.write": write }, {}, asked);
  const text = await say(home, "ws", "process", "write", "w", "proc_1", "--input", "é\n");
  assert.deepEqual([text.status, text.stdout, text.stderr], [0, "", "pyro: proc_1 took 3 bytes\n"]);
  assert.deepEqual(asked.splice(0), [["process.write", { workspace_id: "w", process_id: "proc_1", input: "é\n" }]]);

  const data = randomBytes(3_000_000);
  const { child, ended } = start(home, ["ws", "process", "write", "w", "proc_1", "--input", "-", "--eof", "--json"]);
  child.stdin.end(data);
  const { status, stdout, stderr } = await ended;
  assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
  assert.equal((JSON.parse(stdout) as { accepted_bytes: number }).accepted_bytes, data.length);
  const sent = asked.splice(0).map(([, input]) => input as { input: string; input_encoding: string; eof: boolean });
  assert.ok(sent.every(({ input, input_encoding }) => input_encoding === "base64" && input.length <= 1_048_576));
  assert.ok(Buffer.concat(sent.map(({ input }) => Buffer.from(input, "base64"))).equals(data));
  assert.deepEqual(sent.filter(({ eof }) => eof).length, 1);
  assert.equal(sent.at(-1)?.eof, true);

  const full = start(home, ["ws", "process", "write", "w", "proc_9", "--input", "-", "--json"]);
  full.child.stdin.end("abc");
  const refused = await full.ended;
  assert.equal(refused.status, 1);
  const { error } = JSON.parse(refused.stdout) as { error: { code: string; details: { accepted_bytes: number } } };
  assert.deepEqual([error.code, error.details.accepted_bytes], ["PROCESS_NOT_READING", 1]);
  const nothing = await say(home, "ws", "process", "write", "w", "proc_1");
  assert.equal(nothing.status, 2);
  assert.match(nothing.stderr, /--input or --eof/);
});

test("shell write: a text, keys, or what comes on stdin with its lines ended as Enter ends them", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const write = ({ input, input_encoding, shell_id }: Input) => {
    const bytes = Buffer.from(String(input ?? ""), input_encoding === "base64" ? "base64" : "utf8");
    return { workspace_id: "w", shell_id, accepted_bytes: bytes.length, cursor: `c${asked.length}` };
  };
  await using _fake = await daemon(home, { "shell.write": write }, {}, asked);
  const text = await say(home, "ws", "shell", "write", "w", "sh_1", "--input", "ls", "--no-newline");
  assert.deepEqual(
    [text.status, text.stdout, text.stderr],
    [0, "", "pyro: sh_1 took 2 bytes; what comes of it is behind --cursor c1\n"],
  );
  assert.deepEqual(asked.splice(0), [
    ["shell.write", { workspace_id: "w", shell_id: "sh_1", input: "ls", no_newline: true }],
  ]);
  for (const [given, words, typed] of [
    ["a\nb\r\nc", [], "a\rb\rc\r"],
    ["a\n", [], "a\r"],
    ["", [], "\r"],
    ["a", ["--no-newline"], "a"],
    ["x\n".repeat(300_000), [], "x\r".repeat(300_000)],
  ] as const) {
    const { child, ended } = start(home, ["ws", "shell", "write", "w", "sh_1", "--input", "-", "--json", ...words]);
    child.stdin.end(given);
    const { status, stdout } = await ended;
    assert.equal(status, 0);
    const answer = JSON.parse(stdout) as { accepted_bytes: number; cursor: string };
    assert.deepEqual([answer.accepted_bytes, answer.cursor], [typed.length, "c1"]);
    const sent = asked.splice(0).map(([, input]) => Buffer.from((input as { input: string }).input, "base64"));
    assert.equal(Buffer.concat(sent).toString(), typed);
  }
});

test("a shell for a person: what it printed, and what else is known of it as a note", async () => {
  await using home = await temporaryHome();
  const facts = {
    shell_id: "sh_1",
    cwd: "/workspace",
    cols: 120,
    rows: 30,
    state: "running",
    started_at: new Date().toISOString(),
    ended_at: null,
    exit_code: null,
    lost_reason: null,
  };
  const lost = { ...facts, shell_id: "sh_2", state: "stopped", lost_reason: "The workspace\x1b[2J was stopped." };
  const read = ({ screen, shell_id }: Input) => ({
    workspace_id: "w",
    ...(shell_id === "sh_2" ? lost : facts),
    cursor: "c0",
    next_cursor: "c9",
    output: "out",
    output_encoding: "utf-8",
    truncated: !screen,
    dropped_bytes: screen ? 0 : 7,
    screen: screen ? { cursor_row: 2, cursor_column: 3, alternate: false } : null,
  });
  const list = () => ({ workspace_id: "w", shells: [facts, lost], next_cursor: null });
  await using _fake = await daemon(home, { "shell.read": read, "shell.list": list }, {}, []);
  const bytes = await say(home, "ws", "shell", "read", "w", "sh_1");
  assert.equal(bytes.stdout, "out");
  assert.equal(bytes.stderr, "pyro: sh_1 runs; 7 bytes are not kept any more; there is more: go on with --cursor c9\n");
  const screen = await say(home, "ws", "shell", "read", "w", "sh_2", "--screen");
  assert.equal(screen.stdout, "out\n");
  assert.match(
    screen.stderr,
    /^pyro: sh_2 has ended: The workspace.* was stopped\.; the cursor is at row 2, column 3\n$/,
  );
  assert.equal(screen.stderr.includes("\x1b"), false);
  const { stdout } = await say(home, "ws", "shell", "list", "w", "--all");
  assert.match(stdout, /sh_1 +running +\d+s +120x30 +\/workspace\nsh_2 +lost /);
  for (const [words, told] of [
    [["attach", "w"], /have to be a terminal/],
    [["attach", "w", "--json"], /no JSON/],
  ] as const) {
    const refused = await say(home, "ws", "shell", ...words);
    assert.equal(refused.status, 125);
    assert.match(refused.stderr + refused.stdout, told);
  }
});

test("process wait exits with the command's status, 125 when it is not known", async () => {
  await using home = await temporaryHome();
  for (const [change, expected, said] of [
    [{ exit_code: 3 }, 3, "pyro: proc_1 exited with 3\n"],
    [{ exit_code: 143, signal: "SIGTERM" }, 143, "pyro: proc_1 was ended by SIGTERM\n"],
    [{ exit_code: 137, timed_out: true }, 124, "pyro: proc_1 was killed: its time ran out\n"],
    [{ exit_code: null, lost_reason: "gone" }, 125, "pyro: proc_1 ended nobody knows how: gone\n"],
  ] as const) {
    await using _fake = await daemon(home, {}, { "process.wait": (talk) => talk.finish(facts(change)) });
    const { status, stdout, stderr } = await say(home, "ws", "process", "wait", "w", "proc_1");
    assert.deepEqual({ status, stdout, stderr }, { status: expected, stdout: "", stderr: said });
  }
  await using _fake = await daemon(home, {}, { "process.wait": (talk) => talk.json(ToClient.Error, MISSING.error) });
  assert.equal((await say(home, "ws", "process", "wait", "w", "proc_1")).status, 125);
});
