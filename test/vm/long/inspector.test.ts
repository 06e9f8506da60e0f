// The official MCP inspector's command line on the servers of all profiles: it lists their tools and calls some, with a real
// microVM behind them. The inspector is 110 MB of packages and is fetched once, below dist/: for `make soak`.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { access, mkdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { before, test } from "node:test";
import { promisify } from "node:util";
import { PYRO, ROOT, sharedHome } from "../harness.ts";
import { scratch } from "../workspaces.ts";

const VERSION = "2.12.0";
const TOOLS = join(ROOT, "dist", "test-tools");
const PLACE = join(TOOLS, `inspector-${VERSION}`);
const INSPECTOR = join(PLACE, "node_modules", ".bin", "mcp-inspector");

interface Listed {
  readonly tools: { name: string; inputSchema: object; outputSchema: object }[];
}
interface Called {
  readonly structuredContent?: Record<string, unknown>;
  readonly content: { readonly text: string }[];
  readonly isError?: boolean;
}

const run = promisify(execFile);

before(async () => {
  if (
    await access(INSPECTOR).then(
      () => true,
      () => false,
    )
  )
    return;
  const staging = `${PLACE}.${process.pid}`;
  await mkdir(staging, { recursive: true });
  const fetch = ["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", staging];
  await run("npm", [...fetch, `@modelcontextprotocol/inspector@${VERSION}`], { timeout: 300_000 });
  await rename(staging, PLACE).catch(() => rm(staging, { recursive: true }));
});

/** What it prints for a request to the server of a profile. */
async function inspect<T>(profile: string, request: readonly string[]): Promise<T> {
  // It keeps files of its own in the home directory.
  await using home = await scratch();
  const server = [process.execPath, PYRO, "mcp", "serve", "--profile", profile];
  const env = { PATH: process.env.PATH, HOME: home.path };
  const given = [`PYRO_HOME=${sharedHome()}`, "PYRO_POOL_SIZE=0"].flatMap((pair) => ["-e", pair]);
  const args = [INSPECTOR, "--cli", ...given, "--cwd", home.path, ...server, ...request];
  const { stdout } = await run(process.execPath, args, { env, timeout: 120_000, maxBuffer: 16 << 20 });
  return JSON.parse(stdout) as T;
}

async function call(profile: string, tool: string, args: Readonly<Record<string, unknown>>): Promise<Called> {
  const words = Object.entries(args).flatMap(([key, value]) => ["--tool-arg", `${key}=${JSON.stringify(value)}`]);
  return await inspect(profile, ["--method", "tools/call", "--tool-name", tool, ...words]);
}

test("the inspector lists the tools of each profile", { timeout: 300_000 }, async () => {
  const counts: number[] = [];
  for (const profile of ["vm-run", "workspace-core", "workspace-full"]) {
    const { tools } = await inspect<Listed>(profile, ["--method", "tools/list"]);
    assert.ok(tools.every(({ inputSchema, outputSchema }) => inputSchema && outputSchema));
    counts.push(tools.length);
  }
  const [run = 0, core = 0, full = 0] = counts;
  assert.ok(run === 2 && core > 15 && core <= 20 && full > 40, String(counts));
});

test("the inspector calls tools of each profile", { timeout: 300_000 }, async () => {
  const ran = await call("vm-run", "vm_run", { command: ["git", "--version"] });
  assert.match(String(ran.structuredContent?.stdout), /^git version 2\./);
  assert.deepEqual(JSON.parse(ran.content[0]?.text ?? ""), ran.structuredContent);
  const made = await call("workspace-core", "workspace_create", { labels: { by: "inspector" } });
  const workspace_id = made.structuredContent?.workspace_id;
  try {
    const exec = await call("workspace-core", "workspace_exec", { workspace_id, command: "echo hi >file; exit 3" });
    assert.equal(exec.structuredContent?.exit_code, 3);
    const summary = await call("workspace-core", "workspace_summary", { workspace_id });
    const { changes } = summary.structuredContent as { changes: { added: number } };
    assert.equal(changes.added, 1);
    const started = await call("workspace-full", "service_start", {
      workspace_id,
      service_name: "s",
      command: "sleep 99",
    });
    assert.equal(started.structuredContent?.state, "running");
  } finally {
    const gone = await call("workspace-core", "workspace_delete", { workspace_id });
    assert.equal(gone.structuredContent?.deleted, true);
  }
});
