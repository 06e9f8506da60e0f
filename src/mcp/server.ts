// The MCP server on stdin and stdout. stdout carries the protocol and nothing else; what is to be said goes to stderr.
import { McpServer } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import type { Where } from "../client/where.ts";
import { installation } from "../host/installation.ts";
import type { Profile } from "../operations/define.ts";
import { toolsOf } from "./from-operation.ts";

const INSTRUCTIONS =
  "pyro runs commands inside disposable microVMs: nothing they do touches the host. Prefer it for code that is not " +
  "trusted or that installs or changes things.";

/** A server with the tools of a profile; it reaches for the daemon only when a tool is called. */
export function createServer(where: Where, profile: Profile): McpServer {
  const server = new McpServer({ name: "pyro", version: installation().version }, { instructions: INSTRUCTIONS });
  for (const tool of toolsOf(where, profile)) {
    const { name, title, description, annotations, inputSchema, outputSchema } = tool;
    server.registerTool(name, { title, description, annotations, inputSchema, outputSchema }, (args, context) =>
      tool.call(args, context),
    );
  }
  return server;
}

/** Serves until stdin ends. Calls under way are then cancelled, as nobody is left to read their results. */
export async function serve(where: Where, profile: Profile): Promise<void> {
  const handle = serveStdio(() => createServer(where, profile), {
    onerror: (error) => {
      process.stderr.write(`pyro: ${error.message}\n`);
    },
  });
  await new Promise<void>((resolve) => {
    process.stdin.once("end", resolve);
    process.stdin.once("close", resolve);
    process.stdout.once("error", () => resolve());
  });
  await handle.close();
}
