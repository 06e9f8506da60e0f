// What an agent does over MCP, with the official client: list the tools, make a workspace of a directory, run something in
// it, push a change, delete it.
//
//   node examples/mcp-client.mjs
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

const project = await mkdtemp(join(tmpdir(), "project-"));
await writeFile(join(project, "greeting.txt"), "hello\n");

const client = new Client({ name: "example", version: "1.0.0" });
await client.connect(
  new StdioClientTransport({
    command: process.env.PYRO ?? "pyro",
    // A tool may read what the server was allowed to, and nothing else of this host.
    args: ["mcp", "serve", "--allow-read", project],
    env: /** @type {Record<string, string>} */ (process.env),
    stderr: "inherit",
  }),
);

/** Calls a tool and gives its result, or throws what it says went wrong. */
async function call(name, input) {
  const result = await client.callTool({ name, arguments: input });
  if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
  return result.structuredContent;
}

let workspace_id;
try {
  const { tools } = await client.listTools();
  console.log(`tools: ${tools.map(({ name }) => name).join(", ")}`);

  ({ workspace_id } = await call("workspace_create", { seed_path: project, labels: { example: "mcp" } }));
  const command = "tr a-z A-Z <greeting.txt";
  console.log((await call("workspace_exec", { workspace_id, command })).stdout.trim());

  await writeFile(join(project, "greeting.txt"), "hello again\n");
  await call("workspace_sync_push", { workspace_id, source_path: project });
  console.log((await call("workspace_exec", { workspace_id, command })).stdout.trim());
} finally {
  if (workspace_id !== undefined) await call("workspace_delete", { workspace_id });
  await client.close();
  await rm(project, { recursive: true });
}
