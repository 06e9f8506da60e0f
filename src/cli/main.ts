// The command `pyro`. The only printer of errors and setter of the exit status.
import { type Context, Ended, STATUS_PYRO_FAILED } from "./context.ts";
import { dieOf } from "./interrupts.ts";
import { isWriting, STDERR, STDOUT, writeAll, writeJson } from "./output.ts";

const VERSION_FLAGS = ["--version", "-V"];
const GLOBAL_FLAGS = ["--json", "--quiet", "--verbose"];
const HELP_FLAGS = ["--help", "-h"];
const STATUS_USAGE = 2;
const SIGTERM = 15;

/** A command line as it was typed. */
interface Line {
  /** What stands before `--`. */
  readonly words: readonly string[];
  /** What stands behind it; undefined when there is none. */
  readonly rest: readonly string[] | undefined;
  readonly json: boolean;
  readonly verbose: boolean;
}

/** `argv` is what follows the program's name. Sets process.exitCode; the process then ends by itself. */
export async function main(argv: readonly string[]): Promise<void> {
  process.exitCode = await execute(argv);
  // A write that its reader never takes would keep the process for ever: end as the signal ends it.
  if (isWriting()) dieOf(process.exitCode > 128 ? process.exitCode - 128 : SIGTERM);
}

/** The exit status. Never rejects. */
async function execute(argv: readonly string[]): Promise<number> {
  if (argv[0] === "__complete") {
    const { complete } = await import("./complete.ts");
    return complete(argv.slice(argv[1] === "--" ? 2 : 1));
  }
  const at = argv.indexOf("--");
  const words = asked(at < 0 ? argv : argv.slice(0, at));
  const rest = at < 0 ? undefined : argv.slice(at + 1);
  const line: Line = { words, rest, json: words.includes("--json"), verbose: words.includes("--verbose") };
  try {
    if (isVersion(argv)) return await printVersion(line.json);
    return await parseAndAct(line);
  } catch (thrown) {
    if (thrown instanceof Ended && !line.json) {
      const quiet = thrown.note === undefined || words.includes("--quiet");
      if (!quiet) await writeAll(STDERR, `pyro: ${thrown.note}\n`).catch(() => {});
      return thrown.status;
    }
    const [{ rowNamed }, { additionFor }] = await Promise.all([import("./program.ts"), import("./additions.ts")]);
    const named = rowNamed(words);
    const passesStatus = named !== undefined && additionFor(named.facts.name).passesStatus === true;
    const status = await printError(thrown, line);
    if (thrown instanceof Ended) return thrown.status;
    return passesStatus ? STATUS_PYRO_FAILED : status;
  }
}

/** `pyro help X` is `pyro X --help`. */
function asked(words: readonly string[]): readonly string[] {
  return words[0] === "help" ? [...words.slice(1), "--help"] : words;
}

