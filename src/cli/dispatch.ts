// Carries out what the command line asks for and shows the answer.
import { existsSync } from "node:fs";
import { call } from "../client/call.ts";
import { withUserDefaults } from "../client/settings.ts";
import { openStream } from "../client/stream.ts";
import { PyroError } from "../errors/error.ts";
import { FACTS } from "../operations/facts.ts";
import type { InputOf, OperationName, OutputOf } from "../operations/table.ts";
import { printable } from "../text/printable.ts";
import { type Context, Ended } from "./context.ts";
import { deleteWorkspaces } from "./delete.ts";
import type { Asked } from "./from-operation.ts";
import { interruptible } from "./interrupts.ts";
import { showLogs } from "./logs.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { writeProcess } from "./process-write.ts";
import { Progress, type ProgressEvent } from "./progress.ts";
import { runCommand } from "./run.ts";
import { VIEWS, type View } from "./views/view.ts";

/** The exit status. Errors are thrown. */
export async function dispatch(asked: Asked, context: Context): Promise<number> {
  const { name, idOnly } = asked;
  if (idOnly !== undefined && context.json) {
    throw new PyroError("INVALID_INPUT", "--id-only and --json exclude each other.");
  }
  // One command of several calls: it makes their inputs itself.
  if (name === "workspace.delete") return deleteWorkspaces(asked.beside, context);
  const input = withUserDefaults(name, asked.input, context.where.environment);
  // Schemas take a while to load, and a daemon checks all that it is asked: only one that would first have to be
  // started is spared input that it would refuse.
  if (!existsSync(context.where.paths.daemonSocket)) await check(asked, input);
  try {
    switch (name) {
      case "run":
      case "workspace.exec":
        return await runCommand(name, input as InputOf<typeof name>, context);
      case "workspace.logs":
        return await showLogs(input as InputOf<typeof name>, context);
      case "process.write":
        return await writeProcess(input as InputOf<typeof name>, context);
      default:
        return await answer(name, input as InputOf<typeof name>, context, idOnly);
    }
  } catch (thrown) {
    // What the daemon refused is said in the words that were typed.
    if (thrown instanceof PyroError && thrown.code === "INVALID_INPUT") await check(asked, input);
    throw thrown;
  }
}

/** Errors: INVALID_INPUT naming flags. */
async function check({ name, label }: Asked, input: unknown): Promise<void> {
  const [{ parseInput }, { OPERATIONS }] = await Promise.all([
    import("../operations/check.ts"),
    import("../operations/table.ts"),
  ]);
  parseInput(OPERATIONS[name], input, label);
}

async function answer<N extends OperationName>(
  name: N,
  input: InputOf<N>,
  context: Context,
  idOnly: string | undefined,
): Promise<number> {
  const output = await interruptible((signal) => ask(name, input, context, signal));
  const view: View<N> = VIEWS[name];
  const shown = view(output, context);
  if (context.json) await writeJson(output);
  else if (idOnly !== undefined)
    await writeAll(STDOUT, `${printable(String(output[idOnly as keyof typeof output]))}\n`);
  else {
    if (shown.stdout !== undefined) await writeAll(STDOUT, shown.stdout);
    if (shown.stderr !== undefined) await writeAll(STDERR, shown.stderr);
    if (shown.note !== undefined && !context.quiet) await writeAll(STDERR, `${shown.note}\n`);
  }
  return shown.status ?? 0;
}

async function ask<N extends OperationName>(
  name: N,
  input: InputOf<N>,
  context: Context,
  signal: AbortSignal,
): Promise<OutputOf<N>> {
  if (!FACTS[name].streams) return call(context.where, name, input, { signal });
  const progress = new Progress(context);
  try {
    return await openStream(context.where, name, input, {
      signal,
      onEvent: (event: unknown) => {
        if (isProgress(event)) progress.show(event);
      },
    }).result;
  } catch (thrown) {
    // What takes long and changes things: whoever ends it wants to know that it was heard.
    if (!(thrown instanceof Ended) || FACTS[name].effect.readOnly) throw thrown;
    throw new Ended(thrown.status, thrown.message, thrown.message);
  } finally {
    progress.clear();
  }
}

function isProgress(event: unknown): event is ProgressEvent {
  return typeof event === "object" && event !== null && "type" in event && event.type === "progress";
}
