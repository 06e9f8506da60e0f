// The MCP server as an agent has it: the official client over stdio, with real microVMs behind the tools.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { pathsFor } from "../../src/engine/paths.ts";
import { ownHome, PYRO, processesOf, pyro, runOk, sharedHome, untilGone, VMM, VMM_OR_SANDBOX } from "./harness.ts";

type Json = Record<string, unknown>;
type Arguments = Readonly<Record<string, unknown>>;

/** Most bytes of a whole result that asked for nothing else. */
const RESULT_BYTES = 9000;

const WORKSPACE_CORE = [
  "process_read",
  "process_signal",
  "vm_run",
  "workspace_create",
  "workspace_delete",
  "workspace_diff",
  "workspace_exec",
  "workspace_export",
  "workspace_file_edit",
  "workspace_file_list",
  "workspace_file_read",
  "workspace_file_write",
  "workspace_list",
  "workspace_logs",
  "workspace_patch_apply",
  "workspace_reset",
  "workspace_status",
  "workspace_summary",
  "workspace_sync_push",
];

class Session {
  readonly client: Client;

  private constructor(client: Client) {
    this.client = client;
  }

  static async open(home = sharedHome(), profile = "vm-run"): Promise<Session> {
    const client = new Client({ name: "test", version: "1" });
    const env = {
      PATH: process.env.PATH ?? "",
      TMPDIR: process.env.TMPDIR ?? "/tmp",
      PYRO_HOME: home,
      PYRO_POOL_SIZE: "0",
    };
    const args = [PYRO, "mcp", "serve", "--profile", profile];
    await client.connect(new StdioClientTransport({ command: process.execPath, args, env, stderr: "inherit" }));
    return new Session(client);
  }

  async call(name: string, args: Arguments, signal?: AbortSignal): Promise<Json> {
    const result = await this.client.callTool({ name, arguments: args }, signal ? { signal } : {});
    assert.notEqual(result.isError, true, JSON.stringify(result.content));
    const structured = result.structuredContent as Json;
    const [text] = result.content as { text: string }[];
    assert.deepEqual(JSON.parse(text?.text ?? ""), structured, "the text is the same JSON");
    assert.ok(args.max_bytes !== undefined || sizeOf(result) <= RESULT_BYTES, `${sizeOf(result)} bytes`);
    return structured;
  }

  async run(command: string | readonly string[], more: Arguments = {}): Promise<Json> {
    return await this.call("vm_run", { command, ...more });
  }

  async fails(name: string, args: Arguments): Promise<Json> {
    const result = await this.client.callTool({ name, arguments: args });
    assert.equal(result.isError, true);
    const [text] = result.content as { text: string }[];
    const { error } = JSON.parse(text?.text ?? "") as { error: Json };
    // A model would run it on the host.
    assert.doesNotMatch(text?.text ?? "", /\bpyro [a-z-]/);
    assert.notEqual(error.hint, "");
    return error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
  }
}

function sizeOf(result: unknown): number {
  const { content, structuredContent } = result as Json;
  return Buffer.byteLength(JSON.stringify({ content, structuredContent }));
}

/** What is needed to go on reading where a result ended, or from the start. */
function rest({ vm_id, process_id, next_cursor }: Json, from: "here" | "start" = "here"): Arguments {
  return from === "start" ? { vm_id, process_id } : { vm_id, process_id, cursor: next_cursor };
}

/** Reads to the end, as a model would; gives all stdout from there and the last result. */
async function readToEnd(session: Session, first: Json, from: "here" | "start" = "here"): Promise<[string, Json]> {
  let stdout = "";
  let read = first;
  for (let turn = 0, next = rest(first, from); turn < 100; turn++, next = rest(read)) {
    read = await session.call("process_read", next);
    stdout += String(read.stdout);
    if (read.state === "exited" && read.stdout === "") return [stdout, read];
  }
  throw new Error("the output has no end");
}