async function parseAndAct(line: Line): Promise<number> {
  const { words, rest } = line;
  const [{ buildProgram, commandNamed, rowNamed }, { missingCommand }, { CommanderError }, { Stopped, usageError }] =
    await Promise.all([
      import("./program.ts"),
      import("./from-operation.ts"),
      import("commander"),
      import("./usage.ts"),
    ]);
  const named = rowNamed(words);
  const takesCommand = named?.shape.rest !== undefined;
  const wantsHelp = words.some((word) => HELP_FLAGS.includes(word));
  if (takesCommand && !wantsHelp && (rest === undefined || rest.length === 0)) throw missingCommand(named.shape);

  let status = 0;
  let said = "";
  const context = (): Promise<Context> => contextOf(program.opts<Partial<Context>>());
  const program = buildProgram(
    { rest },
    {
      operation: async (operation) => {
        status = await (await import("./dispatch.ts")).dispatch(operation, await context());
      },
      daemonStatus: async () => {
        status = await (await import("./daemon.ts")).showDaemon(await context());
      },
      daemonStop: async () => {
        status = await (await import("./daemon.ts")).endDaemon(await context());
      },
      completion: async (shell) => {
        status = await (await import("./completion.ts")).printCompletion(shell, await context());
      },
      mcpServe: async (profile, access) => {
        const { where } = await context();
        await (await import("../mcp/server.ts")).serve(where, profile, access);
      },
      mcpConfig: async (request) => {
        status = await (await import("./mcp-config.ts")).printConfig(request, await context());
      },
    },
  );
  // commander's words become the message of our own error, and its help our own output.
  const capture = (command: typeof program): void => {
    const take = (text: string) => {
      said += text;
    };
    command.configureOutput({ writeOut: take, writeErr: take, outputError: () => {} });
    command.exitOverride((error) => {
      throw new Stopped(error, command);
    });
    for (const child of command.commands) capture(child);
  };
  capture(program);
  // Help for a command that is none is a mistake, not help for the one above.
  const { command, surplus } = commandNamed(program, words);
  const mistaken = wantsHelp && surplus !== undefined && command.commands.length > 0;
  const parsed = mistaken ? words.filter((word) => !HELP_FLAGS.includes(word)) : words;
  try {
    // Where no command is taken, `--` ends the options as everywhere.
    await program.parseAsync(takesCommand || rest === undefined ? [...parsed] : [...parsed, "--", ...rest], {
      from: "user",
    });
  } catch (thrown) {
    if (thrown instanceof CommanderError) throw new Error(thrown.message, { cause: thrown });
    if (!(thrown instanceof Stopped)) throw thrown;
    if (thrown.error.exitCode === 0) {
      await writeAll(STDOUT, said);
      return 0;
    }
    if (thrown.error.code !== "commander.help" || line.json) throw usageError(thrown);
    await writeAll(STDERR, said);
    return STATUS_USAGE;
  }
  return status;
}

/** Where the daemon is and how to speak, with the log set up: --verbose goes over PYRO_LOG. */
async function contextOf({ json = false, quiet = false, verbose = false }: Partial<Context>): Promise<Context> {
  const [{ whereFrom }, { configureLog }, { logFrom }] = await Promise.all([
    import("../client/where.ts"),
    import("../client/settings.ts"),
    import("../log/log.ts"),
  ]);
  const warnings = configureLog(process.env);
  if (verbose) logFrom("debug");
  if (!quiet) for (const warning of warnings) await writeAll(STDERR, `pyro: ${warning}\n`);
  return { where: whereFrom(), json, quiet, verbose };
}

/**
 * Prints it for a person or as a document, and says which status it means outside run and exec. Where it cannot be
 * printed the status is all there is.
 */
async function printError(thrown: unknown, { words, json, verbose }: Line): Promise<number> {
  const [{ PyroError }, { CODES }, { rowNamed }, { withHintFor }, { errorText }, { printable, printableLines }] =
    await Promise.all([
      import("../errors/error.ts"),
      import("../errors/codes.ts"),
      import("./program.ts"),
      import("./usage.ts"),
      import("./error-text.ts"),
      import("../text/printable.ts"),
    ]);
  const path = ["pyro", ...(rowNamed(words)?.shape.path ?? [])].join(" ");
  const error = withHintFor(
    thrown instanceof Ended
      ? new PyroError("CANCELLED", `${thrown.message.charAt(0).toUpperCase()}${thrown.message.slice(1)}.`)
      : PyroError.from(thrown),
    path,
  );
  const document =
    json &&
    (await writeJson({ error: error.toData() }).then(
      () => true,
      // Where it cannot be written it is said; where its reader has gone nobody wants to know.
      (failure: unknown) => failure instanceof Ended,
    ));
  try {
    if (!document) await writeAll(STDERR, errorText(error));
    if (verbose) {
      if (!document)
        await writeAll(STDERR, `${printable(JSON.stringify({ code: error.code, details: error.details }))}\n`);
      const cause = error.cause instanceof Error ? `caused by ${error.cause.stack}\n` : "";
      await writeAll(STDERR, printableLines(`${error.stack ?? ""}\n${cause}`));
    }
  } catch {
    // Nobody hears us.
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
