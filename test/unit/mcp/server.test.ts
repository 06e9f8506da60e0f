// The MCP server as an agent meets it: the official client, over stdio, from a process of its own.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { Conversation, greet, type Home, listen, runOutput, temporaryHome } from "../client/fake-daemon.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");

async function connect(home: Home, profile = "workspace-full") {
  const client = new Client({ name: "test", version: "1" });
  const transport = new StdioClientTransport({
    command: process.execPath,
    args: [PYRO, "mcp", "serve", "--profile", profile],
    env: { PATH: process.env.PATH ?? "", PYRO_HOME: home.directory },
    stderr: "inherit",
  });
  await client.connect(transport);
  return { client, transport, [Symbol.asyncDispose]: () => client.close() };
}

type Json = Record<string, unknown>;

const CORE = [
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

function errorOf(result: unknown): Json {
  const { isError, content } = result as { isError?: boolean; content: { text: string }[] };
  assert.equal(isError, true);
  return (JSON.parse(content[0]?.text ?? "") as { error: Json }).error;
}

test("tools are listed without a daemon, complete and within the limits of the contract", async () => {
  await using home = await temporaryHome();
  const names: Record<string, string[]> = {};
  for (const profile of ["vm-run", "workspace-core", "workspace-full"]) {
    await using session = await connect(home, profile);
    const { tools } = await session.client.listTools();
    names[profile] = tools.map(({ name }) => name).sort();
    for (const tool of tools) {
      assert.ok(tool.title && tool.description && tool.description.length <= 1500, tool.name);
      assert.equal(tool.inputSchema.type, "object");
      assert.equal(tool.inputSchema.additionalProperties, false);
      assert.equal(tool.outputSchema?.type, "object");
      for (const hint of ["readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"] as const) {
        assert.equal(typeof tool.annotations?.[hint], "boolean", `${tool.name} ${hint}`);
      }
    }
    const run = tools.find(({ name }) => name === "vm_run");
    const properties = run?.inputSchema.properties as Record<string, { default?: unknown; maximum?: unknown }>;
    assert.equal(properties.wait_seconds?.default, 30);
    assert.equal(properties.wait_seconds?.maximum, 50);
    assert.equal("tty" in properties, false);
  }
  assert.deepEqual(names, {
    "vm-run": ["process_read", "vm_run"],
    "workspace-core": CORE,
    "workspace-full": [
      "env_list",
      "network_log",
      "network_set",
      "process_list",
      "process_read",
      "process_signal",
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
      "vm_run",
      "workspace_clone",
      "workspace_create",
      "workspace_delete",
      "workspace_diff",
      "workspace_disk_export",
      "workspace_disk_list",
      "workspace_disk_read",
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
      "workspace_start",
      "workspace_status",
      "workspace_stop",
      "workspace_summary",
      "workspace_sync_push",
      "workspace_update",
    ],
  });
  assert.ok(CORE.length <= 20);
});

test("vm_run: whole result within 9,000 bytes, head and tail, nothing split, not UTF-8 said", async () => {
  await using home = await temporaryHome();
  let head: unknown;
  const line = 'é "quoted"\t\u0001 line\n';
  const printed = Buffer.from(line.repeat(20_000));
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    head = talk.head;
    for (let at = 0; at < printed.length; at += 7777) {
      const chunk = printed.subarray(at, at + 7777);
      talk.output("stdout", at + chunk.length, chunk);
    }
    talk.output("stderr", printed.length + 4, Buffer.from([0x61, 0xff, 0xfe, 0x62]));
    talk.finish(runOutput(talk.head.vm_id ?? "", { next_cursor: "77", command: ["x".repeat(100_000)] }));
  });
  await using session = await connect(home);
  const result = await session.client.callTool({ name: "vm_run", arguments: { command: ["make"], wait_seconds: 10 } });
  const { attached, stdin_closed } = head as { attached: boolean; stdin_closed: boolean };
  assert.deepEqual({ attached, stdin_closed }, { attached: false, stdin_closed: true });
  const structured = result.structuredContent as Json;
  assert.deepEqual(JSON.parse((result.content as { text: string }[])[0]?.text ?? ""), structured);
  const size = Buffer.byteLength(JSON.stringify({ content: result.content, structuredContent: structured }));
  assert.ok(size <= 9000, String(size));
  assert.ok(size > 8000, `much of the room is unused: ${size}`);
  const stdout = String(structured.stdout);
  assert.ok(stdout.startsWith(line) && stdout.endsWith(line));
  assert.ok(!stdout.includes("\ufffd"));
  const kept = Buffer.byteLength(stdout.replace(/\n\[\d+ bytes omitted\]\n/, ""));
  assert.equal(structured.omitted_bytes, printed.length - kept);
  assert.equal(structured.stdout_truncated, true);
  assert.equal(structured.stdout_lossy, false);
  assert.equal(structured.stderr, "a\ufffd\ufffdb");
  assert.equal(structured.stderr_lossy, true);
  assert.equal(structured.stderr_encoding, "utf-8");
  assert.equal(structured.next_cursor, "77");

  const more = await session.client.callTool({ name: "vm_run", arguments: { command: ["make"], max_bytes: 40_000 } });
  const long = (more.structuredContent as Json).stdout as string;
  assert.ok(Buffer.byteLength(long) > 20_000 && Buffer.byteLength(long) <= 40_100, String(Buffer.byteLength(long)));
});