test("profiles offer their tools", async () => {
  const names: Json = {};
  for (const profile of ["vm-run", "workspace-core", "workspace-full"]) {
    await using session = await Session.open(sharedHome(), profile);
    const { tools } = await session.client.listTools();
    names[profile] = tools.map(({ name }) => name).sort();
  }
  assert.deepEqual(names, {
    "vm-run": ["process_read", "vm_run"],
    "workspace-core": WORKSPACE_CORE,
    "workspace-full": [
      ...WORKSPACE_CORE,
      "env_list",
      "network_log",
      "network_set",
      "process_list",
      "process_wait",
      "process_write",
      "service_list",
      "service_logs",
      "service_start",
      "service_status",
      "service_stop",
      "shell_close",
      "shell_list",
      "shell_open",
      "shell_read",
      "shell_resize",
      "shell_signal",
      "shell_write",
      "snapshot_create",
      "snapshot_delete",
      "snapshot_list",
      "workspace_clone",
      "workspace_disk_export",
      "workspace_disk_list",
      "workspace_disk_read",
      "workspace_start",
      "workspace_stop",
      "workspace_update",
    ].sort(),
  });
  await using full = await Session.open(sharedHome(), "workspace-full");
  const { environments } = await full.call("env_list", {});
  assert.ok((environments as Json[]).some(({ environment }) => environment === "debian:12"));
});

test("vm_run prints git's version from inside a microVM", async () => {
  await using session = await Session.open();
  const result = await session.run(["git", "--version"]);
  assert.match(String(result.stdout), /^git version 2\./);
  assert.equal(result.exit_code, 0);
  assert.equal(result.state, "exited");
  const failed = await session.run("uname -r; echo why >&2; cd; pwd; exit 3", { cwd: "/usr", env: { HOME: "/var" } });
  assert.match(String(failed.stdout), /^6\.1\.0-\d+-cloud-amd64\n\/var\n$/);
  assert.equal(failed.stderr, "why\n");
  assert.equal(failed.exit_code, 3, "a command that fails is a result");
});

test("output over the bounds keeps head and tail, and all of it can be read", async () => {
  await using session = await Session.open();
  const lines = Array.from({ length: 3000 }, (_, index) => `${index + 1} é\n`);
  const whole = lines.join("");
  const script = 'i=1; while [ $i -le 3000 ]; do echo "$i é"; i=$((i+1)); done';
  const bounded = await session.run(script);
  const [head, said, ...tail] = String(bounded.stdout).split(/\n\[(\d+) bytes omitted\]\n/);
  assert.ok(head && tail.length === 1 && tail[0]);
  assert.ok(whole.startsWith(head) && whole.endsWith(tail[0]), "nothing else, and no character split");
  assert.ok(head.length > 1000 && tail[0].length > 1000);
  assert.equal(bounded.stdout_truncated, true);
  assert.equal(bounded.stdout_lossy, false);
  assert.equal(bounded.omitted_bytes, Number(said));
  assert.equal(Buffer.byteLength(head) + Buffer.byteLength(tail[0]) + Number(said), Buffer.byteLength(whole));

  const [read] = await readToEnd(session, bounded, "start");
  assert.equal(read, whole);

  const asked = await session.run(script, { max_bytes: 65_536 });
  assert.equal(asked.stdout, whole);
  assert.equal(asked.omitted_bytes, 0);
  const part = await session.call("process_read", { ...rest(bounded, "start"), max_bytes: 10_000 });
  assert.equal(part.stdout, whole.slice(0, String(part.stdout).length));
  assert.ok(Buffer.byteLength(String(part.stdout)) > 9_990);
  const few = await session.run(script, { max_bytes: 20 });
  assert.ok(Buffer.byteLength(String(few.stdout)) < 60, String(few.stdout));
});

