// The whole command line: rows of the table, and the few commands that are no rows.
import { resolve } from "node:path";
import { Argument, Command, Option } from "commander";
import { type CliShape, PROFILES, type Profile } from "../operations/define.ts";
import { FACTS, type Facts } from "../operations/facts.ts";
import type { NetworkPolicy } from "../operations/fields.ts";
import { type Asked, commandFor, exampleText, type Typed } from "./from-operation.ts";
import type { ConfigRequest } from "./mcp-config.ts";

export const DEFAULT_PROFILE: Profile = "workspace-core";
export const SHELLS = ["bash", "zsh", "fish"] as const;
export const HOSTS = ["claude-code", "codex", "opencode", "vscode", "cursor"] as const;

export type Shell = (typeof SHELLS)[number];
export type Host = (typeof HOSTS)[number];

const GROUPS: Readonly<Record<string, string>> = {
  daemon: "The process that holds this user's microVMs",
  env: "Environments: the base images that microVMs start from",
  mcp: "The MCP server",
  workspace: "Workspaces: computers that keep their files, and what runs in them",
  "workspace file": "Single files of a workspace",
  "workspace patch": "Patches of a workspace's files",
  "workspace process": "Processes of a workspace or a run",
  "workspace service": "Services: named programs that go on beside the commands of a workspace",
  "workspace snapshot": "Snapshots: the disk of a workspace at a moment, to go back to",
  "workspace disk": "The disk of a stopped workspace",
  "workspace network": "What a workspace may reach, and what it tried to",
  "workspace secret": "Secrets that a workspace uses and does not hold",
  "workspace shell": "Shells: terminals that stay open in a workspace",
  "workspace sync": "Files of this host in a workspace",
};
/** Short stories, for groups whose commands are used one after another. */
const EXAMPLES: Readonly<Record<string, readonly string[]>> = {
  "": [
    "pyro run -- uname -a",
    "pyro workspace create --seed-path . --name fix-tests",
    "pyro workspace exec fix-tests -- ls -la",
    "pyro workspace delete fix-tests",
  ],
  workspace: [
    "pyro workspace create --seed-path . --name fix-tests",
    "pyro workspace exec fix-tests -- ls -la",
    "pyro workspace sync push fix-tests .",
    "pyro workspace logs fix-tests",
    "pyro workspace delete fix-tests",
  ],
  "workspace snapshot": [
    "pyro workspace snapshot create fix-tests before-upgrade",
    "pyro workspace exec fix-tests -- ./upgrade",
    "pyro workspace reset fix-tests --snapshot before-upgrade",
    "pyro workspace snapshot delete fix-tests before-upgrade",
  ],
  "workspace shell": [
    "pyro workspace shell attach fix-tests",
    "pyro workspace shell open fix-tests --id-only",
    "pyro workspace shell write fix-tests sh_1 --input 'make test'",
    "pyro workspace shell read fix-tests sh_1 --plain --wait-for-idle-ms 300",
    "pyro workspace shell close fix-tests sh_1",
  ],
};

/** What a person meets first stands first; what is not named here follows. */
const ORDER: Readonly<Record<string, readonly string[]>> = {
  pyro: ["run", "workspace", "mcp", "env", "doctor", "daemon", "completion"],
  workspace: [
    ...[
      "create",
      "exec",
      "shell",
      "sync",
      "diff",
      "export",
      "logs",
      "summary",
      "process",
      "service",
      "snapshot",
      "reset",
      "clone",
    ],
    ...["list", "status", "update", "stop", "start", "delete"],
  ],
};

const ALIASES: Readonly<Record<string, string>> = { workspace: "ws" };

const VARIABLES = `
Environment variables:
  PYRO_HOME         where everything is kept, instead of below XDG_STATE_HOME
  PYRO_ENVIRONMENT  environment of a run or a workspace that names none
  PYRO_POOL_SIZE    microVMs kept ready for the next run or workspace, 0 for none
  PYRO_LOG          what the logs hold: debug, info, warn, error or off
  PYRO_DRIVER, PYRO_UNCONFINED, NO_COLOR
  A flag goes over its variable, that over $XDG_CONFIG_HOME/pyro/config.json.

\`pyro help COMMAND\` or \`pyro COMMAND --help\` tells more of a command.`;

export const HELP_MEANING = "Say how it is used";

/** What each kind of command does when it is its turn. */
export interface Actions {
  operation(asked: Asked): Promise<void>;
  daemonStatus(): Promise<void>;
  daemonStop(): Promise<void>;
  completion(shell: Shell): Promise<void>;
  mcpServe(profile: Profile, access: HostAccess): Promise<void>;
  mcpConfig(request: ConfigRequest): Promise<void>;
}

