// What is known of each row without its schemas: plain data. Schemas take milliseconds each to make, and a command line
// needs none of them to print its help, complete a word or send a request: so the bundle holds this module's value and
// not the table (scripts/build.ts works it out). From source it is worked out here.
import * as z from "zod";
import type { CliShape, Effect, Operation } from "./define.ts";
import { OPERATIONS, type OperationName } from "./table.ts";

/** One key of an input, as JSON Schema says it. */
export interface Property {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly additionalProperties?: unknown;
}

export interface Facts {
  readonly name: OperationName;
  readonly summary: string;
  readonly effect: Effect;
  /** Bytes may be sent to it while it runs. */
  readonly stdin: boolean;
  /** It is taken up again when the connection breaks. */
  readonly resumes: boolean;
  /** The input key whose host path is sent; null when there is none. */
  readonly upload: string | null;
  /** The input key whose host path is written; null when there is none. */
  readonly download: string | null;
  /** It tells of its progress before it answers. */
  readonly streams: boolean;
  /** It may have to start a microVM before it answers. */
  readonly starts: boolean;
  /** Keys of the input. */
  readonly properties: Readonly<Record<string, Property>>;
  /** Keys that have no default. */
  readonly required: readonly string[];
  /** Its command; null when it has none. */
  readonly cli: CliShape | null;
}

export const FACTS: { readonly [N in OperationName]: Facts } = Object.fromEntries(
  Object.entries<Operation>(OPERATIONS).map(([name, row]) => [name, factsOf(row)]),
) as Record<OperationName, Facts>;

function factsOf(row: Operation): Facts {
  const schema = z.toJSONSchema(row.input, { io: "input", unrepresentable: "throw" });
  return {
    name: row.name as OperationName,
    summary: row.summary,
    effect: row.effect,
    stdin: row.stdin === true,
    resumes: row.stdin === true || row.resumes === true,
    upload: row.upload ?? null,
    download: row.download ?? null,
    streams: row.events !== undefined,
    starts: row.starts === true,
    properties: (schema.properties ?? {}) as Record<string, Property>,
    required: schema.required ?? [],
    cli: "path" in row.cli ? row.cli : null,
  };
}
