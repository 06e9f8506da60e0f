// Makes the SDK's declarations stand alone: what is derived from the table's schemas is written out, so that nobody who
// only types their own code needs the schemas' library, and declarations that nothing public leads to are removed.
import { execFileSync } from "node:child_process";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { z } from "zod";
import type { Operation } from "../src/operations/define.ts";
import { OPERATIONS } from "../src/operations/table.ts";
import { camelKey } from "../src/sdk/case.ts";

/** A JSON Schema, as far as it is read by what is made of the table. */
export interface Schema {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly Schema[];
  readonly oneOf?: readonly Schema[];
  readonly items?: Schema;
  readonly properties?: Readonly<Record<string, Schema>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Schema | boolean;
}

const ROOT = join(import.meta.dirname, "..");
/** The declarations that the package exports. */
const ENTRIES = ["sdk/index.d.ts", "sdk/schemas.d.ts", "ai/index.d.ts"];
const IMPORT = /((?:from|import)\s*\(?\s*")([^"]+)"/g;

/** In types.d.ts what derives from the table stands between its first line and the first type of a row. */
const DERIVED_ENDS = "export type RunInput";
const HEAD = `import type { Events, Inputs, Outputs } from "./rows.ts";
/** The name of an operation, the same in all faces. */
export type OperationName = keyof Inputs;
/** What a method takes. */
export type SdkInput<N extends keyof Inputs> = Inputs[N];
/** What a method resolves with. */
export type SdkOutput<N extends keyof Outputs> = Outputs[N];
/** What it tells while it runs. */
export type SdkEvent<N extends keyof Events> = Events[N];
`;

/** Writes the declarations into `types`, a directory below the root, in place of what is there. */
export async function emitTypes(types: string): Promise<void> {
  await rm(types, { recursive: true, force: true });
  const tsc = join(ROOT, "node_modules", ".bin", "tsc");
  const project = join(ROOT, "scripts", "tsconfig.types.json");
  execFileSync(tsc, ["-p", project, "--outDir", types], { stdio: ["ignore", "inherit", "inherit"] });
  await standAlone(types);
}

/** Rewrites the declarations below `types`, the directory that holds sdk/index.d.ts. */
async function standAlone(types: string): Promise<void> {
  const sdk = join(types, "sdk");
  const path = join(sdk, "types.d.ts");
  const text = await readFile(path, "utf8");
  const at = text.indexOf(DERIVED_ENDS);
  if (at < 0) throw new Error(`${path} has no ${DERIVED_ENDS}`);
  await writeFile(path, `${HEAD}${text.slice(at)}`);
  await writeFile(join(sdk, "rows.d.ts"), rows());

  const reached = new Set<string>();
  for (const entry of ENTRIES) await follow(join(types, entry), reached);
  for (const entry of await readdir(types, { recursive: true, withFileTypes: true })) {
    const file = join(entry.parentPath, entry.name);
    if (entry.isFile() && !reached.has(file)) await rm(file);
  }
  for (const file of reached) await nameAsScripts(file);
}

/** Sources import each other as .ts; not every compiler and option lets declarations do so. */
async function nameAsScripts(file: string): Promise<void> {
  const text = await readFile(file, "utf8");
  await writeFile(
    file,
    text.replace(IMPORT, (_, before: string, target: string) => `${before}${target.replace(/^(\..*)\.ts$/, "$1.js")}"`),
  );
}

/** Every declaration that one leads to. Throws when one of them needs a package. */
async function follow(path: string, reached: Set<string>): Promise<void> {
  if (reached.has(path)) return;
  reached.add(path);
  const text = await readFile(path, "utf8");
  for (const [, , target = ""] of text.matchAll(IMPORT)) {
    if (target.startsWith("node:")) continue;
    if (!target.startsWith(".")) throw new Error(`${path} needs ${target}: public types stand alone`);
    await follow(resolve(dirname(path), target).replace(/\.ts$/, ".d.ts"), reached);
  }
}

function rows(): string {
  const inputs: string[] = [];
  const outputs: string[] = [];
  const events: string[] = [];
  for (const row of Object.values<Operation>(OPERATIONS)) {
    if (!("method" in row.sdk)) continue;
    const key = JSON.stringify(row.name);
    const { omit = [] } = row.sdk;
    const mask: Record<string, true> = Object.fromEntries(omit.map((name) => [name, true]));
    // What is checked as a whole cannot be taken apart, and need not be where nothing is left out.
    const input = omit.length === 0 ? row.input : row.input.omit(mask as Parameters<typeof row.input.omit>[0]);
    inputs.push(`  ${key}: ${typeOf(schemaOf(input, "input"), "  ")};`);
    outputs.push(`  ${key}: ${typeOf(schemaOf(row.output, "output"), "  ")};`);
    if (row.events) events.push(`  ${key}: ${typeOf(schemaOf(row.events, "output"), "  ")};`);
  }
  const maps = Object.entries({ Inputs: inputs, Outputs: outputs, Events: events });
  return maps.map(([name, lines]) => `export interface ${name} {\n${lines.join("\n")}\n}\n`).join("");
}

function schemaOf(schema: z.ZodType, io: "input" | "output"): Schema {
  return z.toJSONSchema(schema, { io, unrepresentable: "throw", reused: "inline" }) as Schema;
}

function typeOf(schema: Schema, indent: string): string {
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return options.map((option) => typeOf(option, indent)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (Array.isArray(schema.type)) {
    return schema.type.map((type: string) => typeOf({ ...schema, type }, indent)).join(" | ");
  }
  switch (schema.type) {
    case "string":
    case "boolean":
    case "null":
      return schema.type;
    case "integer":
    case "number":
      return "number";
    case "array":
      return `Array<${typeOf(schema.items ?? {}, indent)}>`;
    case "object":
      return schema.properties ? objectOf(schema, indent) : recordOf(schema, indent);
    default:
      throw new Error(`no type for ${JSON.stringify(schema)}`);
  }
}

function recordOf({ additionalProperties }: Schema, indent: string): string {
  if (typeof additionalProperties !== "object") return "Record<string, never>";
  return `Record<string, ${typeOf(additionalProperties, indent)}>`;
}

function objectOf({ properties = {}, required = [] }: Schema, indent: string): string {
  const inner = `${indent}  `;
  const lines = Object.entries(properties).map(([key, property]) => {
    const about =
      property.description === undefined ? "" : `${inner}/** ${property.description.replace(/\*\//g, "* /")} */\n`;
    const optional = required.includes(key) ? "" : "?";
    const type = typeOf(property, inner);
    return `${about}${inner}${camelKey(key)}${optional}: ${type}${optional ? " | undefined" : ""};`;
  });
  return lines.length === 0 ? "Record<string, never>" : `{\n${lines.join("\n")}\n${indent}}`;
}
