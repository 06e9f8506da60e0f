// A row of the table as a tool for a model, in the terms of MCP; other faces take the same and say it in theirs.
import type { CallToolResult, StandardSchemaWithJSON, ToolAnnotations } from "@modelcontextprotocol/server";
import type * as z from "zod";
import type { OutgoingName } from "../client/download/take-out.ts";
import { withUserDefaults } from "../client/settings.ts";
import type { Where } from "../client/where.ts";
import { PyroError } from "../errors/error.ts";
import { parseInput } from "../operations/check.ts";
import type { McpShape, Operation, Profile } from "../operations/define.ts";
import type { NetworkPolicy } from "../operations/fields.ts";
import type { InputOf, OperationName } from "../operations/table.ts";
import { OPERATIONS } from "../operations/table.ts";
import { ask } from "./ask.ts";
import { type CommandName, runCommand } from "./command.ts";
import { exportDisk } from "./disk-export.ts";
import { withinPolicy } from "./network.ts";
import { bringOut } from "./outgoing.ts";
import { type Project, toldOf, withProject } from "./project.ts";
import { type Asker, Request } from "./request.ts";
import { errorResult } from "./result.ts";
import { toolInput, toolOutput, unchecked } from "./schema.ts";
import { type TransferName, type Transfers, transfer } from "./transfer.ts";

export interface Tool {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly annotations: ToolAnnotations;
  /** Advertised as it is; any arguments pass it, so that wrong ones are answered in our own words. */
  readonly inputSchema: StandardSchemaWithJSON;
  readonly outputSchema: z.ZodObject;
  call(args: unknown, asker: Asker): Promise<CallToolResult>;
}

/** The tools of a profile. Needs no daemon until one is called. */
export function toolsOf(where: Where, server: Server): Tool[] {
  const rows: readonly Operation[] = Object.values(OPERATIONS);
  return rows.flatMap((row) =>
    "tool" in row.mcp && offers(server, row) ? [toolFor(where, row, row.mcp, server)] : [],
  );
}

/** What a tool is told of its server. */
export interface Server {
  readonly profile: Profile;
  readonly transfers: Transfers;
  /** The most that a tool may ask of a network. */
  readonly networkPolicy: NetworkPolicy;
  /** The only workspace that its tools are for. It is not a model's to end. */
  readonly workspaceId?: string | undefined;
}

/** Of tools for one workspace, those that make or end workspaces are none. */
const OF_ALL: ReadonlySet<string> = new Set(["workspace.clone", "workspace.delete"]);

function offers({ profile, workspaceId }: Server, { name, profiles, input }: Operation): boolean {
  if (!profiles.includes(profile)) return false;
  return workspaceId === undefined || ("workspace_id" in input.shape && !OF_ALL.has(name));
}

function toolFor(where: Where, row: Operation, shape: McpShape, server: Server): Tool {
  const { workspaceId } = server;
  const bound = workspaceId === undefined ? [] : ["workspace_id", "vm_id"];
  const input = toolInput(row, { ...shape, omit: [...(shape.omit ?? []), ...bound] });
  const asTool = { ...row, name: shape.tool, input };
  return {
    name: shape.tool,
    title: shape.title,
    description: descriptionOf(row, shape, server.transfers.project),
    annotations: {
      title: shape.title,
      readOnlyHint: row.effect.readOnly,
      destructiveHint: row.effect.destructive,
      idempotentHint: row.effect.idempotent,
      openWorldHint: row.effect.openWorld,
    },
    inputSchema: unchecked(input),
    outputSchema: toolOutput(row),
    call: async (args, asker) => {
      try {
        const given = withUserDefaults(row.name as OperationName, inOwn(args ?? {}, workspaceId), where.environment);
        const asked: Record<string, unknown> = server.transfers.secrets.with(parseInput(asTool, given));
        if (workspaceId !== undefined) asked.workspace_id = workspaceId;
        const parsed = withinPolicy(row.name as OperationName, asked, server.networkPolicy);
        using request = new Request(asker, parsed.wait_seconds);
        return await carryOut(where, row, parsed, request, server);
      } catch (thrown) {
        return errorResult(PyroError.from(thrown));
      }
    },
  };
}

/** Results name their workspace: a model that names it in its turn means the same. */
function inOwn(args: object, workspaceId: string | undefined): object {
  const { workspace_id: named, ...others } = args as { workspace_id?: unknown };
  return workspaceId !== undefined && named === workspaceId ? others : args;
}

function descriptionOf({ name }: Operation, { description }: McpShape, project: Project | undefined): string {
  return name === "workspace.create" && project !== undefined ? `${description} ${toldOf(project)}` : description;
}

async function carryOut(
  where: Where,
  row: Operation,
  input: Record<string, unknown>,
  request: Request,
  { profile, transfers }: Server,
): Promise<CallToolResult> {
  if (row.stdin) {
    const writable = OPERATIONS["process.write"].profiles.some((one) => one === profile);
    return await runCommand(where, row.name as CommandName, input as InputOf<CommandName>, { request, writable });
  }
  if (row.upload) {
    const creates = row.name === "workspace.create";
    const sent = creates ? withProject(input as InputOf<"workspace.create">, transfers.project) : input;
    return await transfer(transfers, row.name as TransferName, sent as InputOf<TransferName>, request);
  }
  if (row.name === "workspace.diff" || row.name === "workspace.export") {
    return await bringOut(transfers, row.name as OutgoingName, input as InputOf<OutgoingName>, request);
  }
  if (row.download) return await exportDisk(transfers, input as InputOf<"workspace.disk_export">, request);
  try {
    return await ask(where, row.name as OperationName, input, request);
  } catch (thrown) {
    const gone = thrown instanceof PyroError && thrown.code === "WORKSPACE_NOT_FOUND";
    throw (gone && transfers.creations.failureOf(input.workspace_id)) || thrown;
  }
}
