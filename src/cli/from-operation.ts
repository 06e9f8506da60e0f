// A row of the table as a command: its flags, help and arguments, and the way back from what was typed to an input.
// Works from the rows' plain facts: the input is checked against its schema later, and mostly by the daemon.
import { Argument, Command, Option } from "commander";
import { PyroError } from "../errors/error.ts";
import type { CliShape } from "../operations/define.ts";
import type { Facts, Property } from "../operations/facts.ts";
import type { OperationName } from "../operations/table.ts";
import { type AddedFlag, additionFor } from "./additions.ts";

/** How one input key is typed. */
interface Field {
  readonly key: string;
  readonly kind: "boolean" | "number" | "text" | "record" | "list";
  readonly option: Option;
}

/** What the command line asks for; the input holds what was typed and nothing else. */
export interface Asked {
  readonly name: OperationName;
  readonly input: Record<string, unknown>;
  /** What was typed that is no key of the input (additions.ts). */
  readonly beside: Readonly<Record<string, unknown>>;
  /** --id-only was given: the key of the output to print alone. */
  readonly idOnly?: string;
  /** An input's key in the words of this command. */
  readonly label: (key: string) => string;
}

export interface Typed {
  /** Everything after `--`, exactly as given; undefined when there was no `--`. */
  readonly rest: readonly string[] | undefined;
}

const ID_ONLY = new Option("--id-only", "Print the id and nothing else");

/** The command for a row that has one. */
export function commandFor(facts: Facts, shape: CliShape, typed: Typed, act: (asked: Asked) => Promise<void>): Command {
  const name = shape.path.at(-1) ?? facts.name;
  const command = new Command(name).summary(facts.summary).description(`${facts.summary}.`);
  const positional = shape.positional ?? [];
  const { several, flags = [], note } = additionFor(facts.name);
  for (const key of positional) command.addArgument(argumentFor(key, facts));
  const fields = fieldsOf(facts, shape);
  const added = flags.map(addedField);
  for (const { option } of [...fields, ...added]) command.addOption(option);
  if (shape.idOnly !== undefined) command.addOption(ID_ONLY);
  if (shape.rest !== undefined) {
    const words = positional.map((key) => bracketed(key, facts));
    command.usage(["[options]", ...words, "-- COMMAND [ARG...]"].join(" "));
  }
  if (note) command.addHelpText("after", `\n${wrapped(note)}`);
  if (shape.examples) command.addHelpText("after", exampleText(shape.examples));
  command.action(async () => {
    const values = command.opts<Record<string, unknown>>();
    const input: Record<string, unknown> = {};
    const beside: Record<string, unknown> = {};
    positional.forEach((key, index) => {
      const value: unknown = command.processedArgs[index];
      if (value === undefined) return;
      if (key === several) beside[key] = value;
      else input[meant(key, value)] = value;
    });
    for (const [into, all] of [[input, fields] as const, [beside, added] as const]) {
      for (const field of all) {
        const value = typedValue(field, values[field.option.attributeName()]);
        if (value !== undefined) into[field.key] = value;
      }
    }
    if (shape.rest !== undefined) input[shape.rest] = [...(typed.rest ?? [])];
    await act({
      name: facts.name,
      input,
      beside,
      ...(values[ID_ONLY.attributeName()] === true && shape.idOnly !== undefined ? { idOnly: shape.idOnly } : {}),
      label: (key) => fields.find((field) => field.key === key)?.option.long ?? key,
    });
  });
  return command;
}

