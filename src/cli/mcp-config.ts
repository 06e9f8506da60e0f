// `pyro mcp config`: what makes an agent start this MCP server, in that agent's own format. Prints and changes nothing.
import { homedir } from "node:os";
import { join } from "node:path";
import { parseReferences } from "../client/secrets.ts";
import { carriedVariables } from "../client/settings.ts";
import { installation } from "../host/installation.ts";
import type { Profile } from "../operations/define.ts";
import { printable } from "../text/printable.ts";
import type { Context } from "./context.ts";
import { type Checked, checkPlaces, type Place } from "./mcp-check.ts";
import { type Trial, tryConfigured } from "./mcp-trial.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { DEFAULT_PROFILE, type Host, type HostAccess } from "./program.ts";
import { shellWords } from "./shell-words.ts";

/** How an agent is told of a server. */
interface Config {
  /** The file that `content` belongs in. */
  readonly file: string;
  readonly format: "json" | "toml";
  readonly content: string;
  /** Where the agent looks, the first that holds first. */
  readonly places: readonly Place[];
  /** A command that does the same, as an argument vector; null when the agent has none. */
  readonly command: readonly string[] | null;
}

interface Server {
  readonly argv: readonly string[];
  readonly variables: Readonly<Record<string, string>>;
}

const FORMS: { readonly [H in Host]: (server: Server) => Config } = {
  "claude-code": claudeCode,
  codex,
  opencode,
  vscode,
  cursor,
};

export interface ConfigRequest {
  readonly host: Host;
  readonly profile: Profile;
  readonly access: HostAccess;
  /** Print nothing to paste: say whether the agent has it, and whether that works. */
  readonly check: boolean;
}

/** The exit status: 0, and 1 for a check that does not find what would be printed, or finds that it does not work. */
export async function printConfig(request: ConfigRequest, context: Context): Promise<number> {
  const { host, profile, access, check } = request;
  // Agents hand only some of their environment on. Absolute paths: they start the server in a directory of its own.
  const carried = Object.entries(carriedVariables(context.where.environment));
  // What is printed ends up in files that are shared.
  const withheld = carried.filter(([, value]) => holdsPassword(value)).map(([name]) => name);
  const variables = Object.fromEntries(carried.filter(([name]) => !withheld.includes(name)));
  const { places, ...config } = FORMS[host]({ argv: [...ownCommand(), ...serveArguments(profile, access)], variables });
  if (check) {
    const checked = await checkPlaces(places, config.format, config.content);
    return tellChecked(host, checked, await tryConfigured(checked), places, context);
  }
  if (context.json) {
    await writeJson({ host, ...config, withheld });
    return 0;
  }
  await writeAll(STDOUT, config.content);
  if (context.quiet) return 0;
  const instead = config.command === null ? "" : `, or run:\n      ${shellWords(config.command)}`;
  await writeAll(STDERR, `pyro: Put this into ${config.file}${instead}\n`);
  if (withheld.length > 0) {
    const names = withheld.join(" and ");
    await writeAll(STDERR, `pyro: ${names} held a password and was left out: give it to the agent itself.\n`);
  }
  return 0;
}

async function tellChecked(
  host: Host,
  checked: Checked,
  trial: Trial,
  places: readonly Place[],
  context: Context,
): Promise<number> {
  const { state, place, configured } = checked;
  const same = state === "same";
  if (context.json) {
    await writeJson({ host, state, file: place?.file ?? null, command: configured?.argv ?? null, ...trial });
  } else {
    await writeAll(STDOUT, `${[checkedLine(checked, places), ...trialLines(checked, trial)].join("\n")}\n`);
  }
  if (!same && !context.json && !context.quiet) {
    await writeAll(STDERR, `pyro: \`pyro mcp config ${host}\` prints what belongs there\n`);
  }
  return same && trial.works ? 0 : 1;
}

function trialLines({ configured }: Checked, { works, tools, took_ms, problem }: Trial): string[] {
  if (configured === null) return [];
  const runs = configured.argv.length === 0 ? [] : [`It runs: ${printable(shellWords(configured.argv))}`];
  if (!works) return [...runs, printable(problem ?? "")];
  return [
    ...runs,
    `It works: it offers ${tools.length} tools, ${((took_ms ?? 0) / 1000).toFixed(1)} s after its start.`,
  ];
}

function checkedLine({ state, place }: Checked, places: readonly Place[]): string {
  const named = printable(place?.file ?? "");
  if (state === "same") return `${named} has pyro as it would be printed now.`;
  if (state === "other") return `${named} has pyro with other words than would be printed now.`;
  if (state === "unreadable") return `${named} cannot be understood.`;
  return `No pyro in ${printable([...new Set(places.map((place) => place.file))].join(" or "))}.`;
}

function configHome(): string {
  return process.env.XDG_CONFIG_HOME || join(homedir(), ".config");
}

/** An address of the form scheme://user:password@host, or without its scheme as proxies may be given. */
function holdsPassword(value: string): boolean {
  return /^(\w+:\/\/)?[^/\s@]*:[^/\s@]*@/.test(value);
}

