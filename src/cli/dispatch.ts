// Carries out what the command line asks for and shows the answer.
import { call } from "../client/call.ts";
import { openStream } from "../client/stream.ts";
import type { InputOf, OperationName, OutputOf, ParsedInputOf } from "../operations/table.ts";
import { OPERATIONS } from "../operations/table.ts";
import type { Context, Ended } from "./context.ts";
import type { Asked } from "./from-operation.ts";
import { watchInterrupts } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { Progress, type ProgressEvent } from "./progress.ts";
import { runCommand } from "./run.ts";
import { VIEWS, type View } from "./views/view.ts";

/** The exit status. Errors are thrown. */
export async function dispatch({ row, input }: Asked, context: Context): Promise<number> {
  const name = nameOf(row.name);
  if (name === "run") return runCommand(input as ParsedInputOf<"run">, context);
  return answer(name, input as InputOf<typeof name>, context);
}

async function answer<N extends OperationName>(name: N, input: InputOf<N>, context: Context): Promise<number> {
  const abort = new AbortController();
  const cancel = (reason: Ended) => abort.abort(reason);
  const interrupts = watchInterrupts(() => {}, cancel);
  try {
    const output = await ask(name, input, context, abort.signal);
    const view: View<N> = VIEWS[name];
    const shown = view(output, context);
    if (context.json) await writeJson(output);
    else {
      if (shown.stdout !== undefined) await writeAll(STDOUT, shown.stdout);
      if (shown.stderr !== undefined) await writeAll(STDERR, shown.stderr);
      if (shown.note !== undefined && !context.quiet) await writeAll(STDERR, `${shown.note}\n`);
    }
    return shown.status ?? 0;
  } finally {
    interrupts.dispose();
  }
}

async function ask<N extends OperationName>(
  name: N,
  input: InputOf<N>,
  context: Context,
  signal: AbortSignal,
): Promise<OutputOf<N>> {
  if (!("events" in OPERATIONS[name])) return call(context.where, name, input, { signal });
  const progress = new Progress(context);
  try {
    return await openStream(context.where, name, input, {
      signal,
      onEvent: (event: unknown) => {
        if (isProgress(event)) progress.show(event);
      },
    }).result;
  } finally {
    progress.clear();
  }
}

function isProgress(event: unknown): event is ProgressEvent {
  return typeof event === "object" && event !== null && "type" in event && event.type === "progress";
}

function nameOf(name: string): OperationName {
  if (Object.hasOwn(OPERATIONS, name)) return name as OperationName;
  throw new Error(`${name} is not in the table`);
}
