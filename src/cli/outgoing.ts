// `pyro workspace diff` and `pyro workspace export`: a patch as it comes on stdout, or what is written on this host.
import { DiffCollector } from "../client/download/collect-diff.ts";
import { type OutgoingName, takeOut } from "../client/download/take-out.ts";
import { openStream } from "../client/stream.ts";
import type { InputOf, OutputOf } from "../operations/table.ts";
import type { Context } from "./context.ts";
import { interruptible } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { Progress } from "./progress.ts";
import { diffView, exportView, statOf } from "./views/outgoing.ts";
import type { Shown } from "./views/view.ts";

type DiffInput = InputOf<"workspace.diff">;

/** The exit status. Errors are thrown. */
export async function showDiff(input: DiffInput, context: Context): Promise<number> {
  const plain = input.output_path === undefined && !context.json;
  const output = plain ? await printDiff(input, context) : await taken("workspace.diff", input, context);
  return await show(diffView(output), output, context);
}

/** The exit status. Errors are thrown. */
export async function exportFiles(input: InputOf<"workspace.export">, context: Context): Promise<number> {
  const output = await taken("workspace.export", input, context);
  return await show(exportView(output), output, context);
}

/** The patch, part for part; or which files, and how many lines. */
async function printDiff(input: DiffInput, context: Context): Promise<OutputOf<"workspace.diff">> {
  const progress = new Progress(context);
  const collector = new DiffCollector(undefined, false);
  const broken = new AbortController();
  try {
    return await interruptible(async (signal) => {
      const output = await openStream(context.where, "workspace.diff", input, {
        signal: AbortSignal.any([signal, broken.signal]),
        onEvent: (event) => {
          if (event.type === "entry") collector.entry(event.entry);
          else progress.show(event);
        },
        onOutput: async (_stream, data) => {
          progress.clear();
          // Whoever stops reading has what was wanted.
          await writeAll(STDOUT, data).catch((thrown: unknown) => broken.abort(thrown));
        },
      }).result;
      broken.signal.throwIfAborted();
      const filled = collector.fill(output);
      if (input.stat === true) await writeAll(STDOUT, statOf(filled, process.stdout.columns));
      return filled;
    });
  } finally {
    progress.clear();
  }
}

async function taken<N extends OutgoingName>(name: N, input: InputOf<N>, context: Context): Promise<OutputOf<N>> {
  const progress = new Progress(context);
  try {
    return await interruptible((signal) =>
      takeOut(context.where, name, input, {
        cwd: process.cwd(),
        signal,
        onEvent: (event) => {
          if (event.type === "progress") progress.show(event);
        },
      }),
    );
  } finally {
    progress.clear();
  }
}

async function show(shown: Shown, output: unknown, context: Context): Promise<number> {
  if (context.json) await writeJson(output);
  else if (shown.stdout !== undefined) await writeAll(STDOUT, shown.stdout);
  if (shown.note !== undefined && !context.json && !context.quiet) await writeAll(STDERR, `${shown.note}\n`);
  return 0;
}
