// What `pyro-mcp/schemas` exports: what every operation takes and gives, as JSON Schema. The bundle holds the values, as
// scripts/build.ts works them out, and no library that makes them.
import * as z from "zod";
import type { Operation } from "../operations/define.ts";
import { OPERATIONS } from "../operations/table.ts";
import type { OperationName } from "./types.ts";

/** A JSON Schema of draft 2020-12. */
export interface JsonSchema {
  readonly [keyword: string]: unknown;
}

export interface OperationSchemas {
  /** Its input, in snake_case; what may be left out is not required. */
  readonly input: JsonSchema;
  /** What it answers: what a command prints with --json. Readers ignore fields that are not in it. */
  readonly output: JsonSchema;
  /** One event of those that come before the output; null where none do. */
  readonly event: JsonSchema | null;
}

/** By the name of the operation, for example `schemas["workspace.exec"].output`. */
export const schemas: Readonly<Record<OperationName, OperationSchemas>> = Object.fromEntries(
  Object.entries<Operation>(OPERATIONS).map(([name, row]) => [
    name,
    {
      input: schemaOf(row.input, "input"),
      output: open(schemaOf(row.output, "output")),
      event: row.events ? open(schemaOf(row.events, "output")) : null,
    },
  ]),
) as Record<OperationName, OperationSchemas>;

function schemaOf(schema: z.ZodType, io: "input" | "output"): JsonSchema {
  return z.toJSONSchema(schema, { io, unrepresentable: "throw" }) as JsonSchema;
}

/** A newer pyro says more: no object of what it gives is closed. */
function open(schema: JsonSchema): JsonSchema {
  const opened = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(opened);
    if (typeof value !== "object" || value === null) return value;
    const entries = Object.entries(value).filter(
      ([key, inner]) => !(key === "additionalProperties" && inner === false),
    );
    return Object.fromEntries(entries.map(([key, inner]) => [key, opened(inner)]));
  };
  return opened(schema) as JsonSchema;
}
