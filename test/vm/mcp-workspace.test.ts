// A workspace from its making to its end as an agent has it: the official MCP client over stdio, a real git repository of
// the host, a real microVM.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { PYRO, sharedHome } from "./harness.ts";

type Json = Record<string, unknown>;

/** Most bytes of a whole result that asked for nothing else. */
const RESULT_BYTES = 9000;

class Session implements AsyncDisposable {
  readonly client = new Client({ name: "test", version: "1" });

  /** A server that was started in `cwd`. */
  static async open(cwd: string): Promise<Session> {
    const session = new Session();
    const env = {
      PATH: process.env.PATH ?? "",
      TMPDIR: process.env.TMPDIR ?? "/tmp",
      PYRO_HOME: sharedHome(),
      PYRO_POOL_SIZE: "0",
    };
    const args = [PYRO, "mcp", "serve"];
    const server = { command: process.execPath, args, env, cwd, stderr: "inherit" } as const;
    await session.client.connect(new StdioClientTransport(server));
    return session;
  }

  async call(name: string, args: Json, signal?: AbortSignal): Promise<Json> {
    const result = await this.client.callTool({ name, arguments: args }, signal ? { signal } : {});
    assert.notEqual(result.isError, true, JSON.stringify(result.content));
    const { content, structuredContent } = result;
    const size = Buffer.byteLength(JSON.stringify({ content, structuredContent }));
    assert.ok(size <= RESULT_BYTES, `${name}: ${size} bytes`);
    return structuredContent as Json;
  }

  async fails(name: string, args: Json): Promise<Json> {
    const result = await this.client.callTool({ name, arguments: args });
    assert.equal(result.isError, true, JSON.stringify(result.content));
    const [text] = result.content as { text: string }[];
    assert.doesNotMatch(text?.text ?? "", /\bpyro [a-z-]/);
    return (JSON.parse(text?.text ?? "") as { error: Json }).error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
  }
}

