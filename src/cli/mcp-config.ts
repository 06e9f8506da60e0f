// `pyro mcp config`: what makes an agent start this MCP server, in that agent's own format. Prints and changes nothing.
import { join } from "node:path";
import { carriedVariables } from "../client/settings.ts";
import { installation } from "../host/installation.ts";
import type { Profile } from "../operations/define.ts";
import type { Context } from "./context.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { DEFAULT_PROFILE, type Host, type HostAccess } from "./program.ts";
import { shellWords } from "./shell-words.ts";

/** How an agent is told of a server. */
interface Config {
  /** The file that `content` belongs in. */
  readonly file: string;
  readonly format: "json" | "toml";
  readonly content: string;
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
};

export async function printConfig(host: Host, profile: Profile, access: HostAccess, context: Context): Promise<number> {
  // Agents hand only some of their environment on. Absolute paths: they start the server in a directory of its own.
  const carried = Object.entries(carriedVariables(context.where.environment));
  // What is printed ends up in files that are shared.
  const withheld = carried.filter(([, value]) => holdsPassword(value)).map(([name]) => name);
  const variables = Object.fromEntries(carried.filter(([name]) => !withheld.includes(name)));
  const config = FORMS[host]({ argv: [...ownCommand(), ...serveArguments(profile, access)], variables });
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

/** An address of the form scheme://user:password@host, or without its scheme as proxies may be given. */
function holdsPassword(value: string): boolean {
  return /^(\w+:\/\/)?[^/\s@]*:[^/\s@]*@/.test(value);
}

function serveArguments(profile: Profile, { allowRead, allowWrite }: HostAccess): string[] {
  return [
    "mcp",
    "serve",
    ...(profile === DEFAULT_PROFILE ? [] : ["--profile", profile]),
    ...allowRead.flatMap((directory) => ["--allow-read", directory]),
    ...allowWrite.flatMap((directory) => ["--allow-write", directory]),
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
  return {
    file: ".mcp.json of a project",
    format: "json",
    content: asJson({ mcpServers: { pyro: { type: "stdio", command, args, env: variables } } }),
    // The name comes first: --env takes all the words that follow it.
    command: ["claude", "mcp", "add", "pyro", "--scope", "user", ...given, "--", command, ...args],
  };
}

function codex({ argv: [command = "", ...args], variables }: Server): Config {
  const given = Object.entries(variables).flatMap(([name, value]) => ["--env", `${name}=${value}`]);
  const lines = ["[mcp_servers.pyro]", `command = ${asToml(command)}`, `args = [${args.map(asToml).join(", ")}]`];
  if (given.length > 0) {
    lines.push("", "[mcp_servers.pyro.env]");
    for (const [name, value] of Object.entries(variables)) lines.push(`${name} = ${asToml(value)}`);
  }
  return {
    file: "~/.codex/config.toml",
    format: "toml",
    content: `${lines.join("\n")}\n`,
    command: ["codex", "mcp", "add", "pyro", ...given, "--", command, ...args],
  };
}

// Version 1 of opencode wants this form, `enabled` too; version 2 still takes it.
function opencode({ argv, variables }: Server): Config {
  return {
    file: "opencode.json of a project, or ~/.config/opencode/opencode.json",
    format: "json",
    content: asJson({
      $schema: "https://opencode.ai/config.json",
      mcp: { pyro: { type: "local", command: argv, enabled: true, environment: variables } },
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
