// A row of the table as an MCP tool: its schemas, its hints, and its results within their size.
import type {
  CallToolResult,
  ServerContext,
  StandardSchemaWithJSON,
  ToolAnnotations,
} from "@modelcontextprotocol/server";
import * as z from "zod";
import { call } from "../client/call.ts";
import { ensureDaemon } from "../client/connect.ts";
import { withUserDefaults } from "../client/settings.ts";
import { openStream } from "../client/stream.ts";
import type { Where } from "../client/where.ts";
import { PyroError } from "../errors/error.ts";
import { parseInput } from "../operations/check.ts";
import type { McpShape, Operation, Profile } from "../operations/define.ts";
import type { InputOf, OperationName } from "../operations/table.ts";
import { OPERATIONS } from "../operations/table.ts";
import { cutBoth, HeadTail, largest, shorten, toText, wholeLimit } from "./budget.ts";
import { hintForModel } from "./hint.ts";

const DEFAULT_WAIT_SECONDS = 30;
const DEFAULT_LIMIT = 50;
/** What the daemon may take beyond wait_seconds before a call is given up. */
const GRACE_MS = 8000;
/** First guess at how much output fits; asked again with less when it does not. */
const FIRST_BYTES = 3000;
const MAX_OUTPUT_BYTES = 65_536;
const REPEATS = 12;

export interface Tool {
  readonly name: string;
  readonly title: string;
  readonly description: string;
  readonly annotations: ToolAnnotations;
  /** Advertised as it is; any arguments pass it, so that wrong ones are answered in our own words. */
  readonly inputSchema: StandardSchemaWithJSON;
  readonly outputSchema: z.ZodObject;
  call(args: unknown, context: ServerContext): Promise<CallToolResult>;
}

type Output = Record<string, unknown>;

/** The tools of a profile. Needs no daemon until one is called. */
export function toolsOf(where: Where, profile: Profile): Tool[] {
  const rows: readonly Operation[] = Object.values(OPERATIONS);
  return rows.flatMap((row) =>
    "tool" in row.mcp && row.profiles.includes(profile) ? [toolFor(where, row, row.mcp)] : [],
  );
}

function toolFor(where: Where, row: Operation, shape: McpShape): Tool {
  const input = toolInput(row, shape);
  const asTool = { ...row, name: shape.tool, input };
  return {
    name: shape.tool,
    title: shape.title,
    description: shape.description,
    annotations: {
      title: shape.title,
      readOnlyHint: row.effect.readOnly,
      destructiveHint: row.effect.destructive,
      idempotentHint: row.effect.idempotent,
      openWorldHint: row.effect.openWorld,
    },
    inputSchema: unchecked(input),
    outputSchema: toolOutput(row),
    call: async (args, context) => {
      try {
        const name = row.name as OperationName;
        const given = withUserDefaults(name, args ?? {}, where.environment);
        const parsed: Record<string, unknown> = parseInput(asTool, given);
        if (name === "run") return await runTool(where, parsed as InputOf<"run">, context);
        return await callTool(where, name, parsed, context);
      } catch (thrown) {
        return errorResult(PyroError.from(thrown));
      }
    },
  };
}

/** The row's input without what the tool does not have, and with the defaults of this face. */
export function toolInput(row: Operation, shape: McpShape): z.ZodObject {
  const fields: Record<string, z.core.SomeType> = {};
  for (const [key, schema] of Object.entries(row.input.shape)) {
    if (!shape.omit?.includes(key)) fields[key] = schema;
  }
  if (fields.wait_seconds) fields.wait_seconds = bare(fields.wait_seconds).default(DEFAULT_WAIT_SECONDS);
  if (fields.limit) fields.limit = bare(fields.limit).default(DEFAULT_LIMIT);
  return z.strictObject(fields);
}

/** The row's output; text is always text here, and says when bytes of it had to be replaced. */
export function toolOutput(row: Operation): z.ZodObject {
  const fields: Record<string, z.core.SomeType> = { ...row.output.shape };
  for (const stream of textFields(row.output.shape)) {
    fields[`${stream}_encoding`] = z.literal("utf-8");
    fields[`${stream}_lossy`] = z.boolean().describe("True when bytes that are not UTF-8 were replaced by U+FFFD");
  }
  return z.looseObject(fields);
}

function textFields(shape: Record<string, unknown>): string[] {
  return Object.keys(shape).flatMap((key) => (key.endsWith("_encoding") ? [key.slice(0, -"_encoding".length)] : []));
}

function bare(schema: z.core.SomeType): z.ZodType {
  let inner = schema;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodDefault) inner = inner.unwrap();
  return inner as z.ZodType;
}

function unchecked(schema: z.ZodObject): StandardSchemaWithJSON {
  const standard = schema["~standard"] as StandardSchemaWithJSON["~standard"];
  return { "~standard": { ...standard, jsonSchema: standard.jsonSchema, validate: (value: unknown) => ({ value }) } };
}

