// Writes docs/reference/*.md from the operation table and the error codes. With --check it changes nothing and fails
// when a page is not what it would write.
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { additionFor } from "../src/cli/additions.ts";
import { bracketed, flagsOf, meaningOf } from "../src/cli/from-operation.ts";
import { cliRows, HOSTS, SHELLS } from "../src/cli/program.ts";
import { SETTINGS, type Setting } from "../src/config/settings.ts";
import { ALWAYS_POSSIBLE, CODES } from "../src/errors/codes.ts";
import type { Operation } from "../src/operations/define.ts";
import { OPERATIONS } from "../src/operations/table.ts";
import { camelKey } from "../src/sdk/case.ts";
import { toolInput, toolOutput } from "../src/tools/schema.ts";

const DIRECTORY = join(import.meta.dirname, "..", "docs", "reference");
const NOTICE = "<!-- Written by scripts/docs.ts from src/operations and src/errors. Do not edit. -->";
const ROWS: readonly Operation[] = Object.values(OPERATIONS);

interface Property {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly items?: Property;
  readonly anyOf?: readonly Property[];
  readonly properties?: Record<string, Property>;
}

/** Page name to text. */
export function pages(): Record<string, string> {
  return { "cli.md": cliPage(), "sdk.md": sdkPage(), "mcp.md": mcpPage(), "errors.md": errorsPage() };
}

/** Names of the pages on disk that are missing or differ. */
export async function stalePages(): Promise<string[]> {
  const stale: string[] = [];
  for (const [name, text] of Object.entries(pages())) {
    const found = await readFile(join(DIRECTORY, name), "utf8").catch(() => undefined);
    if (found !== text) stale.push(name);
  }
  return stale;
}

function cliPage(): string {
  const parts = cliRows().map(({ facts, shape }) => {
    const row: Operation = OPERATIONS[facts.name];
    const command = `pyro ${shape.path.join(" ")}`;
    const words = (shape.positional ?? []).map((key) => bracketed(key, facts));
    const rest = shape.rest === undefined ? [] : ["-- COMMAND [ARG...]"];
    const takes: string[][] = [
      ...(shape.positional ?? []).map((key) => [`\`${key}\``, meaningOf(key, facts)]),
      ...flagsOf(facts, shape).map(({ flags, description }) => [`\`${flags}\``, description]),
    ];
    return [
      `## \`${command}\``,
      `${row.summary}.`,
      fenced([command, "[options]", ...words, ...rest].join(" ")),
      takes.length > 0 ? table(["argument or flag", "meaning"], takes) : "",
      additionFor(facts.name).note ?? "",
      shape.examples ? `Examples:\n\n${fenced(shape.examples.join("\n"))}` : "",
      errorsOf(row),
    ];
  });
  const general = [
    "Every command takes `--json` (one document on stdout, errors too), `--quiet` and `--verbose`. `pyro ws` is short for",
    "`pyro workspace`. Results are on stdout, progress and notes on stderr. Exit status: 0, 1 for an error, 2 for wrong",
    "usage, 141 when nobody reads its output any more. `pyro run`, `pyro workspace exec` and `pyro workspace process wait`",
    "exit with the command's own status (128+n when a signal ended it, 127 not found, 126 not executable), 124 when its",
    "time ran out, 125 when pyro itself failed or was used wrongly. With `--json`, `pyro workspace delete` prints",
    '`{workspace_id, deleted}` for one workspace that was named, and `{"workspaces": [...]}` for several or a selection.',
  ];
  const others = table(
    ["command", "meaning"],
    [
      ["`pyro daemon status`", "Says whether the daemon runs, and where its log is."],
      ["`pyro daemon stop`", "Stops the daemon: runs end; workspaces stay, and what runs in them goes on."],
      [
        "`pyro mcp serve [--profile P] [--allow-read DIR]... [--allow-write DIR]...`",
        "Serves MCP on stdin and stdout until stdin closes. Tools may read the git work tree that it is started in and the directories of --allow-read, and write to its .pyro/out and the directories of --allow-write.",
      ],
      [
        `\`pyro mcp config ${HOSTS.join("|")} [--profile P] [--allow-read DIR]... [--allow-write DIR]... [--check]\``,
        "Prints what tells an agent of that server: on stdout what belongs in its file, on stderr which, and the command that does the same. With --check it says whether the agent has it so, and exits with 1 if not.",
      ],
      [
        `\`pyro completion ${SHELLS.join("|")}\``,
        "Prints a script that makes a shell complete commands, options and names, of what a running daemon has.",
      ],
      ["`pyro help COMMAND`", "The same as `pyro COMMAND --help`."],
      ["`pyro --version [--json]`", "Prints the version."],
    ],
  );
  return page(
    "The command line",
    general.join("\n"),
    ...parts.flat(),
    "## Commands that are no operation",
    others,
    "## Settings",
    "A flag goes over the environment variable, that over `$XDG_CONFIG_HOME/pyro/config.json` (one JSON object), that over the\ndefault. A key of the file that nothing reads is warned of.",
    settings(),
  );
}