/** A repository with one commit. */
async function repository() {
  const directory = await realpath(await mkdtemp(join(tmpdir(), "pyro-repository-")));
  const git = (...args: string[]) => execFileSync("git", ["-C", directory, ...args], { encoding: "utf8" });
  git("init", "--quiet");
  await writeFile(join(directory, "main.c"), "int main(void) { return 0; }\n");
  git("add", ".");
  git("-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message", "first");
  return { directory, git, [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
}

test("the story over MCP: create from a git repository, exec, push, status, logs, delete", async () => {
  await using tree = await repository();
  await using session = await Session.open(tree.directory);
  const made = await session.call("workspace_create", { name: "mcp-story", labels: { from: "mcp" } });
  const workspace_id = String(made.workspace_id);
  const { mode, seed_path } = made.seed as Json;
  assert.deepEqual([made.state, made.name, mode], ["started", "mcp-story", "directory"]);
  assert.equal(seed_path, tree.directory, "the project that the server stands in");
  try {
    const exec = (command: string | string[], more: Json = {}) =>
      session.call("workspace_exec", { workspace_id: "mcp-story", command, ...more });
    const clean = await exec(["git", "status", "--porcelain"]);
    assert.deepEqual([clean.exit_code, clean.stdout, clean.stderr], [0, "", ""]);
    const head = await exec("git rev-parse HEAD");
    assert.equal(head.stdout, tree.git("rev-parse", "HEAD"));

    await writeFile(join(tree.directory, "main.c"), "int main(void) { return 1; }\n");
    await writeFile(join(tree.directory, "new"), "new\n");
    const pushed = await session.call("workspace_sync_push", { workspace_id, source_path: tree.directory });
    assert.deepEqual([pushed.mode, pushed.destination], ["directory", "/workspace"]);
    const changed = await exec(["git", "status", "--porcelain"]);
    assert.equal(changed.stdout, " M main.c\n?? new\n");

    const forbidden = await session.fails("workspace_sync_push", { workspace_id, source_path: "/etc/hostname" });
    assert.equal(forbidden.code, "HOST_PATH_FORBIDDEN");
    assert.equal((await exec("exit 7")).exit_code, 7);

    const running = await exec("echo early; sleep 2; echo late; exit 3", { wait_seconds: 0 });
    assert.equal(running.state, "running");
    let said = String(running.stdout);
    let read = running;
    for (let turn = 0; turn < 10 && (read.state === "running" || read.stdout !== ""); turn++) {
      const { process_id, next_cursor: cursor } = read;
      read = await session.call("process_read", { workspace_id, process_id, cursor });
      said += String(read.stdout);
    }
    assert.deepEqual([said, read.exit_code], ["early\nlate\n", 3]);

    // A request that is cancelled ends its command, with all that it started.
    const abort = new AbortController();
    const cancelled = session.call(
      "workspace_exec",
      { workspace_id, command: "sleep 4321 & sleep 4321" },
      abort.signal,
    );
    setTimeout(() => abort.abort(), 1500);
    await assert.rejects(cancelled);
    const gone = await exec("for turn in 1 2 3 4 5; do pgrep -x sleep || exit 0; sleep 0.5; done; exit 1");
    assert.equal(gone.exit_code, 0, String(gone.stdout));

    const status = await session.call("workspace_status", { workspace_id });
    assert.deepEqual([status.state, status.workspace_id, status.labels], ["started", workspace_id, { from: "mcp" }]);
    assert.equal(status.command_count, 7);
    const { workspaces } = (await session.call("workspace_list", { labels: { from: "mcp" } })) as {
      workspaces: Json[];
    };
    assert.deepEqual(
      workspaces.map(({ name }) => name),
      ["mcp-story"],
    );
    const sequences: unknown[] = [];
    for (let cursor: unknown; cursor !== null; ) {
      const page = await session.call("workspace_logs", { workspace_id, limit: 4, ...(cursor ? { cursor } : {}) });
      sequences.push(...(page.entries as Json[]).map(({ sequence }) => sequence));
      cursor = page.next_cursor;
    }
    assert.deepEqual(sequences, [1, 2, 3, 4, 5, 6, 7]);
  } finally {
    assert.equal((await session.call("workspace_delete", { workspace_id })).deleted, true);
  }
  assert.equal((await session.fails("workspace_status", { workspace_id })).code, "WORKSPACE_NOT_FOUND");
});

test("a command goes on when the client goes, and its output is in the log", async () => {
  await using tree = await repository();
  await using first = await Session.open(tree.directory);
  const { workspace_id } = await first.call("workspace_create", {});
  // A client that gives a call up and says nothing of it finds what it began.
  const given = { name: "workspace_exec", arguments: { workspace_id, command: "sleep 1; echo on", wait_seconds: 0 } };
  await first.client.transport?.send({ jsonrpc: "2.0", id: "dropped", method: "tools/call", params: given });
  let dropped: Json = { state: "running" };
  const process_id = "proc_1";
  while ((await first.call("workspace_status", { workspace_id })).command_count === 0);
  while (dropped.state === "running") dropped = await first.call("process_read", { workspace_id, process_id });
  assert.deepEqual([dropped.exit_code, dropped.stdout], [0, "on\n"]);

  const command = "sleep 3; echo went on";
  const left = first.call("workspace_exec", { workspace_id, command }).catch(() => {});
  for (let count: unknown = 1; count === 1; ) {
    count = (await first.call("workspace_status", { workspace_id })).command_count;
  }
  await first.client.close();
  await left;
  await using second = await Session.open(tree.directory);
  try {
    const ids = { workspace_id, process_id: "proc_2" };
    const deadline = Date.now() + 30_000;
    let read = await second.call("process_read", { ...ids, wait_seconds: 10 });
    while (read.state === "running" && Date.now() < deadline) {
      read = await second.call("process_read", { ...ids, wait_seconds: 5 });
    }
    assert.deepEqual([read.state, read.exit_code, read.stdout], ["exited", 0, "went on\n"]);
  } finally {
    await second.call("workspace_delete", { workspace_id });
  }
});
