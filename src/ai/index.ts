// What `pyro-mcp/ai` exports: the tools of the table for the Vercel AI SDK, whose own code is not needed for it. They are
// what a model has over MCP, with the same names, descriptions and bounds.
import { PyroError } from "../errors/error.ts";
import { callsOf } from "../sdk/calls.ts";
import type { Pyro } from "../sdk/pyro.ts";
import { Workspace } from "../sdk/workspace.ts";
import { Exports } from "../tools/disk-export.ts";
import { type Tool, toolsOf } from "../tools/from-operation.ts";
import { HostPaths } from "../tools/host-paths.ts";
import { errorOf } from "../tools/result.ts";
import { ServedSecrets } from "../tools/secrets.ts";
import { Creations, type Transfers } from "../tools/transfer.ts";

/** What the tools may do. Without any of it they reach no file, no variable and no network of this host. */
export interface PyroToolsOptions {
  /** Which tools there are. Default workspace-core. */
  readonly profile?: "vm-run" | "workspace-core" | "workspace-full" | undefined;
  /** Directories of this host that tools may read. */
  readonly allowRead?: readonly string[] | undefined;
  /** Directories of this host that tools may write to. */
  readonly allowWrite?: readonly string[] | undefined;
  /** Directory that a workspace begins with unless the model asks for another seed; it may be read. */
  readonly projectPath?: string | undefined;
  /** The most that a tool may ask of a network. Default off. */
  readonly networkPolicy?: "off" | "egress" | "egress+published-ports" | undefined;
  /** Secrets that a model may name: NAME or NAME=env:VAR for a variable, NAME=file:PATH. It never has their values. */
  readonly secrets?: readonly string[] | undefined;
  /** Which hosts some of those are for, `NAME=HOST[,HOST]`: tools use them there and nowhere else. */
  readonly secretFor?: readonly string[] | undefined;
}

/** A JSON Schema as the AI SDK takes it. Any input passes: wrong ones are answered by the tool. */
export interface PyroToolSchema {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => { readonly value: unknown };
    readonly jsonSchema: {
      readonly input: (options: { readonly target: string }) => Record<string, unknown>;
      readonly output: (options: { readonly target: string }) => Record<string, unknown>;
    };
  };
}

/** A tool as `generateText` and `streamText` of the AI SDK take it. */
export interface PyroTool {
  readonly type: "dynamic";
  readonly title: string;
  readonly description: string;
  readonly inputSchema: PyroToolSchema;
  /**
   * The result of the operation, bounded as over MCP. Rejects with a PyroError that says to a model what to do, and with
   * the signal's reason when that aborts, which ends what it started.
   */
  readonly execute: (
    input: unknown,
    options?: { readonly abortSignal?: AbortSignal | undefined },
  ) => Promise<Record<string, unknown>>;
}

/**
 * The tools of a profile, by name. Of a client they make and end workspaces; of a workspace they are for that one, which
 * stays yours to delete. They end with their client. Errors: INVALID_INPUT for options that cannot be, those of secrets.
 */
export async function pyroTools(
  of: Pyro | Workspace,
  options: PyroToolsOptions = {},
): Promise<Record<string, PyroTool>> {
  const { profile = "workspace-core", networkPolicy = "off", secrets = [], secretFor = [] } = options;
  const { allowRead = [], allowWrite = [], projectPath } = options;
  const calls = callsOf(of);
  const cwd = process.cwd();
  const rule = await HostPaths.open({ cwd, allowRead, allowWrite, projectPath: projectPath ?? false });
  const creations = new Creations();
  calls.closing.addEventListener("abort", () => creations.close(), { once: true });
  const transfers: Transfers = {
    where: calls.where,
    cwd,
    rule,
    project: rule.project === undefined ? undefined : { path: rule.project, isDefault: true },
    creations,
    exports: new Exports(),
    secrets: await ServedSecrets.read({ secrets, secretFor }, calls.where.environment, cwd),
  };
  const workspaceId = of instanceof Workspace ? of.workspaceId : undefined;
  const tools = toolsOf(calls.where, { profile, transfers, networkPolicy, workspaceId });
  return Object.fromEntries(tools.map((tool) => [tool.name, forAi(tool, calls)]));
}

function forAi(tool: Tool, calls: ReturnType<typeof callsOf>): PyroTool {
  return {
    type: "dynamic",
    title: tool.title,
    description: tool.description,
    inputSchema: schemaOf(tool),
    execute: async (input, { abortSignal } = {}) => {
      const signal = calls.signal({ signal: abortSignal });
      signal.throwIfAborted();
      const call = tool.call(input, { signal, hasGone: () => false, tell: () => {} });
      calls.track(call);
      const { structuredContent, isError, ...rest } = await call;
      signal.throwIfAborted();
      if (isError !== true) return structuredContent as Record<string, unknown>;
      const { code, message, hint, details } = errorOf(rest);
      // The AI SDK shows a model the message alone.
      throw new PyroError(code, `${code}: ${message} ${hint}`, { hint, details });
    },
  };
}

function schemaOf({ inputSchema }: Tool): PyroToolSchema {
  const { jsonSchema, validate } = inputSchema["~standard"];
  // Its own vendor, lest it is taken for a schema of the library that it comes from.
  return { "~standard": { version: 1, vendor: "pyro", jsonSchema, validate } } as PyroToolSchema;
}
