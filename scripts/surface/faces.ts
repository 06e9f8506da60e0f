// The public surface that derives from the table, the error codes, the settings and package.json, as lines (see compare.ts).
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Command, Option } from "commander";
import * as z from "zod";
import { buildProgram, cliRows, pathOf } from "../../src/cli/program.ts";
import { SETTINGS, type Setting } from "../../src/config/settings.ts";
import { CODES } from "../../src/errors/codes.ts";
import type { Operation } from "../../src/operations/define.ts";
import { OPERATIONS } from "../../src/operations/table.ts";
import { toolInput, toolOutput } from "../../src/tools/schema.ts";
import type { Schema } from "../public-types.ts";

/** What every face but the SDK promises. */
export function faceLines(): string[] {
  return [...packageLines(), ...settingLines(), ...errorLines(), ...commandLines(), ...rowLines()];
}

function packageLines(): string[] {
  const text = readFileSync(join(import.meta.dirname, "..", "..", "package.json"), "utf8");
  const { exports, bin, engines, os, cpu } = JSON.parse(text) as {
    exports: Record<string, unknown>;
    bin: Record<string, string>;
    engines: { node: string };
    os: string[];
    cpu: string[];
  };
  return [
    ...Object.keys(exports).map((name) => `package exports ${name}`),
    ...Object.keys(bin).map((name) => `package has the command ${name}`),
    ...os.flatMap((system) => cpu.map((processor) => `package runs on ${system} ${processor}`)),
    `package needs Node: ${engines.node}`,
  ];
}

function settingLines(): string[] {
  const lines = Object.values<Setting<unknown>>(SETTINGS).flatMap(({ key, variable }) => [
    `config.json has ${key}`,
    ...(variable === null ? [] : [`environment has ${variable}`]),
  ]);
  return ["environment has PYRO_HOME", ...lines];
}

function errorLines(): string[] {
  return Object.entries(CODES).map(([code, { exit }]) => `error ${code}: exit ${exit}`);
}

/** What is typed. What a command prints with --json is in rowLines. */
function commandLines(): string[] {
  const nothing = async () => {};
  const program = buildProgram(
    { rest: undefined },
    {
      operation: nothing,
      daemonStatus: nothing,
      daemonStop: nothing,
      completion: nothing,
      mcpServe: nothing,
      mcpConfig: nothing,
    },
  );
  const words = cliRows()
    .filter(({ shape }) => shape.rest !== undefined)
    .map(({ shape }) => `cli pyro ${shape.path.join(" ")} takes -- ...: words`);
  return [...commandLinesOf(program), ...words];
}

function commandLinesOf(command: Command): string[] {
  const subject = `cli ${pathOf(command)}`;
  const lines = command
    .aliases()
    .map((alias) => `cli ${[pathOf(command).split(" ").slice(0, -1), alias].flat().join(" ")}`);
  for (const option of command.options) {
    for (const name of [option.long, option.short]) {
      if (name) lines.push(`${subject} takes ${name}${option.mandatory ? "" : "?"}: ${typed(option)}`);
    }
  }
  command.registeredArguments.forEach((argument, index) => {
    const kind = argument.argChoices ? literals(argument.argChoices) : argument.variadic ? "value | values" : "value";
    lines.push(`${subject} takes argument ${index + 1}${argument.required ? "" : "?"}: ${kind}`);
  });
  return [subject, ...lines, ...command.commands.flatMap(commandLinesOf)];
}

function typed(option: Option): string {
  if (option.argChoices) return literals(option.argChoices);
  if (option.required) return "value";
  return option.optional ? "flag | value" : "flag";
}

function literals(values: readonly unknown[]): string {
  return values.map((value) => JSON.stringify(value)).join(" | ");
}

/** What the operations take and give: as JSON, in the SDK the same in camelCase, and over MCP. */
function rowLines(): string[] {
  return Object.values<Operation>(OPERATIONS).flatMap((row) => {
    const subject = `json ${row.name}`;
    const lines = [
      subject,
      ...fieldLines(`${subject} takes`, schemaOf(row.input, "input")),
      ...fieldLines(`${subject} gives`, schemaOf(row.output, "output")),
      ...(row.events ? fieldLines(`${subject} tells`, schemaOf(row.events, "output")) : []),
    ];
    if (!("tool" in row.mcp)) return lines;
    const tool = `mcp ${row.mcp.tool}`;
    return [
      ...lines,
      tool,
      ...row.profiles.map((profile) => `${tool} is in ${profile}`),
      ...fieldLines(`${tool} takes`, schemaOf(toolInput(row, row.mcp), "input")),
      ...fieldLines(`${tool} gives`, schemaOf(toolOutput(row), "output")),
    ];
  });
}

function schemaOf(schema: z.ZodType, io: "input" | "output"): Schema {
  return z.toJSONSchema(schema, { io, reused: "inline" }) as Schema;
}

/** A line for each field of an object, or of what may be one of several, at any depth. */
function fieldLines(prefix: string, schema: Schema, path = ""): string[] {
  const lines: string[] = [];
  const objects = variantsOf(schema).filter(({ properties }) => properties !== undefined);
  for (const key of new Set(objects.flatMap(({ properties }) => Object.keys(properties ?? {})))) {
    const at = path === "" ? key : `${path}.${key}`;
    const always = objects.every(({ required }) => required?.includes(key));
    const inside = { anyOf: objects.flatMap(({ properties }) => properties?.[key] ?? []) };
    lines.push(`${prefix} ${at}${always ? "" : "?"}: ${kindsOf(inside)}`, ...fieldLines(prefix, inside, at));
  }
  for (const { items, additionalProperties: values } of variantsOf(schema)) {
    if (items) lines.push(`${prefix} ${path}[]: ${kindsOf(items)}`, ...fieldLines(prefix, items, `${path}[]`));
    if (typeof values !== "object" || Object.keys(values).length === 0) continue;
    lines.push(`${prefix} ${path}{}: ${kindsOf(values)}`, ...fieldLines(prefix, values, `${path}{}`));
  }
  return lines;
}

function variantsOf(schema: Schema): Schema[] {
  const options = schema.anyOf ?? schema.oneOf;
  return options ? options.flatMap(variantsOf) : [schema];
}

function kindsOf(schema: Schema): string {
  const kinds = variantsOf(schema).flatMap((variant) => {
    if (variant.const !== undefined) return [JSON.stringify(variant.const)];
    if (variant.enum) return variant.enum.map((value) => JSON.stringify(value));
    return variant.type ?? "any";
  });
  return [...new Set(kinds)].sort().join(" | ");
}
