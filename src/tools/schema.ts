// What a tool takes and gives, as schemas: the row's, with what is particular to this face.
import type { StandardSchemaWithJSON } from "@modelcontextprotocol/server";
import * as z from "zod";
import type { McpShape, Operation } from "../operations/define.ts";
import { maxBytes } from "../operations/fields.ts";
import { secretNames } from "../operations/secret.ts";

/** wait_seconds of a call that says none. */
export const DEFAULT_WAIT_SECONDS = 30;
/** Rows in a list that was asked for without a limit. */
export const DEFAULT_LIMIT = 50;

/** The row's input without what the tool does not have, and with the defaults of this face. */
export function toolInput(row: Operation, shape: McpShape): z.ZodObject {
  const fields: Record<string, z.core.SomeType> = {};
  for (const [key, schema] of Object.entries(row.input.shape)) {
    if (!shape.omit?.includes(key)) fields[key] = schema;
  }
  if (fields.wait_seconds) fields.wait_seconds = bare(fields.wait_seconds).default(DEFAULT_WAIT_SECONDS);
  if (fields.limit) fields.limit = bare(fields.limit).default(DEFAULT_LIMIT);
  // A row may give more at once than a model should be given.
  if (fields.max_bytes) fields.max_bytes = maxBytes.optional();
  // A value is nothing for a model to hold.
  if (fields.secrets) fields.secrets = secretNames.optional();
  return z.strictObject(fields);
}

/**
 * The row's output; text is always text here, at any depth, and says when bytes of it had to be replaced. A newer daemon
 * may say more than is known here, so no object is closed.
 */
export function toolOutput(row: Operation): z.ZodObject {
  return told(row.output) as z.ZodObject;
}

/** Advertised as it is; any arguments pass it, so that wrong ones are answered in our own words. */
export function unchecked(schema: z.ZodObject): StandardSchemaWithJSON {
  const standard = schema["~standard"] as StandardSchemaWithJSON["~standard"];
  return { "~standard": { ...standard, jsonSchema: standard.jsonSchema, validate: (value: unknown) => ({ value }) } };
}

/** Keys of an object that hold output: each has its encoding beside it. */
export function textFields(shape: object): string[] {
  return Object.keys(shape).filter((key) => encodingKey(key) in shape);
}

/** Where the encoding of a text is said: stdout has stdout_encoding, and the content of a file has simply encoding. */
export function encodingKey(key: string): string {
  return key === "content" ? "encoding" : `${key}_encoding`;
}

function told(schema: z.core.SomeType): z.ZodType {
  const made = toldOf(schema);
  const { description } = schema as z.ZodType;
  return made === schema || description === undefined ? made : made.describe(description);
}

function toldOf(schema: z.core.SomeType): z.ZodType {
  if (schema instanceof z.ZodOptional) return told(schema.unwrap()).optional();
  if (schema instanceof z.ZodNullable) return told(schema.unwrap()).nullable();
  if (schema instanceof z.ZodArray) return z.array(told(schema.element));
  if (!(schema instanceof z.ZodObject)) return schema as z.ZodType;
  const fields: Record<string, z.core.SomeType> = {};
  for (const [key, field] of Object.entries(schema.shape)) fields[key] = told(field as z.core.SomeType);
  for (const stream of textFields(schema.shape)) {
    fields[encodingKey(stream)] = z.literal("utf-8");
    fields[`${stream}_lossy`] = z.boolean().describe("True when bytes that are not UTF-8 were replaced by U+FFFD");
  }
  return z.looseObject(fields);
}

function bare(schema: z.core.SomeType): z.ZodType {
  let inner = schema;
  while (inner instanceof z.ZodOptional || inner instanceof z.ZodDefault) inner = inner.unwrap();
  return inner as z.ZodType;
}
