// The whole command line: rows of the table, and the few commands that are no rows.
import { Command, Option } from "commander";
import type { CliShape, Operation, Profile } from "../operations/define.ts";
import { OPERATIONS } from "../operations/table.ts";
import { type Asked, commandFor, type Typed } from "./from-operation.ts";

export const PROFILES: readonly Profile[] = ["vm-run", "workspace-core", "workspace-full"];
export const DEFAULT_PROFILE: Profile = "workspace-core";

const GROUPS: Readonly<Record<string, string>> = {
  daemon: "The process that holds this user's microVMs",
  env: "Environments: the base images that microVMs start from",
  mcp: "The MCP server",
  workspace: "Workspaces and what runs in them",
  "workspace process": "Processes of a workspace or a run",
};
const ALIASES: Readonly<Record<string, string>> = { workspace: "ws" };

/** What each kind of command does when it is its turn. */
export interface Actions {
  operation(asked: Asked): Promise<void>;
  daemonStatus(): Promise<void>;
  daemonStop(): Promise<void>;
  mcpServe(profile: Profile): Promise<void>;
}

/** Rows that have a command, with its shape. */
export function cliRows(): { row: Operation; shape: CliShape }[] {
  const rows: readonly Operation[] = Object.values(OPERATIONS);
  return rows.flatMap((row) => ("path" in row.cli ? [{ row, shape: row.cli }] : []));
}

/** The row that the words of a command line name, before anything else is known of it. */
export function rowNamed(words: readonly string[]): { row: Operation; shape: CliShape } | undefined {
  const [first, ...others] = words.filter((word) => !word.startsWith("-"));
  const named = [Object.entries(ALIASES).find(([, alias]) => alias === first)?.[0] ?? first, ...others];
  return cliRows().find(({ shape }) => shape.path.every((word, index) => named[index] === word));
}

export function buildProgram(typed: Typed, actions: Actions): Command {
  const program = new Command("pyro")
    .description("Disposable computers for coding agents: commands and workspaces inside microVMs.")
    .option("--json", "print one JSON document on stdout, errors too")
    .option("--quiet", "print no progress and no notes")
    .option("--verbose", "print more, above all about failures")
    .option("-V, --version", "print the version");
  const groups = new Map<string, Command>([["", program]]);
  const group = (path: readonly string[]): Command => {
    const key = path.join(" ");
    const known = groups.get(key);
    if (known) return known;
    const made = new Command(path.at(-1) ?? "").description(GROUPS[key] ?? "");
    const alias = ALIASES[key];
    if (alias) made.alias(alias);
    group(path.slice(0, -1)).addCommand(made);
    groups.set(key, made);
    return made;
  };

  for (const { row, shape } of cliRows()) {
    group(shape.path.slice(0, -1)).addCommand(commandFor(row, shape, typed, actions.operation));
  }
  group(["daemon"])
    .addCommand(
      new Command("status")
        .description("Say whether the daemon runs, and where its log is.")
        .action(actions.daemonStatus),
    )
    .addCommand(
      new Command("stop").description("Stop the daemon; runs end, workspaces stay.").action(actions.daemonStop),
    );
  const serve = new Command("serve")
    .description("Serve MCP on stdin and stdout until stdin closes.")
    .addOption(new Option("--profile <profile>", "which tools to offer").choices(PROFILES).default(DEFAULT_PROFILE));
  serve.action(() => actions.mcpServe(serve.opts<{ profile: Profile }>().profile));
  group(["mcp"]).addCommand(serve);
  return inherit(program);
}

/** Settings that commander copies only to commands it makes itself. */
function inherit(command: Command): Command {
  command.exitOverride().configureHelp({ showGlobalOptions: true }).showSuggestionAfterError(true);
  for (const child of command.commands) inherit(child);
  return command;
}
