// The project that a server stands in: a workspace begins with it unless something else is asked for, and a model is told.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdir, mkdtemp, realpath, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { type Home, temporaryHome } from "../client/fake-daemon.ts";
import { answerRows, type Json, workspaceRecord } from "../client/fake-rows.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");

interface Started {
  readonly cwd: string;
  readonly args?: readonly string[];
  readonly userHome?: string;
  readonly profile?: string;
}

/** What a server says of its project, and what workspace_create makes of an input: an error's code, or the seed's path. */
async function open(home: Home, { cwd, args = [], userHome = "/nowhere", profile = "workspace-core" }: Started) {
  const client = new Client({ name: "test", version: "1" });
  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: home.directory, HOME: userHome };
  const words = [PYRO, "mcp", "serve", "--profile", profile, ...args];
  await client.connect(
    new StdioClientTransport({ command: process.execPath, args: words, env, cwd, stderr: "inherit" }),
  );
  const { tools } = await client.listTools();
  const description = tools.find(({ name }) => name === "workspace_create")?.description ?? "";
  const create = async (input: Json): Promise<unknown> => {
    const result = await client.callTool({ name: "workspace_create", arguments: input });
    const [text] = result.content as { text: string }[];
    const told = JSON.parse(text?.text ?? "") as { error?: Json; seed: Json };
    return result.isError ? told.error?.code : told.seed.seed_path;
  };
  const instructions = client.getInstructions() ?? "";
  return { instructions, description, create, [Symbol.asyncDispose]: () => client.close() };
}

async function ground() {
  const at = await realpath(await mkdtemp(join(tmpdir(), "pyro-project-")));
  const tree = join(at, "tree");
  await mkdir(join(tree, ".git"), { recursive: true });
  await mkdir(join(tree, "src"));
  await writeFile(join(tree, "file"), "content");
  const home = await temporaryHome();
  const fake = await answerRows(home, {
    "workspace.create": async ({ seed_path = null, seed }, talk) => {
      assert.equal(seed, undefined, "that is between a model and its server");
      assert.equal(talk.head.upload === true, seed_path !== null);
      const facts = { mode: "directory", entry_count: 1, bytes_written: 1, skipped: [], skipped_count: 0 };
      talk.finish(workspaceRecord(talk.head.request_id ?? "", { seed: { ...facts, seed_path } }));
    },
  });
  const end = async () => {
    await fake.crash();
    await home[Symbol.asyncDispose]();
    await rm(at, { recursive: true, force: true });
  };
  return { at, tree, home, [Symbol.asyncDispose]: end };
}

test("in a work tree a workspace begins with it, unless another seed or none is asked for", async () => {
  await using g = await ground();
  await using server = await open(g.home, { cwd: join(g.tree, "src") });
  for (const told of [server.instructions, server.description])
    assert.ok(told.includes(`project is ${g.tree}: `), told);
  assert.ok(server.description.length <= 1500);
  assert.equal(await server.create({}), g.tree);
  assert.equal(await server.create({ seed: "project", exclude: ["src"] }), g.tree);
  assert.equal(await server.create({ seed: "empty" }), null);
  assert.equal(await server.create({ seed_path: "." }), join(g.tree, "src"));
  assert.equal(await server.create({ seed_path: ".", seed: "empty" }), "INVALID_INPUT");
  assert.equal(await server.create({ seed: "all" }), "INVALID_INPUT");
  await using run = await open(g.home, { cwd: g.tree, profile: "vm-run" });
  assert.doesNotMatch(run.instructions, /project is/);
});

test("outside of one there is no project, and the home directory is none", async () => {
  await using g = await ground();
  for (const started of [
    { cwd: g.at },
    { cwd: g.tree, userHome: g.tree },
    { cwd: g.tree, userHome: join(g.tree, "me") },
  ]) {
    await using server = await open(g.home, started);
    assert.doesNotMatch(server.instructions + server.description, /project is/);
    assert.equal(await server.create({}), null);
    assert.equal(await server.create({ seed: "project" }), "INVALID_INPUT");
  }
});

test("--project-path is the project and may be read, --no-project-source leaves it to the model", async () => {
  await using g = await ground();
  const named = ["--project-path", join(g.tree, "src")];
  await using other = await open(g.home, { cwd: g.at, args: named });
  assert.equal(await other.create({}), join(g.tree, "src"));
  assert.equal(await other.create({ seed_path: g.tree }), "HOST_PATH_FORBIDDEN");
  await using quiet = await open(g.home, { cwd: g.at, args: [...named, "--no-project-source"] });
  assert.match(quiet.instructions, /when seed is "project"/);
  assert.equal(await quiet.create({}), null);
  assert.equal(await quiet.create({ seed: "project" }), join(g.tree, "src"));

  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: g.home.directory, HOME: g.tree };
  for (const path of ["/", g.at, g.tree, join(g.at, "nothing"), join(g.tree, "file")]) {
    const words = [PYRO, "mcp", "serve", "--project-path", path, "--json"];
    const { status, stdout } = spawnSync(process.execPath, words, { env, encoding: "utf8", input: "" });
    const { error } = JSON.parse(stdout) as { error: Json };
    assert.deepEqual([status, error.code], [2, "INVALID_INPUT"], path);
    assert.match(String(error.message), /^--project-path: /);
  }
});