test("a command beyond the wait runs on, exactly once, and is read to its end", async () => {
  await using session = await Session.open();
  const script = "echo ran >>/tmp/log; echo early; sleep 3; echo late >&2; cat /tmp/log; exit 5";
  const first = await session.run(script, { wait_seconds: 1 });
  assert.equal(first.state, "running");
  assert.equal(first.exit_code, null);
  const [stdout, last] = await readToEnd(session, first);
  assert.equal(`${first.stdout}${stdout}`, "early\nran\n");
  assert.equal(last.exit_code, 5);
  // Reading takes nothing away: a call that a client gave up can be made again.
  const again = await session.call("process_read", rest(first, "start"));
  assert.equal(again.stdout, "early\nran\n");
  assert.equal(again.stderr, "late\n");
  assert.equal(again.state, "exited");
  const nothing = await session.call("process_read", { ...rest(last), wait_seconds: 20 });
  assert.equal(nothing.stdout, "");
});

test("a read waits no longer than it was told", async () => {
  await using session = await Session.open();
  const first = await session.run("sleep 6", { wait_seconds: 0.5 });
  const begun = Date.now();
  const read = await session.call("process_read", { ...rest(first), wait_seconds: 1 });
  assert.equal(read.state, "running");
  const took = Date.now() - begun;
  assert.ok(took >= 900 && took < 3000, `${took} ms`);
});

test("bytes that are not UTF-8 become U+FFFD and say so", async () => {
  await using session = await Session.open();
  const result = await session.run("printf 'a\\377b'; printf 'text' >&2");
  assert.equal(result.stdout, "a\ufffdb");
  assert.equal(result.stdout_encoding, "utf-8");
  assert.equal(result.stdout_lossy, true);
  assert.equal(result.stderr_lossy, false);
  const read = await session.call("process_read", rest(result, "start"));
  assert.equal(read.stdout, "a\ufffdb");
  assert.equal(read.stdout_lossy, true);
});

test("a timeout keeps what was printed", async () => {
  await using session = await Session.open();
  const result = await session.run("echo partial; sleep 1000", { timeout_seconds: 1 });
  assert.equal(result.timed_out, true);
  assert.equal(result.state, "exited");
  assert.equal(result.stdout, "partial\n");
});

test("errors are results that name a tool or an argument, never a command", async () => {
  await using session = await Session.open();
  const code = async (name: string, args: Arguments, hint: RegExp) => {
    const error = await session.fails(name, args);
    assert.match(String(error.hint), hint);
    return error.code;
  };
  const run = { command: ["true"] };
  assert.equal(
    await code("vm_run", { ...run, environment: "debian:99" }, /`env(_list|ironment)`/),
    "ENVIRONMENT_NOT_FOUND",
  );
  assert.equal(await code("vm_run", { ...run, cwd: "/no/such" }, /`cwd`/), "CWD_NOT_FOUND");
  assert.equal(await code("vm_run", { ...run, user: "nobody-here" }, /`user`/), "USER_NOT_FOUND");
  assert.equal(await code("vm_run", {}, /argument/), "INVALID_INPUT");
  assert.equal(await code("vm_run", { ...run, wait_seconds: 51 }, /argument/), "INVALID_INPUT");
  assert.equal(await code("vm_run", { ...run, tty: true }, /argument/), "INVALID_INPUT");
  assert.equal(
    await code("process_read", { vm_id: "vm_aaaaaaaaaa", process_id: "proc_1" }, /`vm_run`/),
    "VM_NOT_FOUND",
  );
  const { vm_id, process_id } = await session.run(["true"]);
  assert.equal(await code("process_read", { vm_id, process_id: "proc_9" }, /`vm_run`/), "PROCESS_NOT_FOUND");
  assert.equal(
    await code("process_read", { vm_id, process_id, cursor: "nonsense" }, /`next_cursor`/),
    "CURSOR_INVALID",
  );
});

