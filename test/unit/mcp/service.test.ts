// Services over MCP against a daemon whose answers the test chooses: waits that end, results that fit, and what a request
// that was cancelled, or a client that has gone, does to a start.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { PyroError } from "../../../src/errors/error.ts";
import { ToClient } from "../../../src/wire/protocol.ts";
import { type Conversation, temporaryHome } from "../client/fake-daemon.ts";
import { answerRows, control, type Json } from "../client/fake-rows.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");
const RESULT_BYTES = 9000;

async function connect(home: { directory: string }): Promise<Client & AsyncDisposable> {
  const client = new Client({ name: "test", version: "1" });
  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: home.directory, HOME: "/nowhere" };
  const args = [PYRO, "mcp", "serve", "--profile", "workspace-full"];
  await client.connect(new StdioClientTransport({ command: process.execPath, args, env, stderr: "inherit" }));
  return Object.assign(client, { [Symbol.asyncDispose]: () => client.close() });
}

async function ask(client: Client, name: string, args: Json): Promise<{ told: Json; isError: boolean }> {
  const result = await client.callTool({ name, arguments: { workspace_id: "w", service_name: "web", ...args } });
  const { content, structuredContent } = result;
  const size = Buffer.byteLength(JSON.stringify({ content, structuredContent }));
  assert.ok(size <= RESULT_BYTES, `${name}: ${size} bytes`);
  const [text] = content as { text: string }[];
  return { told: JSON.parse(text?.text ?? "") as Json, isError: result.isError === true };
}

function record(state: string, change: Json = {}): Json {
  const times = { started_at: "2026-01-01T00:00:00Z", ready_at: null, ended_at: null };
  const service = { workspace_id: "ws_x", service_name: "web", state, command: ["x"], cwd: "/workspace", ...times };
  return {
    ...service,
    exit_code: null,
    readiness: null,
    stop_reason: null,
    failure: null,
    published_ports: [],
    ...change,
  };
}

test("a start answers within the wait; a failure keeps the end of its log, however long all else is", async () => {
  await using home = await temporaryHome();
  await using _fake = await answerRows(home, {
    "service.start": ({ wait_seconds, command }, talk) => {
      assert.ok(Number(wait_seconds) <= 2);
      if (command === "ok") return talk.finish(record("starting"));
      const log_tail = `${"é".repeat(900)}\nthe last words\n`;
      const details = {
        log_tail,
        log_tail_encoding: "utf-8",
        service: record("failed", { command: Array(90).fill("w".repeat(900)) }),
      };
      talk.json(
        ToClient.Error,
        new PyroError("SERVICE_FAILED", "The service web has failed: no.", { details }).toData(),
      );
    },
  });
  await using client = await connect(home);
  assert.equal((await ask(client, "service_start", { command: "ok", wait_seconds: 2 })).told.state, "starting");
  const { told, isError } = await ask(client, "service_start", { command: "bad", wait_seconds: 2 });
  assert.equal(isError, true);
  const error = told.error as { code: string; hint: string; details: { log_tail: string } };
  assert.equal(error.code, "SERVICE_FAILED");
  assert.match(error.details.log_tail, /é\nthe last words\n$/);
  assert.doesNotMatch(error.hint, /\bpyro\b|--/);
});

test("a cancelled request ends the start, a client that has gone does not", async () => {
  await using home = await temporaryHome();
  const heard: string[] = [];
  const talk = async (_: Json, one: Conversation) => {
    const said = control(one).then(
      (frame) => `said ${JSON.stringify(frame)}`,
      () => "hung up",
    );
    heard.push(await Promise.race([said, sleep(8000, "nothing")]));
    one.json(ToClient.Error, new PyroError("CANCELLED", "Cancelled.").toData());
  };
  await using _fake = await answerRows(home, { "service.start": talk });
  const args = { workspace_id: "w", service_name: "web", command: "x" };
  {
    await using client = await connect(home);
    const abort = new AbortController();
    const call = client.callTool({ name: "service_start", arguments: args }, { signal: abort.signal });
    setTimeout(() => abort.abort(), 800);
    await assert.rejects(call);
    while (heard.length === 0) await sleep(20);
    assert.deepEqual(heard, ['said {"type":"cancel"}']);
    const left = client.callTool({ name: "service_start", arguments: args }).catch(() => {});
    await sleep(800);
    await client.close();
    await left;
  }
  while (heard.length < 2) await sleep(20);
  assert.doesNotMatch(heard[1] ?? "", /cancel/);
});

test("a log that is too large is asked for again, smaller, from the same cursor", async () => {
  await using home = await temporaryHome();
  const sizes: number[] = [];
  await using _fake = await answerRows(home, {
    "service.logs": ({ max_bytes, cursor }, talk) => {
      sizes.push(Number(max_bytes));
      assert.equal(cursor, "c5");
      // Each byte of it takes six as JSON, twice.
      const output = "\u0001".repeat(Number(max_bytes));
      const facts = { workspace_id: "ws_x", service_name: "web", state: "running", exit_code: null };
      const next_cursor = `c${5 + output.length}`;
      talk.finish({ ...facts, output, output_encoding: "utf-8", omitted_bytes: 0, next_cursor, redacted: false });
    },
  });
  await using client = await connect(home);
  const { told } = await ask(client, "service_logs", { cursor: "c5" });
  assert.equal(told.next_cursor, `c${5 + String(told.output).length}`);
  assert.ok(sizes.length > 1 && (sizes.at(-1) ?? 0) < (sizes[0] ?? 0), sizes.join(" "));
});
