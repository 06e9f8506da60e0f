// What every tool may put before a model, whatever a daemon answers and whatever was asked: the bounds of the contract, and
// the tool's own schema. Answers are made from the rows' schemas, with as much in them as there can be.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { z } from "zod";
import { PyroError } from "../../../src/errors/error.ts";
import type { Operation } from "../../../src/operations/define.ts";
import { FACTS } from "../../../src/operations/facts.ts";
import { OPERATIONS, type OperationName } from "../../../src/operations/table.ts";
import { ToClient } from "../../../src/wire/protocol.ts";
import { type Conversation, temporaryHome } from "../client/fake-daemon.ts";
import { answerRows, type Json, type Rows } from "../client/fake-rows.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");
const RESULT_BYTES = 9000;
/** No client gives a call up before this, ms. */
const CLIENT_MS = 60_000;
const MANY = 60;
/** Of what each of many has in its turn: a daemon's answer has its own limit. */
const FEW = 8;
const LONG = 'é "quoted" \\ \u0001 '.repeat(25);
/** What is compared or used again, and what has a limit of its own. */
const SHORT = /(^|_)(id|cursor|digest|at|sequence)$|^(environment|name|code)$|_name$|^host$/;

interface Schema {
  readonly type?: string | readonly string[];
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly additionalProperties?: Schema | boolean;
}

/** As large as a row's answer gets when so many entries, and so much output, was asked for. */
function largest(schema: Schema, key: string, asked: { items: number; bytes: number }): unknown {
  if (schema.const !== undefined) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return largest(schema.anyOf.find(({ type }) => type !== "null") ?? {}, key, asked);
  const type = [schema.type].flat().find((one) => one !== "null");
  if (type === "string") return SHORT.test(key) ? "i".repeat(64) : LONG;
  if (type === "integer" || type === "number") return 1_234_567;
  if (type === "boolean") return true;
  if (type === "array") {
    return Array.from({ length: asked.items }, () => largest(schema.items ?? {}, key, { ...asked, items: FEW }));
  }
  const { properties, additionalProperties } = schema;
  if (properties === undefined) {
    const value = largest(additionalProperties as Schema, key, asked);
    return Object.fromEntries(Array.from({ length: MANY }, (_, index) => [`k${index}`, value]));
  }
  const made = Object.entries(properties).map(([name, inner]): [string, unknown] => {
    const encoding = name === "content" ? "encoding" : `${name}_encoding`;
    if (encoding in properties) return [name, LONG.slice(0, asked.bytes / 2)];
    return [name, largest(inner, name, asked)];
  });
  return Object.fromEntries(made);
}

function answerOf(name: OperationName, input: Json): Json {
  const row: Operation = OPERATIONS[name];
  const asked = { items: Number(input.limit ?? MANY), bytes: Number(input.max_bytes ?? 65_536) };
  return largest(z.toJSONSchema(row.output) as Schema, "", asked) as Json;
}

/** Of each tool what it must be given, long where it may be. */
const GIVEN: Readonly<Record<string, Json>> = {
  command: { command: "x".repeat(131_000) },
  path: { path: "p/".repeat(2000) },
  text: { text: LONG },
  old: { old: LONG, new: LONG },
  new: {},
  patch: { patch: LONG },
  input: { input: LONG },
  shell_id: { shell_id: "sh_1" },
  process_id: { process_id: "proc_1" },
  signal: { signal: "INT" },
  service_name: { service_name: "s".repeat(64) },
  snapshot_name: { snapshot_name: "s".repeat(64) },
  workspace_id: { workspace_id: "w".repeat(128) },
  source_path: { source_path: "file" },
  output_path: { output_path: ".pyro/out/made" },
  cols: { cols: 80 },
  rows: { rows: 24 },
  allow_hosts: { allow_hosts: [] },
};

async function session() {
  const home = await temporaryHome();
  const tree = await mkdtemp(join(tmpdir(), "pyro-bounds-"));
  await mkdir(join(tree, ".git"));
  await writeFile(join(tree, "file"), "content");
  let refuse = false;
  const serve = (name: OperationName) => (input: Json, talk: Conversation | undefined) => {
    if (refuse) throw new PyroError("INTERNAL", LONG.repeat(20), { details: { all: Array(MANY).fill(LONG) } });
    const answer = answerOf(name, input);
    if (!FACTS[name].streams || talk === undefined) return answer;
    if (name === "workspace.diff") {
      const { entries } = answer as { entries: Json[] };
      for (const entry of entries) talk.json(ToClient.Event, { type: "entry", entry });
    } else if (name === "run" || name === "workspace.exec") talk.output("stdout", 100_000, Buffer.alloc(100_000, '"'));
    talk.finish(answer);
    return undefined;
  };
  const rows = Object.fromEntries(Object.keys(OPERATIONS).map((name) => [name, serve(name as OperationName)])) as Rows;
  const fake = await answerRows(home, rows);
  const client = new Client({ name: "test", version: "1" });
  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: home.directory, HOME: "/nowhere" };
  const args = [PYRO, "mcp", "serve", "--profile", "workspace-full"];
  await client.connect(
    new StdioClientTransport({ command: process.execPath, args, env, cwd: tree, stderr: "inherit" }),
  );
  const end = async () => {
    await client.close();
    await fake.crash();
    await home[Symbol.asyncDispose]();
    await rm(tree, { recursive: true, force: true });
  };
  const failing = () => {
    refuse = true;
  };
  return { client, failing, [Symbol.asyncDispose]: end };
}

test("every tool's result is bounded and as its schema says, whatever is answered; its errors too; and no call outlasts a client", async () => {
  await using at = await session();
  const { tools } = await at.client.listTools();
  assert.ok(tools.length > 40);
  const args = new Map<string, Json>();
  for (const { name, description = "", inputSchema } of tools) {
    assert.ok(description.length <= 1500, name);
    const { properties = {}, required = [] } = inputSchema as {
      properties?: Record<string, Json>;
      required?: string[];
    };
    const { maximum, default: usual } = properties.wait_seconds ?? { maximum: 30, default: 30 };
    // What the daemon may take beyond it is 8 s.
    assert.ok(Number(maximum) * 1000 + 8000 < CLIENT_MS && Number(usual) <= Number(maximum), name);
    const wanted = required.map((key) => GIVEN[key] ?? assert.fail(`${name} wants ${key}`));
    const more = name === "process_read" ? { workspace_id: "w" } : {};
    args.set(name, Object.assign({}, more, ...wanted) as Json);
  }
  const sizes = async (isError: boolean) => {
    for (const [name, given] of args) {
      // The client checks a result against the tool's schema.
      const result = await at.client.callTool({ name, arguments: given });
      const { content, structuredContent } = result;
      const size = Buffer.byteLength(JSON.stringify({ content, structuredContent }));
      assert.ok(size <= RESULT_BYTES, `${name}: ${size} bytes`);
      // What should be an archive is none here.
      if (!/_export$/.test(name))
        assert.equal(result.isError === true, isError, `${name}: ${JSON.stringify(content).slice(0, 500)}`);
    }
  };
  await sizes(false);
  at.failing();
  await sizes(true);
});
