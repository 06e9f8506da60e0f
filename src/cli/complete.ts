// `pyro __complete WORD... CURRENT`: what the word under the cursor may become. Asked by the shells' scripts at every
// TAB: it starts nothing, waits hardly, and says nothing rather than something wrong.
import { readdirSync } from "node:fs";
import type { Command, Option } from "commander";
import { type CallOptions, call } from "../client/call.ts";
import { type Where, whereFrom } from "../client/where.ts";
import { FACTS } from "../operations/facts.ts";
import { printable } from "../text/printable.ts";
import { VM_ID_PATTERN } from "../wire/ids.ts";
import { STDOUT, writeAll } from "./output.ts";
import { buildProgram, HELP_MEANING } from "./program.ts";
import { shellWords } from "./shell-words.ts";
import { ageOf, shortened } from "./views/units.ts";

/** How long a running daemon may take to say which names there are, ms. */
const ASK_MS = 400;
const MOST_NAMES = 1000;

interface Candidate {
  readonly word: string;
  readonly meaning?: string;
}

/** Names of things that are there, by the argument that takes one; `before`: the arguments in front of it. */
type Living = (where: Where, before: readonly string[], command: string) => Candidate[] | Promise<Candidate[]>;
const LIVING: Readonly<Record<string, Living>> = {
  environment: environments,
  workspace_id: workspaces,
  "workspace_id|vm_id": async (where) => [
    ...(await quietly(() => workspaces(where))),
    ...(await quietly(() => runs(where))),
  ],
  process_id: processes,
  service_name: services,
  shell_id: shells,
  snapshot_name: snapshots,
};

/** Prints a line a candidate. Always succeeds: a shell has no place for an error under its cursor. */
export async function complete(typed: readonly string[]): Promise<number> {
  try {
    const found = await candidates(typed);
    const lines = found.map(({ word, meaning }) => (meaning ? `${word}\t${printable(meaning)}` : word));
    if (lines.length > 0) await writeAll(STDOUT, `${lines.join("\n")}\n`);
  } catch {
    // No words then.
  }
  return 0;
}

async function candidates(typed: readonly string[]): Promise<Candidate[]> {
  const before = typed.slice(0, -1);
  const current = typed.at(-1) ?? "";
  // Behind -- stands a command of the guest, of which this host knows nothing.
  if (before.includes("--")) return [];
  const idle = async () => {};
  const program = buildProgram(
    { rest: undefined },
    {
      operation: idle,
      daemonStatus: idle,
      daemonStop: idle,
      completion: idle,
      mcpServe: idle,
      mcpConfig: idle,
    },
  );
  const { command, given, awaiting } = walk(program, before);
  if (awaiting) return startingWith(current, valuesOf(awaiting));
  const [, name = "", value] = /^(--[\w-]+)=(.*)$/s.exec(current) ?? [];
  if (value !== undefined) {
    const option = optionsOf(command).find(({ long }) => long === name);
    const values = option ? valuesOf(option) : [];
    return startingWith(
      current,
      values.map(({ word }) => ({ word: `${name}=${word}` })),
    );
  }
  if (current.startsWith("-")) return startingWith(current, flagsOf(command, before));
  // A group takes no arguments: a word of its own was mistyped, and what follows it is anybody's guess.
  if (command.commands.length > 0 && given.length > 0) return [];
  const words = command.commands.map((child) => ({
    word: child.name(),
    meaning: child.summary() || child.description(),
  }));
  return startingWith(current, [...words, ...(await argumentsOf(command, given, before))]);
}

/** The command that the words have come to, its arguments so far, and the option that still wants its value. */
function walk(program: Command, words: readonly string[]): { command: Command; given: string[]; awaiting?: Option } {
  let command = program;
  const given: string[] = [];
  let awaiting: Option | undefined;
  for (const word of words) {
    if (awaiting) {
      awaiting = undefined;
      continue;
    }
    if (word.startsWith("-")) {
      const option = optionsOf(command).find(({ long, short }) => word === long || word === short);
      if (option?.required) awaiting = option;
      continue;
    }
    const child = command.commands.find((candidate) => candidate.name() === word || candidate.aliases().includes(word));
    if (child) command = child;
    else given.push(word);
  }
  return awaiting ? { command, given, awaiting } : { command, given };
}

/** Its own options and, as everywhere, the general ones; the version is only asked for alone. */
function optionsOf(command: Command): Option[] {
  const above = command.parent ? optionsOf(command.parent).filter(({ long }) => long !== "--version") : [];
  return [...command.options, ...above];
}