/** What of the host tools may use beside what they may use anyway: directories, and secrets by reference. */
export interface HostAccess {
  readonly allowRead: readonly string[];
  readonly allowWrite: readonly string[];
  readonly secrets: readonly string[];
  /** The project that a workspace begins with, instead of the work tree around the server. */
  readonly projectPath?: string | undefined;
  /** False: it does so only when that is asked for. */
  readonly projectSource: boolean;
  /** Which hosts some of them are for, and nobody else. */
  readonly secretFor: readonly string[];
  /** The most that tools may ask of a network; nothing where it is not said. */
  readonly networkPolicy?: NetworkPolicy | undefined;
}

/** Rows that have a command, with its shape. */
export function cliRows(): { facts: Facts; shape: CliShape }[] {
  return Object.values<Facts>(FACTS).flatMap((facts) => (facts.cli ? [{ facts, shape: facts.cli }] : []));
}

/** The row that the words of a command line name, before anything else is known of it. */
export function rowNamed(words: readonly string[]): { facts: Facts; shape: CliShape } | undefined {
  const [first, ...others] = words.filter((word) => !word.startsWith("-"));
  const named = [Object.entries(ALIASES).find(([, alias]) => alias === first)?.[0] ?? first, ...others];
  return cliRows().find(({ shape }) => shape.path.every((word, index) => named[index] === word));
}

/** How far the words name a command, and the first word that names none. Options are passed over. */
export function commandNamed(program: Command, words: readonly string[]): { command: Command; surplus?: string } {
  let command = program;
  for (const word of words.filter((candidate) => !candidate.startsWith("-"))) {
    const next = command.commands.find((child) => child.name() === word || child.aliases().includes(word));
    if (next === undefined) return { command, surplus: word };
    command = next;
  }
  return { command };
}

/** `pyro env list` for the command of that name. */
export function pathOf(command: Command): string {
  return command.parent ? `${pathOf(command.parent)} ${command.name()}` : command.name();
}

export function buildProgram(typed: Typed, actions: Actions): Command {
  const program = new Command("pyro")
    .description("Disposable computers for coding agents: commands and workspaces inside microVMs.")
    .option("--json", "Print one JSON document on stdout, errors too")
    .option("--quiet", "Print no progress and no notes")
    .option("--verbose", "Print more, above all about failures")
    .option("-V, --version", "Print the version")
    .addHelpText("after", exampleText(EXAMPLES[""] ?? []))
    .addHelpText("after", VARIABLES);
  const groups = new Map<string, Command>([["", program]]);
  const group = (path: readonly string[]): Command => {
    const key = path.join(" ");
    const known = groups.get(key);
    if (known) return known;
    const meaning = GROUPS[key] ?? "";
    const made = new Command(path.at(-1) ?? "").summary(meaning).description(`${meaning}.`);
    const examples = EXAMPLES[key];
    if (examples) made.addHelpText("after", exampleText(examples));
    const alias = ALIASES[key];
    if (alias) made.alias(alias);
    group(path.slice(0, -1)).addCommand(made);
    groups.set(key, made);
    return made;
  };

  for (const { facts, shape } of cliRows()) {
    group(shape.path.slice(0, -1)).addCommand(commandFor(facts, shape, typed, actions.operation));
  }
  group(["daemon"])
    .addCommand(
      new Command("status")
        .summary("Say whether the daemon runs, and where its log is")
        .description("Say whether the daemon runs, and where its log is.")
        .action(actions.daemonStatus),
    )
    .addCommand(
      new Command("stop")
        .summary("Stop the daemon: runs end; workspaces stay, and what runs in them goes on")
        .description("Stop the daemon: runs end; workspaces stay, and what runs in them goes on.")
        .action(actions.daemonStop),
    );
  group(["mcp"]).addCommand(serveCommand(actions)).addCommand(configCommand(actions));
  program.addCommand(completionCommand(actions));
  return inherit(program);
}

/** As in the table, whose schemas a command line does without. */
const POLICIES = FACTS.run.properties.network_policy?.enum as readonly NetworkPolicy[];

/** What `mcp serve` takes, and `mcp config` passes on to it. */
const SERVE_OPTIONS = [
  new Option("--profile <profile>", "Which tools to offer").choices(PROFILES).default(DEFAULT_PROFILE),
  new Option("--project-path <dir>", "The project, instead of the git work tree that it is started in"),
  new Option("--no-project-source", "Begin workspaces with the project only when a tool names it"),
  repeatedOption("--allow-read <dir>", "Directory of this host that tools may read too (may be repeated)"),
  repeatedOption("--allow-write <dir>", "Directory of this host that tools may write to too (may be repeated)"),
  new Option("--network-policy <policy>", "The most that tools may ask of a network").choices(POLICIES),
  repeatedOption(
    "--secret <NAME[=SOURCE]>",
    "Secret that tools may name: NAME or NAME=env:VAR, a variable of the server's, or NAME=file:PATH (may be repeated)",
  ),
  repeatedOption(
    "--secret-for <NAME=HOST[,HOST]>",
    "Secret that tools may use at these hosts alone, and that no workspace holds (may be repeated)",
  ),
];

