// A row of the table as a command: its flags, help and arguments, and the way back from what was typed to an input.
import { Argument, Command, Option } from "commander";
import * as z from "zod";
import { PyroError } from "../errors/error.ts";
import { parseInput } from "../operations/check.ts";
import type { CliShape, Operation } from "../operations/define.ts";

/** How one input key is typed. */
interface Field {
  readonly key: string;
  readonly kind: "boolean" | "number" | "text" | "record" | "list";
  readonly option: Option;
}

interface Property {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly additionalProperties?: unknown;
}

/** What the command line asks for. */
export interface Asked {
  readonly row: Operation;
  readonly input: Record<string, unknown>;
}

export interface Typed {
  /** Everything after `--`, exactly as given; undefined when there was no `--`. */
  readonly rest: readonly string[] | undefined;
}

/** The command for a row that has one. `act` gets the checked input, with its defaults. */
export function commandFor(
  row: Operation,
  shape: CliShape,
  typed: Typed,
  act: (asked: Asked) => Promise<void>,
): Command {
  const name = shape.path.at(-1) ?? row.name;
  const command = new Command(name).summary(row.summary).description(`${row.summary}.`);
  const properties = propertiesOf(row);
  const positional = shape.positional ?? [];
  for (const key of positional) command.addArgument(argumentFor(key, properties[key], row));
  const fields = fieldsOf(row, shape, properties);
  for (const { option } of fields) command.addOption(option);
  if (shape.rest !== undefined) {
    const words = positional.map((key) => (isOptional(row, key) ? `[${key}]` : `<${key}>`));
    command.usage(["[options]", ...words, "-- COMMAND [ARG...]"].join(" "));
  }
  if (shape.examples)
    command.addHelpText("after", `\nExamples:\n${shape.examples.map((line) => `  ${line}`).join("\n")}`);
  command.action(async () => {
    const values = command.opts<Record<string, unknown>>();
    const input: Record<string, unknown> = {};
    positional.forEach((key, index) => {
      const value: unknown = command.processedArgs[index];
      if (value !== undefined) input[key] = value;
    });
    for (const field of fields) {
      const value = typedValue(field, values[field.option.attributeName()]);
      if (value !== undefined) input[field.key] = value;
    }
    if (shape.rest !== undefined) input[shape.rest] = [...(typed.rest ?? [])];
    const label = (key: string) => fields.find((field) => field.key === key)?.option.long ?? key;
    await act({ row, input: parseInput(row, input, label) });
  });
  return command;
}

/** A row with a command needs `--`; saying so at once beats the parser's guess at the command's own flags. */
export function missingCommand(shape: CliShape): PyroError {
  const path = `pyro ${shape.path.join(" ")}`;
  return new PyroError("INVALID_INPUT", `${path} needs a command after \`--\`.`, {
    hint: `For example: ${shape.examples?.[0] ?? `${path} -- true`}`,
  });
}

/** Flags of a row as `[flags, description]`, for help and the reference. */
export function flagsOf(row: Operation, shape: CliShape): { flags: string; description: string }[] {
  return fieldsOf(row, shape, propertiesOf(row)).map(({ option }) => ({
    flags: option.flags,
    description: option.description,
  }));
}

function fieldsOf(row: Operation, shape: CliShape, properties: Record<string, Property>): Field[] {
  const elsewhere = new Set([...(shape.positional ?? []), ...(shape.omit ?? []), shape.rest]);
  return Object.entries(properties)
    .filter(([key]) => !elsewhere.has(key))
    .map(([key, property]) => fieldFor(row, key, property, shape.flags?.[key]));
}

function fieldFor(row: Operation, key: string, property: Property, flags: string | undefined): Field {
  const kind = kindOf(row, key, property);
  const long = `--${key.replaceAll("_", "-")}`;
  // The unit stands at the end of a name: --mem-mib <mib>, --timeout-seconds <seconds>.
  const value = kind === "boolean" ? "" : ` <${key.split("_").at(-1)}>`;
  const option = new Option(flags ?? `${long}${value}`, described(property));
  if (kind === "record" || kind === "list") {
    option.argParser((text: string, before: string[] | undefined) => [...(before ?? []), text]);
  }
  return { key, kind, option };
}

function kindOf(row: Operation, key: string, property: Property): Field["kind"] {
  switch (property.type) {
    case "boolean":
      return "boolean";
    case "integer":
    case "number":
      return "number";
    case "string":
      return "text";
    case "array":
      return "list";
    case "object":
      if (property.additionalProperties) return "record";
  }
  throw new Error(`${row.name}.${key} has no form on the command line; omit it or make it positional`);
}

function argumentFor(key: string, property: Property | undefined, row: Operation): Argument {
  const words = isOptional(row, key) ? `[${key}]` : `<${key}>`;
  return new Argument(words, property ? described(property) : "");
}

function described(property: Property): string {
  const { description = "", default: standard, enum: choices } = property;
  const of = choices ? ` (one of: ${choices.join(", ")})` : "";
  const shown = standard === undefined || standard === false ? "" : ` (default: ${String(standard)})`;
  return `${description}${of}${shown}`;
}

function isOptional(row: Operation, key: string): boolean {
  return row.input.shape[key]?.safeParse(undefined).success === true;
}

function propertiesOf(row: Operation): Record<string, Property> {
  const schema = z.toJSONSchema(row.input, { io: "input", unrepresentable: "throw" });
  return (schema.properties ?? {}) as Record<string, Property>;
}

function typedValue({ kind, option }: Field, value: unknown): unknown {
  // commander reads --no-x as "x is false".
  if (option.negate) return value === false ? true : undefined;
  if (value === undefined) return undefined;
  if (kind === "number") return numberOf(option, String(value));
  if (kind === "record" && Array.isArray(value))
    return Object.fromEntries(value.map((pair) => pairOf(option, String(pair))));
  return value;
}

function numberOf(option: Option, text: string): number {
  if (/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i.test(text)) return Number(text);
  throw new PyroError("INVALID_INPUT", `${option.long}: expected a number, got ${JSON.stringify(text)}.`);
}

function pairOf(option: Option, pair: string): [string, string] {
  const at = pair.indexOf("=");
  if (at > 0) return [pair.slice(0, at), pair.slice(at + 1)];
  throw new PyroError("INVALID_INPUT", `${option.long}: expected NAME=VALUE, got ${JSON.stringify(pair)}.`);
}