test("wrong arguments, and errors of the daemon, speak to a model", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, (_request, response) => {
    greet(response, 503);
    const error = {
      code: "ENVIRONMENT_PREPARING",
      message: "Being built.",
      hint: "run `pyro env pull`",
      retryable: true,
    };
    response.end(JSON.stringify({ error }));
  });
  await using session = await connect(home);
  const ask = (name: string, args: Json) => session.client.callTool({ name, arguments: args });
  const misspelt = errorOf(await ask("vm_run", { command: ["true"], timeout_second: 3 }));
  assert.equal(misspelt.code, "INVALID_INPUT");
  assert.match(String(misspelt.message), /timeout_second\. Did you mean timeout_seconds\?/);
  assert.equal(errorOf(await ask("vm_run", {})).code, "INVALID_INPUT");
  assert.equal(errorOf(await ask("vm_run", { command: "x", wait_seconds: 51 })).code, "INVALID_INPUT");
  assert.equal(errorOf(await ask("vm_run", { command: "x", tty: true })).code, "INVALID_INPUT");
  const preparing = errorOf(await ask("vm_run", { command: "x" }));
  assert.equal(preparing.code, "ENVIRONMENT_PREPARING");
  assert.equal(preparing.retryable, true);
  assert.ok(!String(preparing.hint).includes("pyro "), String(preparing.hint));
  await assert.rejects(ask("no_such_tool", {}));
});

test("process_read asks for less until the whole fits, with a true cursor", async () => {
  await using home = await temporaryHome();
  const asked: number[] = [];
  await using _fake = await listen(home.where, async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const { max_bytes } = JSON.parse(Buffer.concat(chunks).toString()) as { max_bytes: number };
    asked.push(max_bytes);
    greet(response);
    const stdout = "\u0001".repeat(max_bytes);
    response.end(JSON.stringify(runOutput("vm_x", { stdout, next_cursor: String(max_bytes) })));
  });
  await using session = await connect(home);
  const args = { vm_id: "vm_x", process_id: "proc_1" };
  const result = await session.client.callTool({ name: "process_read", arguments: args });
  const structured = result.structuredContent as Json;
  assert.ok(Buffer.byteLength(JSON.stringify(result)) <= 9000);
  assert.ok(asked.length > 1);
  assert.equal(structured.next_cursor, String(String(structured.stdout).length));
});

test("progress is sent, a cancelled request cancels the run, and the server ends with its stdin", async () => {
  await using home = await temporaryHome();
  const cancelled = Promise.withResolvers<unknown>();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    for (const message of ["one", "two"]) {
      talk.json(ToClient.Event, { type: "progress", message, stage: "build", fraction: null });
    }
    for (;;) {
      const frame = await talk.next();
      if (frame === undefined) return;
      if (frame.type !== ToDaemon.Control) continue;
      cancelled.resolve(JSON.parse(Buffer.from(frame.payload).toString()));
      talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    }
  });
  await using session = await connect(home);
  const abort = new AbortController();
  const told: unknown[] = [];
  const pending = session.client.callTool(
    { name: "vm_run", arguments: { command: ["sleep", "100"] } },
    {
      signal: abort.signal,
      onprogress: ({ progress, message }) => {
        told.push([progress, message]);
        if (told.length === 2) abort.abort();
      },
    },
  );
  await assert.rejects(pending);
  assert.deepEqual(await cancelled.promise, { type: "cancel" });
  assert.deepEqual(told, [
    [1, "one"],
    [2, "two"],
  ]);
  const pid = session.transport.pid;
  assert.ok(pid);
  const began = Date.now();
  await session.client.close();
  // The client's own patience before it kills is two seconds.
  assert.ok(Date.now() - began < 1500);
  assert.throws(() => process.kill(pid, 0));
});