/** One command: head and tail of what it printed, and the cursor to read the rest with. */
async function runTool(where: Where, input: InputOf<"run">, context: ServerContext): Promise<CallToolResult> {
  const { max_bytes, ...rest } = input;
  const waitMs = (rest.wait_seconds ?? DEFAULT_WAIT_SECONDS) * 1000;
  const began = Date.now();
  await ensureDaemon(where, context.mcpReq.signal);
  const left = Math.max(0, waitMs - (Date.now() - began));
  const most = max_bytes ?? MAX_OUTPUT_BYTES;
  const streams = { stdout: new HeadTail(most), stderr: new HeadTail(most) };
  const progress = progressOf(context);
  const overdue = overdueAfter(left + GRACE_MS);
  try {
    const output: Output = await openStream(
      where,
      "run",
      { ...rest, wait_seconds: left / 1000 },
      {
        signal: AbortSignal.any([context.mcpReq.signal, overdue.signal]),
        attached: false,
        onEvent: (event) => {
          if (event.type === "progress") progress(event.message);
        },
        onOutput: (name, data) => streams[name].add(data),
      },
    ).result;
    const cutTo = (limit: number): CallToolResult => {
      const { stdout, stderr } = cutBoth(streams, limit);
      const before = typeof output.omitted_bytes === "number" ? output.omitted_bytes : 0;
      return result({
        ...output,
        stdout: stdout.text,
        stdout_encoding: "utf-8",
        stdout_lossy: stdout.lossy,
        stdout_truncated: stdout.omitted > 0 || output.stdout_truncated === true,
        stderr: stderr.text,
        stderr_encoding: "utf-8",
        stderr_lossy: stderr.lossy,
        stderr_truncated: stderr.omitted > 0 || output.stderr_truncated === true,
        omitted_bytes: before + stdout.omitted + stderr.omitted,
      });
    };
    const whole = wholeLimit(max_bytes);
    return cutTo(largest(most, (limit) => sizeOf(cutTo(limit)) <= whole));
  } finally {
    overdue.clear();
  }
}

/** Any other row. What is too large for a result is asked for again in a smaller piece, so that cursors stay true. */
async function callTool(
  where: Where,
  name: OperationName,
  input: Record<string, unknown>,
  context: ServerContext,
): Promise<CallToolResult> {
  const shape = OPERATIONS[name].input.shape;
  const asked = typeof input.max_bytes === "number" ? input.max_bytes : undefined;
  const whole = wholeLimit(asked);
  const wait = typeof input.wait_seconds === "number" ? input.wait_seconds : undefined;
  const smaller = "max_bytes" in shape ? "max_bytes" : "limit" in shape ? "limit" : undefined;
  let piece = asked ?? (smaller === "max_bytes" ? FIRST_BYTES : Number(input.limit ?? DEFAULT_LIMIT));
  const began = Date.now();
  await ensureDaemon(where, context.mcpReq.signal);
  for (let turn = 0; ; turn++) {
    const left = wait === undefined || turn > 0 ? 0 : Math.max(0, wait - (Date.now() - began) / 1000);
    const output: Output = await call(
      where,
      name,
      {
        ...input,
        ...(wait === undefined ? {} : { wait_seconds: left }),
        ...(smaller === undefined ? {} : { [smaller]: piece }),
      } as InputOf<OperationName>,
      { signal: context.mcpReq.signal },
    );
    const made = result(asText(output));
    const size = sizeOf(made);
    if (size <= whole || smaller === undefined || piece <= 1 || turn >= REPEATS) return made;
    piece = Math.max(1, Math.min(piece - 1, Math.floor((piece * whole * 0.9) / size)));
  }
}

/** Base64 of the wire becomes text, with U+FFFD where it has to. */
function asText(output: Output): Output {
  const told: Output = { ...output };
  for (const stream of textFields(output)) {
    const given = output[stream];
    if (typeof given !== "string") continue;
    const data = Buffer.from(given, output[`${stream}_encoding`] === "base64" ? "base64" : "utf8");
    const { text, lossy } = toText(data);
    told[stream] = text;
    told[`${stream}_encoding`] = "utf-8";
    told[`${stream}_lossy`] = lossy;
  }
  return told;
}

function result(output: Output): CallToolResult {
  const structuredContent = shorten(output, textFields(output)) as Output;
  return { content: [{ type: "text", text: JSON.stringify(structuredContent) }], structuredContent };
}

function sizeOf(made: CallToolResult): number {
  return Buffer.byteLength(JSON.stringify(made));
}

/** The same error as everywhere, with a hint for a model. */
function errorResult(error: PyroError): CallToolResult {
  const data = { ...error.toData(), hint: hintForModel(error) };
  return { content: [{ type: "text", text: JSON.stringify({ error: shorten(data) }) }], isError: true };
}

/** Sends progress when the client asked for it; each with a larger number, as the protocol wants. */
function progressOf({ mcpReq }: ServerContext): (message: string) => void {
  const progressToken = mcpReq._meta?.progressToken;
  if (progressToken === undefined) return () => {};
  let progress = 0;
  return (message) => {
    progress++;
    mcpReq.notify({ method: "notifications/progress", params: { progressToken, progress, message } }).catch(() => {});
  };
}

function overdueAfter(ms: number): { signal: AbortSignal; clear: () => void } {
  const controller = new AbortController();
  const reason = new PyroError("DAEMON_UNREACHABLE", `The call was not answered within ${Math.round(ms / 1000)} s.`);
  const timer = setTimeout(() => controller.abort(reason), ms);
  return { signal: controller.signal, clear: () => clearTimeout(timer) };
}
