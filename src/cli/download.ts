// A command that makes a file of this host: its progress is shown, and Ctrl-C leaves nothing.
import { download } from "../client/download.ts";
import type { EventOf, InputOf, OperationName, OutputOf } from "../operations/table.ts";
import type { Context } from "./context.ts";
import { Progress, type ProgressEvent } from "./progress.ts";

/** Errors: those of download; the signal's reason. */
export async function downloaded<N extends OperationName>(
  name: N,
  input: InputOf<N>,
  context: Context,
  signal: AbortSignal,
): Promise<OutputOf<N>> {
  const progress = new Progress(context);
  try {
    const onEvent = (event: EventOf<N>) => progress.show(event as ProgressEvent);
    return await download(context.where, name, input, { cwd: process.cwd(), signal, onEvent });
  } finally {
    progress.clear();
  }
}
