// A workspace from its making to its end in real Firecracker, over each face: create, push, exec, delete; and what came of it taken out.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { after, before, test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro } from "pyro-mcp";
import type { OutputOf } from "../../src/operations/table.ts";
import { startHosts } from "../network/internet.ts";
import { type OwnHome, ownHome, PYRO, pyro } from "../vm/harness.ts";
import { untilAtRest, untilNothingRuns } from "../vm/remains.ts";
import { scratch, Workspaces } from "../vm/workspaces.ts";
import { checkLab, STEP_MS } from "./lab.ts";

const SCRIPT = "import sys; print('pushed', open('/workspace/data').read().strip(), sys.version_info[0])\n";
const SAID = "pushed 42 3\n";

/** Of documentation, and no address of the host's own: a route makes it local in the lab, where nobody else has it. */
const PUBLIC = "203.0.113.10";
const NETWORK = { PYRO_NAME_SERVERS: PUBLIC, PYRO_PUBLIC_RANGES: `${PUBLIC}/32` };
const GREETER = "import socket\ns = socket.create_server(('', 8000))\nwhile True: s.accept()[0].sendall(b'hello')";

let home: OwnHome;

before(async () => {
  checkLab();
  home = await ownHome({ templates: true });
});

after(async () => {
  await home[Symbol.asyncDispose]();
  await untilNothingRuns(home);
});

async function project() {
  const tree = await scratch();
  await mkdir(join(tree.path, "sub"));
  await writeFile(join(tree.path, "main.py"), SCRIPT);
  await writeFile(join(tree.path, "data"), "42\n");
  return tree;
}

async function nothingLeft(): Promise<void> {
  await untilAtRest(home, () => ({ vms: 0, runs: 0, workspaces: 0 }));
}

test("from the command line, with a network over vsock", { timeout: 4 * STEP_MS }, async () => {
  await using tree = await project();
  const all = new Workspaces({ ...home.env, ...NETWORK });
  const policy = ["--network-policy", "egress+published-ports", "--allow-host", "ok.example"];
  const workspace = await all.create(["--name", "smoke", ...policy]);
  assert.deepEqual([workspace.record.driver, workspace.record.acceleration], ["firecracker", "kvm"]);
  assert.equal((await workspace.push(tree.path)).entry_count, 3);
  assert.equal(await workspace.ok(["python3", "main.py"]), SAID);
  assert.equal((await workspace.exec(["sh", "-c", "exit 7"])).status, 7);
  execFileSync("ip", ["route", "add", "local", `${PUBLIC}/32`, "dev", "lo"]);
  const names = { "ok.example": [[PUBLIC]], "other.example": [[PUBLIC]] };
  await using _hosts = await startHosts(tree.path, { addresses: [PUBLIC], names });
  const script = "curl -sS http://ok.example/; curl -s http://other.example/ || echo refused";
  assert.equal(await workspace.sh(script), "hello from ok.example\nrefused\n");
  const start = ["service", "start", workspace.id, "web", "--ready-tcp", "localhost:8000", "--publish", "8000"];
  const service = [...start, "--", "python3", "-c", GREETER];
  const [port] = (await all.ask<OutputOf<"service.start">>(service)).published_ports;
  assert.equal(await text(connect(port?.host_port ?? 0, "127.0.0.1")), "hello");
  await workspace.delete();
  await nothingLeft();
});

test("from the SDK", { timeout: 3 * STEP_MS }, async () => {
  await using tree = await project();
  await using client = new Pyro({ home: home.path });
  const workspace = await client.createWorkspace({ driver: "firecracker", seedPath: tree.path });
  assert.equal((await workspace.status()).driver, "firecracker");
  const result = await workspace.exec(["sh", "-c", "python3 main.py && echo 43 >data"]);
  assert.deepEqual([result.exitCode, result.stdout], [0, SAID]);
  const { patch, summary } = await workspace.diff();
  assert.deepEqual([summary.total, summary.modified], [1, 1]);
  assert.match(patch, /\n-42\n\+43\n/);
  await workspace.syncPush(join(tree.path, "data"));
  assert.equal((await workspace.diff()).changed, false);
  const output = join(tree.path, "exported");
  await workspace.export("main.py", output);
  assert.equal(await readFile(output, "utf8"), SCRIPT);
  await workspace.delete();
  await nothingLeft();
});

test("over MCP", { timeout: 3 * STEP_MS }, async () => {
  await using tree = await project();
  const client = new Client({ name: "test", version: "1" });
  const env = { ...home.env, PATH: process.env.PATH ?? "", PYRO_DRIVER: "firecracker" } as Record<string, string>;
  const args = [PYRO, "mcp", "serve", "--allow-read", tree.path];
  await client.connect(
    new StdioClientTransport({ command: process.execPath, args, env, cwd: tree.path, stderr: "inherit" }),
  );
  try {
    const call = async (name: string, given: Record<string, unknown>) => {
      const result = await client.callTool({ name, arguments: given }, { timeout: STEP_MS });
      assert.notEqual(result.isError, true, JSON.stringify(result.content));
      return result.structuredContent as Record<string, unknown>;
    };
    const { workspace_id, driver } = await call("workspace_create", { seed: "empty" });
    assert.equal(driver, "firecracker");
    await call("workspace_sync_push", { workspace_id, source_path: tree.path });
    const result = await call("workspace_exec", { workspace_id, command: ["python3", "main.py"] });
    assert.deepEqual([result.exit_code, result.stdout], [0, SAID]);
    assert.equal((await call("workspace_delete", { workspace_id })).deleted, true);
  } finally {
    await client.close();
  }
  await nothingLeft();
});

test("what is asked for by name and cannot be had is an error that says why", { timeout: 2 * STEP_MS }, async () => {
  const { status, stdout } = await pyro(["run", "--json", "--driver", "qemu", "--", "true"], { env: home.env });
  // The lab has no QEMU.
  assert.equal(status, 125, stdout.toString());
  assert.match(stdout.toString(), /HOST_TOOL_MISSING/);
  await using other = await ownHome({ templates: true });
  const env = { ...other.env, PYRO_FIRECRACKER: "/bin/false" };
  const refused = await pyro(["run", "--json", "--", "true"], { env });
  assert.match(refused.stdout.toString(), /DRIVER_UNAVAILABLE.*false does not say that it is Firecracker/);
});
