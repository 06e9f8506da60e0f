// The MCP server on stdin and stdout. stdout carries the protocol and nothing else; what is to be said goes to stderr.
import { McpServer, SdkError, SdkErrorCode, type ServerContext } from "@modelcontextprotocol/server";
import { serveStdio } from "@modelcontextprotocol/server/stdio";
import type { Where } from "../client/where.ts";
import { installation } from "../host/installation.ts";
import type { Profile } from "../operations/define.ts";
import type { NetworkPolicy } from "../operations/fields.ts";
import { Exports } from "../tools/disk-export.ts";
import { toolsOf } from "../tools/from-operation.ts";
import { HostPaths } from "../tools/host-paths.ts";
import { toldOf } from "../tools/project.ts";
import type { Asker } from "../tools/request.ts";
import { ServedSecrets } from "../tools/secrets.ts";
import { Creations, type Transfers } from "../tools/transfer.ts";

const INSTRUCTIONS: Readonly<Record<"run" | "workspaces", string>> = {
  run:
    "pyro runs commands inside disposable microVMs: nothing they do touches the host. Prefer it for code that is not " +
    "trusted or that installs or changes things.",
  workspaces:
    "pyro gives you computers of your own: microVMs in which you may run, install and change anything without touching " +
    "the host. Create a workspace for a task, seeded with the project's directory where it needs one; run commands in it " +
    "with workspace_exec, bring in later changes of the host with workspace_sync_push, see what you did with " +
    "workspace_summary, and delete it when the task is done. It keeps its files between calls until then. For one command that needs nothing kept, vm_run is enough. Paths " +
    "of the host can be named only where this server was allowed to read.",
};

/** What a server may do beside what its profile offers. */
export interface ServeOptions {
  /** Directories of the host that tools may read beside the work tree that the server stands in. */
  readonly allowRead?: readonly string[];
  /** The same for writing. */
  readonly allowWrite?: readonly string[];
  /** The project, instead of the work tree that the server stands in. */
  readonly projectPath?: string | undefined;
  /** False: a workspace begins with the project only when that is named. Default true. */
  readonly projectSource?: boolean;
  /** The most that tools may ask of a network. */
  readonly networkPolicy?: NetworkPolicy | undefined;
  /** Secrets that tools may name, as references. */
  readonly secrets?: readonly string[];
  /** Which hosts some of those are for, NAME=HOST[,HOST]: tools use them there and nowhere else. */
  readonly secretFor?: readonly string[];
}

/** A server with the tools of a profile; it reaches for the daemon only when a tool is called. */
export function createServer(
  where: Where,
  profile: Profile,
  transfers: Transfers,
  networkPolicy: NetworkPolicy = "off",
): McpServer {
  const told = profile === "vm-run" || transfers.project === undefined ? [] : [toldOf(transfers.project)];
  const instructions = [INSTRUCTIONS[profile === "vm-run" ? "run" : "workspaces"], ...told].join(" ");
  const server = new McpServer({ name: "pyro", version: installation().version }, { instructions });
  for (const tool of toolsOf(where, { profile, transfers, networkPolicy })) {
    const { name, title, description, annotations, inputSchema, outputSchema } = tool;
    server.registerTool(name, { title, description, annotations, inputSchema, outputSchema }, (args, context) =>
      tool.call(args, askerOf(context)),
    );
  }
  return server;
}

/** Progress is sent when the client asked for it; each with a larger number, as the protocol wants. */
function askerOf({ mcpReq }: ServerContext): Asker {
  const { signal } = mcpReq;
  const progressToken = mcpReq._meta?.progressToken;
  let progress = 0;
  return {
    signal,
    hasGone: () => signal.reason instanceof SdkError && signal.reason.code === SdkErrorCode.ConnectionClosed,
    tell: (message) => {
      if (progressToken === undefined) return;
      progress++;
      const params = { progressToken, progress, message };
      mcpReq.notify({ method: "notifications/progress", params }).catch(() => {});
    },
  };
}

/**
 * Serves until stdin ends. Calls under way are then cancelled, as nobody is left to read their results; commands in
 * workspaces go on. Errors: INVALID_INPUT for a directory that is none, those of reading secrets.
 */
export async function serve(where: Where, profile: Profile, options: ServeOptions = {}): Promise<void> {
  const cwd = process.cwd();
  const { allowRead = [], allowWrite = [], projectPath, projectSource = true, networkPolicy } = options;
  const rule = await HostPaths.open({ cwd, allowRead, allowWrite, projectPath });
  const creations = new Creations();
  const transfers = {
    where,
    cwd,
    rule,
    project: rule.project === undefined ? undefined : { path: rule.project, isDefault: projectSource },
    creations,
    exports: new Exports(),
    secrets: await ServedSecrets.read(options, where.environment, cwd),
  };
  const handle = serveStdio(() => createServer(where, profile, transfers, networkPolicy), {
    onerror: (error) => {
      process.stderr.write(`pyro: ${error.message}\n`);
    },
  });
  await new Promise<void>((resolve) => {
    process.stdin.once("end", resolve);
    process.stdin.once("close", resolve);
    process.stdout.once("error", () => resolve());
  });
  creations.close();
  await handle.close();
}
