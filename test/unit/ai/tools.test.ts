// Tools for the Vercel AI SDK, as its own loop uses them: a model that follows a script, against a daemon whose answers the
// test chooses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { generateText, isStepCount } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { pyroTools } from "../../../src/ai/index.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { OPERATIONS } from "../../../src/operations/table.ts";
import { Pyro } from "../../../src/sdk/index.ts";
import { ToClient } from "../../../src/wire/protocol.ts";
import { temporaryHome } from "../client/fake-daemon.ts";
import { answerRows, control, execOutput, type Json, type Rows } from "../client/fake-rows.ts";

const usage = {
  inputTokens: { total: 0, noCache: 0, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 0, text: 0, reasoning: 0 },
};

/** A model that makes these calls, one in each step, and then says that it is done. */
function scripted(calls: readonly { readonly toolName: string; readonly input: Json }[]) {
  let step = 0;
  return new MockLanguageModelV4({
    doGenerate: async () => {
      const next = calls[step++];
      const answer = { usage, warnings: [] };
      if (next === undefined) {
        const content = [{ type: "text" as const, text: "done" }];
        return { content, finishReason: { unified: "stop", raw: undefined }, ...answer };
      }
      const call = { toolCallId: `call-${step}`, toolName: next.toolName, input: JSON.stringify(next.input) };
      const content = [{ type: "tool-call" as const, ...call }];
      return { content, finishReason: { unified: "tool-calls", raw: undefined }, ...answer };
    },
  });
}

type Tools = Awaited<ReturnType<typeof pyroTools>>;

async function execute(tools: Tools, name: string, input: Json, abortSignal?: AbortSignal): Promise<Json> {
  const tool = tools[name];
  assert.ok(tool, name);
  return await tool.execute(input, { abortSignal });
}

async function client(rows: Rows) {
  const home = await temporaryHome();
  const fake = await answerRows(home, rows);
  const pyro = new Pyro({ home: home.directory });
  const end = async () => {
    await pyro.close();
    await fake.crash();
    await home[Symbol.asyncDispose]();
  };
  return { pyro, asked: fake.asked, [Symbol.asyncDispose]: end };
}

test("a profile's tools are those of MCP, with schemas that stand alone", async () => {
  await using at = await client({});
  for (const profile of ["vm-run", "workspace-core", "workspace-full"] as const) {
    const tools = await pyroTools(at.pyro, { profile });
    const expected = Object.values(OPERATIONS).flatMap(({ mcp, profiles }) => {
      return "tool" in mcp && (profiles as readonly string[]).includes(profile) ? [mcp.tool] : [];
    });
    assert.deepEqual(Object.keys(tools).sort(), expected.sort());
    for (const { description, inputSchema } of Object.values(tools)) {
      assert.ok(description.length <= 1500);
      const schema = inputSchema["~standard"].jsonSchema.input({ target: "draft-07" });
      assert.deepEqual([schema.type, schema.additionalProperties], ["object", false]);
    }
  }
  assert.deepEqual(at.asked, [], "no daemon is asked for that");
});

