// Wrong usage in pyro's own words: what the parser says becomes one sentence of what is wrong and one of what to do.
import type { Command, CommanderError } from "commander";
import { CODES } from "../errors/codes.ts";
import { PyroError } from "../errors/error.ts";
import { nearest } from "../errors/nearest.ts";
import { pathOf } from "./program.ts";

/** The parser gave up on a command. */
export class Stopped extends Error {
  override readonly name = "Stopped";
  readonly error: CommanderError;
  readonly command: Command;

  constructor(error: CommanderError, command: Command) {
    super(error.message);
    this.error = error;
    this.command = command;
  }
}

/** INVALID_INPUT that says what the parser said. */
export function usageError({ error, command }: Stopped): PyroError {
  const path = pathOf(command);
  const names = command.commands.map((child) => child.name());
  if (error.code === "commander.help") {
    return new PyroError("INVALID_INPUT", `${path} needs a command: ${names.join(", ")}.`, { hint: hintFor(path) });
  }
  const sentence = asSentence(error.message);
  const message = sentence.endsWith("?") ? sentence : `${sentence}${begunOption(error.message, command)}`;
  return new PyroError("INVALID_INPUT", message, { hint: hintFor(path) });
}

/** The parser looks for slips of the finger; one who typed an option's beginning meant that option. */
function begunOption(message: string, command: Command): string {
  const typed = /unknown option '(--[\w-]{2,})'/.exec(message)?.[1];
  if (typed === undefined) return "";
  const begun = command.options.flatMap(({ long }) => (long?.startsWith(typed) ? [long] : []));
  return begun.length > 0 ? ` Did you mean ${begun.join(" or ")}?` : "";
}

/** An error whose hint is the general one gets that of its command. */
export function withHintFor(error: PyroError, path: string): PyroError {
  if (error.code !== "INVALID_INPUT" || error.hint !== CODES.INVALID_INPUT.hint) return error;
  return new PyroError(error.code, error.message, { hint: hintFor(path), details: error.details, cause: error.cause });
}

function hintFor(path: string): string {
  return `See \`${path} --help\` for what it takes.`;
}

/** One sentence, with the near name as another; a value that is not among the choices names them. */
export function asSentence(message: string): string {
  const text = message
    .replace(/^error: /, "")
    .replaceAll("\n", " ")
    .trim();
  const choice =
    /^(?:option '(?<option>[^']*)' argument|command-argument value) '(?<value>.*)' is invalid(?: for argument '(?<argument>[^']*)')?\. Allowed choices are (?<choices>.*)\.$/.exec(
      text,
    )?.groups;
  if (choice) {
    const { option, argument, value = "", choices = "" } = choice;
    const what = /--[\w-]+/.exec(option ?? "")?.[0] ?? `<${argument}>`;
    const near = nearest(value, choices.split(", "));
    const guess = near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : "";
    return `${what} takes ${choices.replace(/, ([^,]*)$/, " or $1")}, not ${JSON.stringify(value)}.${guess}`;
  }
  const [, said = text, guess] = /^(.*?)\s*\(Did you mean (.*)\?\)$/.exec(text) ?? [];
  const first = `${said.charAt(0).toUpperCase()}${said.slice(1)}`;
  const sentence = /[.?!]$/.test(first) ? first : `${first}.`;
  return guess === undefined ? sentence : `${sentence} Did you mean ${guess.replace("one of ", "")}?`;
}