/** A paragraph of the help. */
export function exampleText(lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join("\n")}`;
}

const HELP_COLUMNS = 80;

/** Lines that fit the help. */
function wrapped(text: string): string {
  const lines = [""];
  for (const word of text.split(" ")) {
    const line = `${lines.at(-1)} ${word}`.trimStart();
    if (line.length <= HELP_COLUMNS) lines[lines.length - 1] = line;
    else lines.push(word);
  }
  return lines.join("\n");
}

/** Of "a|b" the key that a word is for: ids say by their beginning what they are of, names are of the first. */
function meant(key: string, word: unknown): string {
  const [first = key, ...others] = key.split("|");
  return others.find((other) => String(word).startsWith(other.replace(/id$/, ""))) ?? first;
}

/** A row with a command needs `--`; saying so at once beats the parser's guess at the command's own flags. */
export function missingCommand(shape: CliShape): PyroError {
  const path = `pyro ${shape.path.join(" ")}`;
  return new PyroError("INVALID_INPUT", `${path} needs a command after \`--\`.`, {
    hint: `For example: ${shape.examples?.[0] ?? `${path} -- true`}`,
  });
}

/** Flags of a row as `[flags, description]`, for the reference. */
export function flagsOf(facts: Facts, shape: CliShape): { flags: string; description: string }[] {
  const all = [...fieldsOf(facts, shape), ...(additionFor(facts.name).flags ?? []).map(addedField)];
  const options = [...all.map(({ option }) => option), ...(shape.idOnly === undefined ? [] : [ID_ONLY])];
  return options.map(({ flags, description }) => ({ flags, description }));
}

/** `[key]` when it may be left out, `[key...]` when it may be given many times, else `<key>`. */
export function bracketed(key: string, facts: Facts): string {
  if (key === additionFor(facts.name).several) return `[${key}...]`;
  // One of two is never left out.
  return key.includes("|") || facts.required.includes(key) ? `<${key}>` : `[${key}]`;
}

/** What a positional argument is, in words. */
export function meaningOf(key: string, facts: Facts): string {
  const meanings = key.split("|").map((part) => described(facts.properties[part] ?? {}));
  return meanings
    .map((text, at) => (at === 0 ? text : `${text.charAt(0).toLowerCase()}${text.slice(1)}`))
    .join("; or ");
}

function fieldsOf(facts: Facts, shape: CliShape): Field[] {
  const positional = (shape.positional ?? []).flatMap((key) => key.split("|"));
  const elsewhere = new Set([...positional, ...(shape.omit ?? []), shape.rest]);
  return Object.entries(facts.properties)
    .filter(([key]) => !elsewhere.has(key))
    .map(([key, property]) => fieldFor(facts, key, property, shape.flags?.[key]));
}

function fieldFor(facts: Facts, key: string, property: Property, flags: string | undefined): Field {
  const kind = kindOf(facts, key, property);
  const long = `--${key.replaceAll("_", "-")}`;
  // The unit stands at the end of a name: --mem-mib <mib>, --timeout-seconds <seconds>.
  const value = kind === "boolean" ? "" : ` <${key.split("_").at(-1)}>`;
  const again = kind === "record" || kind === "list";
  const option = new Option(flags ?? `${long}${value}`, `${described(property)}${again ? " (may be repeated)" : ""}`);
  if (again) option.argParser(addUp);
  else if (property.enum) option.choices(property.enum.map(String));
  return { key, kind, option };
}

function addedField({ key, kind, flags, description }: AddedFlag): Field {
  const option = new Option(flags, description);
  if (kind === "record") option.argParser(addUp);
  return { key, kind, option };
}

function addUp(text: string, before: string[] | undefined): string[] {
  return [...(before ?? []), text];
}

function kindOf(facts: Facts, key: string, property: Property): Field["kind"] {
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
  throw new Error(`${facts.name}.${key} has no form on the command line; omit it or make it positional`);
}

function argumentFor(key: string, facts: Facts): Argument {
  return new Argument(bracketed(key, facts), meaningOf(key, facts));
}

function described({ description = "", default: standard }: Property): string {
  const shown =
    standard === undefined || standard === false || standard === "" ? "" : ` (default: ${String(standard)})`;
  return `${description}${shown}`;
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
  const form = /<(.*)>/.exec(option.flags)?.[1] ?? "NAME=VALUE";
  throw new PyroError("INVALID_INPUT", `${option.long}: expected ${form}, got ${JSON.stringify(pair)}.`);
}