function flagsOf(command: Command, before: readonly string[]): Candidate[] {
  return [...optionsOf(command), command.createOption("-h, --help", HELP_MEANING)]
    .filter(({ long, short, variadic, parseArg, argChoices }) => {
      // What adds up may be given again.
      const again = variadic || (parseArg !== undefined && argChoices === undefined);
      return again || !before.some((word) => word === long || word === short || word.startsWith(`${long}=`));
    })
    .map(({ long, short, description }) => ({ word: long ?? short ?? "", meaning: description }));
}

function valuesOf(option: Option): Candidate[] {
  return (option.argChoices ?? []).map((word) => ({ word }));
}

async function argumentsOf(
  command: Command,
  given: readonly string[],
  before: readonly string[],
): Promise<Candidate[]> {
  const last = command.registeredArguments.at(-1);
  const argument = command.registeredArguments[given.length] ?? (last?.variadic ? last : undefined);
  if (argument === undefined) return takesCommand(command, before) ? [{ word: "--", meaning: "the command" }] : [];
  const choices = (argument.argChoices ?? []).map((word) => ({ word }));
  const living = LIVING[argument.name()];
  const found = living ? await quietly(() => living(whereFrom(), given, command.name())) : [];
  // What is named once needs no second name.
  const names = argument.variadic ? found.filter(({ word }) => !given.includes(word)) : found;
  const rest = takesCommand(command, before) && !argument.required ? [{ word: "--", meaning: "the command" }] : [];
  return [...choices, ...names, ...rest];
}

async function quietly(find: () => Candidate[] | Promise<Candidate[]>): Promise<Candidate[]> {
  try {
    return await find();
  } catch {
    return [];
  }
}

function takesCommand(command: Command, before: readonly string[]): boolean {
  return !before.includes("--") && command.usage().includes("-- COMMAND");
}

/** What a running daemon has; without one, what every pyro has. */
async function environments(where: Where): Promise<Candidate[]> {
  const listed = await call(where, "env.list", {}, asking()).then(
    ({ environments: found }) => found,
    () => undefined,
  );
  if (listed) {
    return listed.map(({ environment, installed }) => ({
      word: environment,
      meaning: installed ? "installed" : "not installed",
    }));
  }
  const standard = FACTS.run.properties.environment?.default;
  return typeof standard === "string" ? [{ word: standard, meaning: "the default" }] : [];
}

/** Each by its name, and by its id where it has none: what a person would type. */
async function workspaces(where: Where): Promise<Candidate[]> {
  const { workspaces: found } = await call(where, "workspace.list", { limit: MOST_NAMES }, asking());
  return found.map(({ workspace_id, name, state, environment }) => ({
    word: name ?? workspace_id,
    meaning: `${state}, ${environment}`,
  }));
}

/** Those that run in the workspace named in front; what they printed is read of those that have ended too. */
async function processes(where: Where, [workspace = ""]: readonly string[], command: string): Promise<Candidate[]> {
  if (VM_ID_PATTERN.test(workspace)) return [];
  const input = { workspace_id: workspace, all: command === "read" };
  const { processes: found } = await call(where, "process.list", input, asking());
  return found.map(({ process_id, command }) => ({ word: process_id, meaning: shortened(shellWords(command)) }));
}

/** Of the workspace named in front; a new one has a name of its own. */
async function services(where: Where, [workspace = ""]: readonly string[], command: string): Promise<Candidate[]> {
  if (command === "start") return [];
  const { services: found } = await call(where, "service.list", { workspace_id: workspace }, asking());
  return found.map(({ service_name, state }) => ({ word: service_name, meaning: state }));
}

/** Of the workspace named in front; a new one has a name of its own. */
async function snapshots(where: Where, [workspace = ""]: readonly string[], command: string): Promise<Candidate[]> {
  if (command === "create") return [];
  const { snapshots: found } = await call(where, "snapshot.list", { workspace_id: workspace }, asking());
  return found
    .filter(({ kind }) => kind === "named")
    .map(({ snapshot_name, created_at }) => ({ word: snapshot_name, meaning: `${ageOf(created_at)} old` }));
}

/** Those that are open in the workspace named in front; what they printed is read of those that have ended too. */
async function shells(where: Where, [workspace = ""]: readonly string[], command: string): Promise<Candidate[]> {
  const input = { workspace_id: workspace, all: command === "read" };
  const { shells: found } = await call(where, "shell.list", input, asking());
  return found.map(({ shell_id, state, cwd }) => ({ word: shell_id, meaning: `${state}, ${cwd}` }));
}

function asking(): CallOptions {
  return { start: false, signal: AbortSignal.timeout(ASK_MS) };
}

/** Runs that have a record: those that go on, and those that are kept until read. */
function runs(where: Where): Candidate[] {
  return readdirSync(where.paths.runs)
    .filter((name) => VM_ID_PATTERN.test(name))
    .map((word) => ({ word }));
}

function startingWith(current: string, all: readonly Candidate[]): Candidate[] {
  return all.filter(({ word }) => word.startsWith(current));
}
