// The command `pyro`. The only printer of errors and setter of the exit status.
import { constants } from "node:os";
import type { Command } from "commander";
import { type Context, Ended } from "./context.ts";
import { dieOf } from "./interrupts.ts";
import { isWriting, STDERR, STDOUT, writeAll, writeJson } from "./output.ts";

const VERSION_FLAGS = ["--version", "-V"];
const GLOBAL_FLAGS = ["--json", "--quiet", "--verbose"];
const STATUS_USAGE = 2;
const STATUS_PYRO_FAILED = 125;

/** `argv` is what follows the program's name. Sets process.exitCode; the process then ends by itself. */
export async function main(argv: string[]): Promise<void> {
  let status: number;
  try {
    status = await execute(argv);
  } catch (thrown) {
    status = thrown instanceof Ended ? thrown.status : 1;
  }
  process.exitCode = status;
  // A write that its reader never takes would keep the process for ever: end as the signal ends it.
  if (isWriting()) dieOf(status > 128 ? status - 128 : constants.signals.SIGTERM);
}

async function execute(argv: readonly string[]): Promise<number> {
  if (isVersion(argv)) return printVersion(argv.includes("--json"));
  const at = argv.indexOf("--");
  const words = at < 0 ? argv : argv.slice(0, at);
  const rest = at < 0 ? undefined : argv.slice(at + 1);
  const { rowNamed } = await import("./program.ts");
  const named = rowNamed(words);
  // A row that passes a command's status on keeps 125 for pyro itself.
  const passesStatus = named?.row.stdin === true;
  const json = words.includes("--json");
  const verbose = words.includes("--verbose");
  try {
    return await parseAndAct(words, rest, named);
  } catch (thrown) {
    if (thrown instanceof Ended && !json) return thrown.status;
    const status = await printError(thrown, json, verbose);
    if (thrown instanceof Ended) return thrown.status;
    return passesStatus ? STATUS_PYRO_FAILED : status;
  }
}

async function parseAndAct(
  words: readonly string[],
  rest: readonly string[] | undefined,
  named: ReturnType<typeof import("./program.ts")["rowNamed"]>,
): Promise<number> {
  const [{ buildProgram }, { missingCommand }, { whereFrom }, { CommanderError }] = await Promise.all([
    import("./program.ts"),
    import("./from-operation.ts"),
    import("../client/where.ts"),
    import("commander"),
  ]);
  const takesCommand = named?.shape.rest !== undefined;
  const wantsHelp = words.includes("--help") || words.includes("-h");
  if (takesCommand && !wantsHelp && (rest === undefined || rest.length === 0)) throw missingCommand(named.shape);

  let status = 0;
  let said = "";
  const context = (): Context => {
    const { json = false, quiet = false, verbose = false } = program.opts<Partial<Context>>();
    return { where: whereFrom(), json, quiet, verbose };
  };
  const program: Command = buildProgram(
    { rest },
    {
      operation: async (asked) => {
        status = await (await import("./dispatch.ts")).dispatch(asked, context());
      },
      daemonStatus: async () => {
        status = await (await import("./daemon.ts")).showDaemon(context());
      },
      daemonStop: async () => {
        status = await (await import("./daemon.ts")).endDaemon(context());
      },
      mcpServe: async (profile) => {
        await (await import("../mcp/server.ts")).serve(whereFrom(), profile);
      },
    },
  );
  capture(program, (text) => {
    said += text;
  });
  try {
    // Where no command is taken, `--` ends the options as everywhere.
    await program.parseAsync(takesCommand || rest === undefined ? [...words] : [...words, "--", ...rest], {
      from: "user",
    });
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) throw thrown;
    if (thrown.exitCode === 0) {
      await writeAll(STDOUT, said);
      return 0;
    }
    if (thrown.code === "commander.help") {
      await writeAll(STDERR, said);
      return STATUS_USAGE;
    }
    const { PyroError } = await import("../errors/error.ts");
    throw new PyroError("INVALID_INPUT", sentence(thrown.message));
  }
  return status;
}

/** commander's words become the message of our own error, and its help our own output. */
function capture(command: Command, take: (text: string) => void): void {
  command.configureOutput({ writeOut: take, writeErr: take, outputError: () => {} });
  for (const child of command.commands) capture(child, take);
}

function sentence(message: string): string {
  const text = message
    .replace(/^error: /, "")
    .replaceAll("\n", " ")
    .trim();
  const first = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.?!)]$/.test(first) ? first : `${first}.`;
}

/** Prints it for a person or as a document, and says which status it means outside run and exec. */
async function printError(thrown: unknown, json: boolean, verbose: boolean): Promise<number> {
  const [{ PyroError }, { CODES }] = await Promise.all([import("../errors/error.ts"), import("../errors/codes.ts")]);
  const error =
    thrown instanceof Ended ? new PyroError("CANCELLED", `${sentence(thrown.message)}`) : PyroError.from(thrown);
  if (json) await writeJson({ error: error.toData() });
  else {
    await writeAll(STDERR, `pyro: ${error.message}\n      ${error.hint}\n`);
    const shown = typeof error.details.log_tail === "string" ? error.details.log_tail.trimEnd() : "";
    if (shown !== "") await writeAll(STDERR, `${shown.replace(/^/gm, "    | ")}\n`);
  }
  if (verbose) {
    if (!json) await writeAll(STDERR, `${JSON.stringify({ code: error.code, details: error.details })}\n`);
    await writeAll(
      STDERR,
      `${error.stack ?? ""}\n${error.cause instanceof Error ? `caused by ${error.cause.stack}\n` : ""}`,
    );
  }
  return CODES[error.code].exit;
}

function isVersion(argv: readonly string[]): boolean {
  return (
    argv.some((word) => VERSION_FLAGS.includes(word)) &&
    argv.every((word) => VERSION_FLAGS.includes(word) || GLOBAL_FLAGS.includes(word))
  );
}

async function printVersion(json: boolean): Promise<number> {
  const { installation } = await import("../host/installation.ts");
  const { version } = installation();
  if (json) await writeJson({ version, node: process.version });
  else await writeAll(STDOUT, `pyro ${version}\n`);
  return 0;
}
