// What workspaces cost their callers: making one, filling it, running in it, through the SDK and over MCP, from the call
// to its answer.
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro } from "pyro-mcp";
import { pathsFor } from "../../src/engine/paths.ts";
import { newWorkspaceId } from "../../src/wire/ids.ts";
import { processesOf, VMM } from "../../test/vm/harness.ts";
import { PYRO, stop, untilPoolIsFull } from "./commands.ts";
import { proportional } from "./idle.ts";
import { type Row, sample } from "./samples.ts";

const FILES = 1000;
const FILE_BYTES = 10_000;
/** How long workspaces are left alone before what they take is looked at, ms. */
const QUIET_MS = 5000;

const paths = pathsFor(process.env, process.getuid?.() ?? 0);

/** With microVMs lying ready, as the daemon keeps them by default. */
export async function workspaces(count: number): Promise<Row[]> {
  await stop();
  await using pyro = new Pyro();
  const tree = await makeTree();
  try {
    // The pool keeps what was used last.
    await pyro.run({ command: ["true"] });
    const create = await sample(count, async () => {
      await untilPoolIsFull();
      const started = performance.now();
      const workspace = await pyro.createWorkspace();
      const took = performance.now() - started;
      await workspace.delete();
      return took;
    });
    const few = Math.min(count, 5);
    const seed = await sample(few, async () => {
      await untilPoolIsFull();
      const started = performance.now();
      const workspace = await pyro.createWorkspace({ seedPath: tree });
      const took = performance.now() - started;
      await workspace.delete();
      return took;
    });
    await using workspace = await pyro.createWorkspace({ ephemeral: true });
    const push = await sample(few, async () => {
      const started = performance.now();
      await workspace.syncPush(tree);
      return performance.now() - started;
    });
    await untilPoolIsFull();
    const { workspaceId } = workspace;
    const sdk = await sample(2 * count, async () => void (await workspace.exec(["true"])), 5);
    const mcp = await overMcp(2 * count, workspaceId);
    const listed = await sample(count, untilTools);
    const files = `${FILES} files of ${FILE_BYTES / 1000} kB`;
    return [
      {
        name: "`createWorkspace`, from the pool",
        command: "pyro.createWorkspace()",
        unit: "ms",
        samples: create,
        target: 30,
      },
      {
        name: `the same, seeded with ${files}`,
        command: "pyro.createWorkspace({ seedPath })",
        unit: "ms",
        samples: seed,
        target: 2000,
      },
      { name: `pushing ${files}`, command: "workspace.syncPush(path)", unit: "ms", samples: push, target: 3000 },
      { name: "`true` in a workspace, SDK", command: 'workspace.exec(["true"])', unit: "ms", samples: sdk, target: 70 },
      { name: "`true` in a workspace, MCP", command: "workspace_exec", unit: "ms", samples: mcp, target: 80 },
      {
        name: "an MCP server, from its start to its tools",
        command: "pyro mcp serve, tools/list",
        unit: "ms",
        samples: listed,
        target: 500,
      },
    ];
  } finally {
    await rm(tree, { recursive: true });
    await stop();
  }
}

/** The list of many workspaces that are stopped: copies of one, as all that is asked of them is their records. */
export async function workspaceLists(count: number, many: number): Promise<Row> {
  const made: string[] = [];
  try {
    {
      await using pyro = new Pyro();
      const { workspaceId } = await pyro.createWorkspace({ ttlSeconds: 1 });
      made.push(workspaceId);
      while ((await pyro.statusWorkspace({ workspaceId })).state !== "stopped") await sleep(200);
    }
    await stop();
    const [original = ""] = made;
    for (let index = 1; index < many; index++) {
      const workspaceId = newWorkspaceId();
      const directory = join(paths.workspaces, workspaceId);
      await mkdir(join(directory, "commands"), { recursive: true, mode: 0o700 });
      const record = await readFile(join(paths.workspaces, original, "workspace.json"), "utf8");
      await writeFile(join(directory, "workspace.json"), record.replaceAll(original, workspaceId));
      made.push(workspaceId);
    }
    await using pyro = new Pyro();
    const samples = await sample(
      2 * count,
      async () => {
        const { workspaces } = await pyro.listWorkspaces({ limit: many });
        if (workspaces.length < many) throw new Error(`${workspaces.length} workspaces are listed`);
        return undefined;
      },
      5,
    );
    return { name: `a list of ${many} workspaces`, command: "pyro.listWorkspaces()", unit: "ms", samples, target: 20 };
  } finally {
    await using pyro = new Pyro();
    for (const workspaceId of made) await pyro.deleteWorkspace({ workspaceId });
    await stop();
  }
}

/** Proportional memory of the VMM of each of many workspaces in which nothing runs. */
export async function manyWorkspaces(many: number): Promise<Row> {
  process.env.PYRO_POOL_SIZE = "0";
  await stop();
  await using pyro = new Pyro();
  const made: string[] = [];
  try {
    while (made.length < many) made.push((await pyro.createWorkspace({ ttlSeconds: 0 })).workspaceId);
    await sleep(QUIET_MS);
    const pids = await processesOf(paths, VMM);
    if (pids.length !== many) throw new Error(`${pids.length} VMMs for ${many} workspaces`);
    const samples = await Promise.all(pids.map(proportional));
    return {
      name: `memory of an idle workspace, ${many} side by side`,
      command: "pyro.createWorkspace(); Pss in smaps_rollup",
      unit: "MiB",
      samples,
      target: 40,
    };
  } finally {
    for (const workspaceId of made) await pyro.deleteWorkspace({ workspaceId });
    await stop();
    delete process.env.PYRO_POOL_SIZE;
  }
}

async function overMcp(count: number, workspaceId: string): Promise<readonly number[]> {
  const client = new Client({ name: "bench", version: "1" });
  const env = process.env as Record<string, string>;
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [PYRO, "mcp", "serve"], env }));
  try {
    const call = { name: "workspace_exec", arguments: { workspace_id: workspaceId, command: ["true"] } };
    return await sample(
      count,
      async () => {
        const { isError, content } = await client.callTool(call);
        if (isError) throw new Error(JSON.stringify(content));
        return undefined;
      },
      5,
    );
  } finally {
    await client.close();
  }
}

/** What a chat waits for before its model has any tool, ms. */
async function untilTools(): Promise<number> {
  const started = performance.now();
  const client = new Client({ name: "bench", version: "1" });
  const env = process.env as Record<string, string>;
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [PYRO, "mcp", "serve"], env }));
  await client.listTools();
  const took = performance.now() - started;
  await client.close();
  return took;
}

async function makeTree(): Promise<string> {
  const tree = await mkdtemp(join(tmpdir(), "pyro-bench-"));
  for (let index = 0; index < FILES; index++) {
    const directory = join(tree, `d${Math.floor(index / 50)}`);
    await mkdir(directory, { recursive: true });
    await writeFile(join(directory, `f${index}`), Buffer.alloc(FILE_BYTES, `file ${index}\n`));
  }
  return tree;
}