test("a call that is cancelled, or whose server goes, ends its microVM", async () => {
  const paths = pathsFor({ PYRO_HOME: sharedHome() }, process.getuid?.() ?? 0);
  // One that an earlier test left running would be taken for this one.
  await untilGone(() => processesOf(paths, VMM_OR_SANDBOX), 20_000);
  const microVm = async () => {
    const deadline = Date.now() + 20_000;
    while ((await processesOf(paths, VMM)).length === 0) {
      assert.ok(Date.now() < deadline, "no microVM appeared");
      await sleep(50);
    }
    await sleep(1000);
  };
  const command = "trap '' TERM INT; sleep 1000";
  await using session = await Session.open();
  const cancelling = new AbortController();
  const cancelled = assert.rejects(session.call("vm_run", { command, wait_seconds: 50 }, cancelling.signal));
  await microVm();
  cancelling.abort();
  await cancelled;
  await untilGone(() => processesOf(paths, VMM_OR_SANDBOX), 10_000);
  assert.equal((await session.run(["echo", "goes on"])).stdout, "goes on\n");

  const leaving = await Session.open();
  const left = assert.rejects(leaving.call("vm_run", { command, wait_seconds: 50 }));
  await microVm();
  await leaving.client.close();
  await left;
  await untilGone(() => processesOf(paths, VMM_OR_SANDBOX), 10_000);
});

test("a server starts its daemon; a first boot goes on behind ENVIRONMENT_PREPARING, and a later call works", {
  timeout: 120_000,
}, async () => {
  await using home = await ownHome({ templates: false });
  await using session = await Session.open(home.path);
  const command = "echo ran >>/workspace/log; cat /workspace/log";
  const error = await session.fails("vm_run", { command, wait_seconds: 0 });
  assert.equal(error.code, "ENVIRONMENT_PREPARING");
  assert.equal(error.retryable, true);
  const result = await session.run(command);
  assert.equal(result.stdout, "ran\n");
  assert.equal(result.state, "exited");
});

test("a daemon that is stopped ends what it went on preparing for nobody, and leaves no one behind with its lock", {
  timeout: 120_000,
}, async () => {
  await using home = await ownHome({ templates: true });
  // A registry that never says anything: a pull of its image takes its time.
  const registry = createServer(() => {});
  await new Promise<void>((resolve) => registry.listen(0, "127.0.0.1", resolve));
  try {
    await using session = await Session.open(home.path);
    const { port } = registry.address() as AddressInfo;
    const environment = `127.0.0.1:${port}/never/answers:1`;
    const error = await session.fails("vm_run", { environment, command: "true", wait_seconds: 0 });
    assert.equal(error.code, "ENVIRONMENT_PREPARING");
    const pid = await home.pid();
    const started = Date.now();
    assert.equal((await pyro(["daemon", "stop"], { env: home.env })).status, 0);
    await untilGone(async () => (existsSync(`/proc/${pid}`) ? [pid] : []), 5000);
    assert.ok(Date.now() - started < 10_000);
    assert.equal(await runOk(["--", "echo", "on"], { env: home.env }), "on\n");
  } finally {
    registry.closeAllConnections();
    registry.close();
  }
});

test("no wait at all starts a command where everything is prepared, and a short page says that there is more", async () => {
  await using session = await Session.open();
  await session.run(["true"]);
  const started = await session.run("for i in 1 2 3; do head -c 1000 /dev/zero | tr '\\0' $i; sleep 0.2; done", {
    wait_seconds: 0,
  });
  const { vm_id, process_id } = started;
  for (let state = started.state; state === "running"; ) {
    state = (await session.call("process_read", { vm_id, process_id, wait_seconds: 5, max_bytes: 65_536 })).state;
  }
  const page = await session.call("process_read", { vm_id, process_id, max_bytes: 1000 });
  assert.equal(page.state, "exited");
  assert.equal(page.stdout, "1".repeat(1000));
  assert.equal(page.stdout_truncated, true);
});