function settings(): string {
  const rows = Object.values<Setting<unknown>>(SETTINGS).map(({ key, variable, kind, fallback, meaning }) => [
    variable === null ? "" : `\`${variable}\``,
    `\`${key}\``,
    kind.takes,
    fallback === undefined ? "" : `\`${String(fallback)}\``,
    meaning,
  ]);
  const home = [
    "`PYRO_HOME`",
    "",
    "a directory",
    "",
    "Where everything is kept, instead of below `XDG_STATE_HOME` and `XDG_CACHE_HOME`",
  ];
  return table(["variable", "in config.json", "takes", "default", "meaning"], [home, ...rows]);
}

function sdkPage(): string {
  const parts = ROWS.flatMap((row) => {
    if (!("method" in row.sdk)) return [`## ${row.name}`, `Not in the SDK: ${row.sdk.absent}`];
    const omit = row.sdk.omit ?? [];
    return [
      `## \`pyro.${row.sdk.method}(input, options)\``,
      `${row.summary}.`,
      fields("Input", schemaOf(row.input, "input"), { omit, name: camelKey }),
      fields("Result", schemaOf(row.output, "output"), { omit: [], name: camelKey }),
      errorsOf(row),
    ];
  });
  const general = [
    '`import { Pyro } from "pyro-mcp"`, then `new Pyro({ home? })`. Every method takes `{ signal }` last: aborting',
    "rejects with the signal's reason and ends what the call started. Methods that stream take `onEvent` too. Failures",
    "are `PyroError`s with a literal `code`. `close()` (or `await using`) ends what the client still has running.",
    "",
    "`run` and `execWorkspace` return a `Process`: await it for the result, iterate it for `{ stream, data }` as it comes,",
    "and use `write`, `end`, `signal` and `resize` meanwhile; `processId` resolves when it was started. A non-zero exit and",
    "a timeout resolve; with `check: true` they reject with `COMMAND_FAILED` and the result in `details.result`. Awaiting a",
    "command to which nothing was written ends its stdin, unless `keepStdin` is set. 16 MiB of each stream are kept for the",
    "result (`collectBytes`). Aborting ends the command; leaving the loop does not. With `detach` it resolves as soon as the",
    "command runs, whose stdin then stays open for `writeProcess`.",
    "",
    "`createWorkspace` resolves with a `Workspace`: `workspaceId`, `created` (the result below), `exec(command, options)`,",
    "`syncPush(source, options)`, `status`, `logs`, `update`, `delete`, and `process` with `list`, `read`, `write`, `signal`",
    "and `wait`. `pyro.workspace(idOrName)` is the same for one that there is, and asks nothing. With `ephemeral: true` the",
    "workspace is deleted when its handle is disposed of (`await using`), and nothing stays of one whose creation fails or is",
    "aborted; no other is ever deleted but by `delete`.",
    "",
    "Lists are promises of a page, and loops over all of them: `for await (const ws of pyro.listWorkspaces())`.",
    "`logsWorkspace` with `follow: true` is a loop that goes on with what ends later, until it is left.",
    "",
    '`import { schemas } from "pyro-mcp/schemas"` is what every operation takes and gives as JSON Schema, in the snake_case of',
    '`--json` and MCP: `schemas["workspace.exec"].input`, `.output` and, for one event of those that stream, `.event`. Both',
    "entries can be loaded with `require()` too.",
  ];
  return page("The TypeScript SDK", general.join("\n"), ...parts);
}