test("a loop of calls: results are bounded, errors say what to do, and the model reads both", async () => {
  await using at = await client({
    "workspace.exec": (_, talk) => {
      talk.output("stdout", 200_000, Buffer.alloc(200_000, "x"));
      talk.finish(execOutput("ws_x", { next_cursor: "200000" }));
    },
    "workspace.status": () => {
      throw new PyroError("WORKSPACE_NOT_FOUND", "There is no workspace ws_y.");
    },
  });
  const model = scripted([
    { toolName: "workspace_exec", input: { workspace_id: "ws_x", command: "yes" } },
    { toolName: "workspace_status", input: { workspace_id: "ws_y" } },
    { toolName: "workspace_status", input: { workspace: "ws_y" } },
    { toolName: "workspace_sync_push", input: { workspace_id: "ws_x", source_path: import.meta.filename } },
  ]);
  const { steps, text } = await generateText({
    model,
    tools: await pyroTools(at.pyro),
    stopWhen: isStepCount(9),
    prompt: "Go on.",
  });
  assert.equal(text, "done");
  const parts = steps.flatMap(({ content }) => content);
  const [result] = parts.filter(({ type }) => type === "tool-result") as { output: Json }[];
  const size = Buffer.byteLength(JSON.stringify(result?.output));
  assert.ok(size > 3000 && size < 4600, `${size} bytes`);
  assert.match(String(result?.output.stdout), /^x+\n\[\d+ bytes omitted\]\nx+$/);
  const errors = parts.flatMap((part) => (part.type === "tool-error" ? [part.error as PyroError] : []));
  assert.deepEqual(
    errors.map(({ code }) => code),
    ["WORKSPACE_NOT_FOUND", "INVALID_INPUT", "HOST_PATH_FORBIDDEN"],
  );
  const seen = JSON.stringify(model.doGenerateCalls.at(-1)?.prompt);
  assert.match(seen, /WORKSPACE_NOT_FOUND: There is no workspace ws_y\. .*`workspace_list`/);
  assert.match(seen, /workspace_id.*HOST_PATH_FORBIDDEN: .* no path of the host/);
});

test("an abort ends what it started, before and while it runs, and so does closing the client", async () => {
  const cancelled: unknown[] = [];
  const begun = Promise.withResolvers<void>();
  const rows: Rows = {
    run: async (_, talk) => {
      begun.resolve();
      cancelled.push(await control(talk));
      talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    },
  };
  await using at = await client(rows);
  const tools = await pyroTools(at.pyro, { profile: "vm-run" });
  const run = (signal?: AbortSignal) => execute(tools, "vm_run", { command: "x" }, signal);
  const reason = new Error("enough");
  await assert.rejects(run(AbortSignal.abort(reason)), reason);
  const abort = new AbortController();
  const running = assert.rejects(run(abort.signal), reason);
  await begun.promise;
  abort.abort(reason);
  await running;
  const left = assert.rejects(run(), { code: "CANCELLED" });
  await at.pyro.close();
  await left;
  assert.deepEqual(cancelled[0], { type: "cancel" });
});

test("tools of a workspace are for that one, which they do not end", async () => {
  await using at = await client({
    "workspace.exec": ({ workspace_id }, talk) => talk.finish(execOutput(String(workspace_id))),
  });
  const tools = await pyroTools(at.pyro.workspace("mine"), { profile: "workspace-full" });
  for (const name of ["workspace_create", "workspace_delete", "workspace_clone", "workspace_list", "vm_run"]) {
    assert.equal(tools[name], undefined, name);
  }
  for (const { inputSchema } of Object.values(tools)) {
    const { properties } = inputSchema["~standard"].jsonSchema.input({ target: "draft-07" }) as { properties: Json };
    assert.deepEqual(
      Object.keys(properties).filter((key) => /^(workspace|vm)_id$/.test(key)),
      [],
    );
  }
  const exec = (more: Json) => execute(tools, "workspace_exec", { command: "true", ...more });
  assert.equal((await exec({})).workspace_id, "mine");
  assert.equal((await exec({ workspace_id: "mine" })).workspace_id, "mine");
  await assert.rejects(exec({ workspace_id: "other" }), { code: "INVALID_INPUT" });
  const read = execute(tools, "process_read", { process_id: "proc_1", vm_id: "vm_x" });
  await assert.rejects(read, { code: "INVALID_INPUT" });
  assert.deepEqual(
    at.asked.map(({ input }) => input.workspace_id),
    ["mine", "mine"],
  );
});

test("options that cannot be are refused", async () => {
  await using at = await client({});
  await assert.rejects(pyroTools(at.pyro, { allowRead: ["/no/such/place"] }), { code: "INVALID_INPUT" });
  await assert.rejects(pyroTools(at.pyro, { projectPath: "/" }), { code: "INVALID_INPUT" });
  await assert.rejects(pyroTools(at.pyro, { secrets: ["TOKEN=literal-value"] }), { code: "SECRET_LITERAL" });
  await assert.rejects(pyroTools({} as Pyro), { code: "INVALID_INPUT" });
});