/** Errors: SECRET_LITERAL, SECRET_INVALID: what is printed here ends up in files. */
function serveArguments(profile: Profile, access: HostAccess): string[] {
  const { allowRead, allowWrite, projectPath, projectSource, networkPolicy, secrets, secretFor } = access;
  parseReferences(secrets);
  return [
    "mcp",
    "serve",
    ...(profile === DEFAULT_PROFILE ? [] : ["--profile", profile]),
    ...(projectPath === undefined ? [] : ["--project-path", projectPath]),
    ...(projectSource ? [] : ["--no-project-source"]),
    ...allowRead.flatMap((directory) => ["--allow-read", directory]),
    ...allowWrite.flatMap((directory) => ["--allow-write", directory]),
    ...(networkPolicy === undefined ? [] : ["--network-policy", networkPolicy]),
    ...secrets.flatMap((word) => ["--secret", word]),
    ...secretFor.flatMap((word) => ["--secret-for", word]),
  ];
}

/**
 * What starts this very installation, whatever the agent's PATH: a checkout by its own Node, an installed package by
 * the Node that runs now, one that npx fetched by npx, as its place may go at any time.
 */
function ownCommand(): string[] {
  const { root } = installation();
  if (root.split("/").includes("_npx")) return ["npx", "-y", "pyro-mcp"];
  return [process.execPath, join(root, "bin", "pyro.js")];
}

function claudeCode({ argv: [command = "", ...args], variables }: Server): Config {
  const given = Object.entries(variables).flatMap(([name, value]) => ["--env", `${name}=${value}`]);
  const own = join(process.env.CLAUDE_CONFIG_DIR || homedir(), ".claude.json");
  const keys = ["mcpServers", "pyro"];
  return {
    file: ".mcp.json of a project",
    format: "json",
    content: asJson({ mcpServers: { pyro: { type: "stdio", command, args, env: variables } } }),
    places: [
      { file: own, keys: ["projects", process.cwd(), ...keys], shared: false },
      { file: join(process.cwd(), ".mcp.json"), keys, shared: true },
      { file: own, keys, shared: false },
    ],
    // The name comes first: --env takes all the words that follow it.
    command: ["claude", "mcp", "add", "pyro", "--scope", "user", ...given, "--", command, ...args],
  };
}

function codex({ argv: [command = "", ...args], variables }: Server): Config {
  const given = Object.entries(variables).flatMap(([name, value]) => ["--env", `${name}=${value}`]);
  const keys = ["mcp_servers", "pyro"];
  const lines = ["[mcp_servers.pyro]", `command = ${asToml(command)}`, `args = [${args.map(asToml).join(", ")}]`];
  if (given.length > 0) {
    lines.push("", "[mcp_servers.pyro.env]");
    for (const [name, value] of Object.entries(variables)) lines.push(`${name} = ${asToml(value)}`);
  }
  return {
    file: "~/.codex/config.toml, or .codex/config.toml of a project that codex trusts",
    format: "toml",
    content: `${lines.join("\n")}\n`,
    places: [
      { file: join(process.cwd(), ".codex", "config.toml"), keys, shared: true },
      { file: join(process.env.CODEX_HOME || join(homedir(), ".codex"), "config.toml"), keys, shared: false },
    ].filter(({ file }, index, all) => all.findLastIndex((other) => other.file === file) === index),
    command: ["codex", "mcp", "add", "pyro", ...given, "--", command, ...args],
  };
}

// Version 1 of opencode wants this form, `enabled` too; version 2 still takes it, beside its own with `servers` in between.
function opencode({ argv, variables }: Server): Config {
  return {
    file: "opencode.json of a project, or ~/.config/opencode/opencode.json",
    format: "json",
    content: asJson({
      $schema: "https://opencode.ai/config.json",
      mcp: { pyro: { type: "local", command: argv, enabled: true, environment: variables } },
    }),
    places: [join(process.cwd(), ".opencode"), process.cwd(), join(configHome(), "opencode")].flatMap(
      (directory, index) =>
        ["opencode.json", "opencode.jsonc"].flatMap((name) =>
          [
            ["mcp", "servers", "pyro"],
            ["mcp", "pyro"],
          ].map((keys) => {
            return { file: join(directory, name), keys, shared: index < 2 };
          }),
        ),
    ),
    command: null,
  };
}

function vscode({ argv: [command = "", ...args], variables }: Server): Config {
  const entry = { type: "stdio", command, args, env: variables };
  const keys = ["servers", "pyro"];
  return {
    file: ".vscode/mcp.json of a project",
    format: "json",
    content: asJson({ servers: { pyro: entry } }),
    places: [
      { file: join(process.cwd(), ".vscode", "mcp.json"), keys, shared: true },
      { file: join(configHome(), "Code", "User", "mcp.json"), keys, shared: false },
      { file: join(process.cwd(), ".mcp.json"), keys: ["mcpServers", "pyro"], shared: true },
    ],
    command: ["code", "--add-mcp", JSON.stringify({ name: "pyro", ...entry })],
  };
}

function cursor({ argv: [command = "", ...args], variables }: Server): Config {
  const keys = ["mcpServers", "pyro"];
  return {
    file: ".cursor/mcp.json of a project, or ~/.cursor/mcp.json",
    format: "json",
    content: asJson({ mcpServers: { pyro: { type: "stdio", command, args, env: variables } } }),
    places: [process.cwd(), homedir()].map((directory) => {
      return { file: join(directory, ".cursor", "mcp.json"), keys, shared: directory !== homedir() };
    }),
    command: null,
  };
}

function asJson(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** A basic string of TOML: JSON's escapes are among TOML's, and it wants DEL escaped too. */
function asToml(text: string): string {
  return JSON.stringify(text).replaceAll("\x7f", "\\u007F");
}