function mcpPage(): string {
  const parts = ROWS.flatMap((row) => {
    if (!("tool" in row.mcp)) return [`## ${row.name}`, `No tool: ${row.mcp.absent}`];
    const { readOnly, destructive, idempotent, openWorld } = row.effect;
    const hints = [
      readOnly ? "read-only" : "changes things",
      destructive ? "destructive" : "not destructive",
      idempotent ? "idempotent" : "not idempotent",
      openWorld ? "open world" : "closed world",
    ];
    return [
      `## \`${row.mcp.tool}\``,
      row.mcp.description,
      `Profiles: ${row.profiles.map((profile) => `\`${profile}\``).join(", ")}. Hints: ${hints.join(", ")}.`,
      fields("Arguments", schemaOf(toolInput(row, row.mcp), "input"), { omit: [] }),
      fields("Structured content", schemaOf(toolOutput(row), "output"), { omit: [] }),
      errorsOf(row),
    ];
  });
  const general = [
    "`pyro mcp serve [--profile vm-run|workspace-core|workspace-full]` serves MCP on stdin and stdout; `workspace-core` is",
    "the default. `structuredContent` holds the whole result, the text is the same JSON. A whole result has at most 9,000 bytes (text and",
    "`structuredContent` together) unless `max_bytes` asks for more: of a command's output head and tail are kept, with",
    "`omitted_bytes` and a cursor for `process_read`. Bytes that are not UTF-8 become U+FFFD, and `stdout_lossy` or",
    "`stderr_lossy` says so. Lists and logs have as many entries as fit, and a `next_cursor` behind the last of them.",
    "",
    "Every call answers within `wait_seconds` (default 30, at most 50). A command then goes on, and `process_read` reads it;",
    'a workspace whose seed is still being sent goes on too, with the state "creating"; a push is cancelled and changes',
    "nothing. A request that is cancelled ends what it started. When the client goes, commands in workspaces go on and",
    "everything else that is under way ends.",
    "",
    "Paths of the host (`seed_path`, `source_path`) must lie in the git work tree around the server's directory or below a",
    "directory of `--allow-read`, with symbolic links resolved first. A work tree that is as large as the home directory",
    "does not count.",
    "",
    'Errors are results with `isError` and `{"error": {code, message, hint, retryable, details}}`.',
  ];
  return page("MCP tools", general.join("\n"), ...parts);
}

function errorsPage(): string {
  const rows = Object.entries(CODES).map(([code, { exit, retryable, hint, mcpHint }]) => [
    `\`${code}\``,
    String(exit),
    retryable ? "yes" : "no",
    hint,
    mcpHint,
  ]);
  const general = [
    'As data an error is `{"error": {"code", "message", "hint", "retryable", "details"}}`. `exit` is the exit status',
    "outside `pyro run` and `pyro workspace exec`, where every failure of pyro's own is 125. `retryable` means that the same call may succeed",
    "later. Over MCP the hint is the one for models.",
    "",
    `Any operation may answer with ${ALWAYS_POSSIBLE.map((code) => `\`${code}\``).join(", ")}.`,
  ];
  return page("Errors", general.join("\n"), table(["code", "exit", "retryable", "hint", "hint over MCP"], rows));
}

function page(title: string, ...parts: string[]): string {
  return `${[`# ${title}`, NOTICE, ...parts.filter((part) => part !== "")].join("\n\n")}\n`;
}

function fields(
  title: string,
  schema: Property & { required?: readonly string[] },
  { omit, name = (key: string) => key }: { omit: readonly string[]; name?: (key: string) => string },
): string {
  const rows = Object.entries(schema.properties ?? {})
    .filter(([key]) => !omit.includes(key))
    .map(([key, property]) => {
      const optional = schema.required?.includes(key) === true ? "" : "?";
      return [`\`${name(key)}${optional}\``, typeOf(property, name), described(property)];
    });
  return rows.length === 0 ? `${title}: none.` : `${title}:\n\n${table(["field", "type", "meaning"], rows)}`;
}

function typeOf(property: Property, name: (key: string) => string): string {
  if (property.const !== undefined) return JSON.stringify(property.const);
  if (property.enum) return property.enum.map((value) => JSON.stringify(value)).join(" or ");
  if (property.anyOf) return property.anyOf.map((option) => typeOf(option, name)).join(" or ");
  if (property.type === "array") return `list of ${property.items ? typeOf(property.items, name) : "values"}`;
  if (property.type === "object" && property.properties)
    return `{ ${Object.keys(property.properties).map(name).join(", ")} }`;
  return typeof property.type === "string" ? property.type : (property.type?.join(" or ") ?? "any");
}

function described(property: Property | undefined): string {
  const { description = "", default: standard } = property ?? {};
  const shown = standard === undefined ? "" : ` (default: ${JSON.stringify(standard)})`;
  return `${description}${shown}`.trim();
}

function errorsOf(row: Operation): string {
  const codes = [...new Set(row.errors)].map((code) => `[\`${code}\`](errors.md)`);
  return codes.length === 0 ? "" : `Errors beside those that any operation has: ${codes.join(", ")}.`;
}

function schemaOf(schema: z.ZodObject, io: "input" | "output"): Property & { required?: readonly string[] } {
  return z.toJSONSchema(schema, { io }) as Property & { required?: readonly string[] };
}

function fenced(text: string): string {
  return `\`\`\`sh\n${text}\n\`\`\``;
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |`;
  return [line(header), line(header.map(() => "---")), ...rows.map(line)].join("\n");
}

if (import.meta.main) {
  const stale = await stalePages();
  if (process.argv.includes("--check")) {
    if (stale.length > 0) {
      console.error(`stale: ${stale.map((name) => `docs/reference/${name}`).join(", ")}; run scripts/docs.ts`);
      process.exitCode = 1;
    }
  } else {
    await mkdir(DIRECTORY, { recursive: true });
    for (const [name, text] of Object.entries(pages())) await writeFile(join(DIRECTORY, name), text);
    console.log(stale.length === 0 ? "docs/reference is up to date" : `wrote ${stale.join(", ")}`);
  }
}