const SERVE_NOTE = `
The git work tree that it is started in is its project, unless that is / or the
home directory or above: workspace_create begins a workspace with it when a tool
names nothing else, tools may read it, and write to its .pyro/out.`;

function repeatedOption(flags: string, meaning: string): Option {
  return new Option(flags, meaning).argParser((word: string, before: string[] | undefined) => [
    ...(before ?? []),
    word,
  ]);
}

/** Absolute: an agent starts the server in a directory of its own. */
function servedWith(command: Command): [Profile, HostAccess] {
  type Given = { profile: Profile; secret?: readonly string[] } & Partial<HostAccess>;
  const options = command.opts<Given>();
  const { profile, allowRead = [], allowWrite = [], networkPolicy, secret = [], secretFor = [], ...project } = options;
  const absolute = (path: string) => resolve(path);
  const secrets = secret.map((word) => word.replace(/=file:(.*)$/s, (_, path: string) => `=file:${resolve(path)}`));
  const directories = { allowRead: allowRead.map(absolute), allowWrite: allowWrite.map(absolute) };
  const projectPath = project.projectPath === undefined ? undefined : absolute(project.projectPath);
  const projectSource = project.projectSource !== false;
  return [profile, { ...directories, projectPath, projectSource, networkPolicy, secrets, secretFor }];
}

function serveCommand(actions: Actions): Command {
  const serve = new Command("serve")
    .summary("Serve MCP on stdin and stdout until stdin closes")
    .description("Serve MCP on stdin and stdout until stdin closes.");
  for (const option of SERVE_OPTIONS) serve.addOption(option);
  serve.addHelpText("after", SERVE_NOTE);
  serve.addHelpText("after", "\nAn agent starts it; `pyro mcp config` says how to tell yours.");
  return serve.action(() => actions.mcpServe(...servedWith(serve)));
}

function configCommand(actions: Actions): Command {
  const config = new Command("config")
    .summary("Print what tells an agent of this MCP server")
    .description("Print what tells an agent of this MCP server. Changes nothing.")
    .addArgument(new Argument("<host>", "The agent").choices(HOSTS));
  for (const option of SERVE_OPTIONS) config.addOption(option);
  config.option(
    "--check",
    "Print nothing of it: say what the agent has, start that to see whether it works, and exit with 1 if it is not so",
  );
  const lines = [
    "pyro mcp config claude-code",
    "pyro mcp config codex >>~/.codex/config.toml",
    "pyro mcp config opencode --allow-read ~/projects",
    "pyro mcp config cursor --check",
  ];
  config.addHelpText("after", exampleText(lines));
  return config.action((host: Host) => {
    const [profile, access] = servedWith(config);
    return actions.mcpConfig({ host, profile, access, check: config.opts<{ check?: true }>().check === true });
  });
}

function completionCommand(actions: Actions): Command {
  const lines = [
    'eval "$(pyro completion bash)"             # in ~/.bashrc',
    'eval "$(pyro completion zsh)"              # in ~/.zshrc, after compinit',
    "pyro completion fish | source              # in ~/.config/fish/config.fish",
  ];
  return new Command("completion")
    .summary("Print a script that makes a shell complete commands, options and names")
    .description("Print a script that makes a shell complete pyro's commands, options and names.")
    .addArgument(new Argument("<shell>", "The shell").choices(SHELLS))
    .addHelpText("after", exampleText(lines))
    .action((shell: Shell) => actions.completion(shell));
}

/** A command in the list of its group: what it must be given, without the options that every one has. */
function subcommandTerm(command: Command): string {
  const takes = command.usage().replace("[options]", "").replace("[command]", "").replace(" [ARG...]", "").trim();
  return [[command.name(), ...command.aliases()].join("|"), takes].filter((part) => part !== "").join(" ");
}

function visibleCommands(command: Command): Command[] {
  const order = ORDER[command.name()] ?? [];
  const placeOf = ({ name }: { name: string }) => (order.includes(name) ? order.indexOf(name) : order.length);
  const named = command.commands.map((child) => ({ child, name: child.name() }));
  return named.sort((a, b) => placeOf(a) - placeOf(b)).map(({ child }) => child);
}

/** Settings that commander copies only to commands it makes itself. */
function inherit(command: Command): Command {
  command.helpOption("-h, --help", HELP_MEANING);
  command
    .configureHelp({ showGlobalOptions: true, subcommandTerm, visibleCommands })
    .showSuggestionAfterError(true)
    .helpCommand(false);
  for (const child of command.commands) inherit(child);
  return command;
}
