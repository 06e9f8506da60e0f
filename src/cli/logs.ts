// `pyro workspace logs`: the entries of an answer, and with --follow each as its command ends.
import { setTimeout as sleep } from "node:timers/promises";
import { openStream } from "../client/stream.ts";
import type { InputOf } from "../operations/table.ts";
import { type Context, Ended } from "./context.ts";
import { interruptible } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { type Entry, entryView, logsView } from "./views/logs.ts";

/** What an entry that is being printed may take when it is interrupted, ms. */
const FLUSH_MS = 200;

/** The exit status. Errors are thrown. */
export async function showLogs(input: InputOf<"workspace.logs">, context: Context): Promise<number> {
  const follow = input.follow === true;
  const seen = new Set<number>();
  // Entries are printed one after another, however fast they come; what cannot be printed ends it.
  let printed = Promise.resolve();
  const broken = new AbortController();
  const show = (entry: Entry): Promise<void> => {
    if (seen.has(entry.sequence)) return printed;
    seen.add(entry.sequence);
    printed = printed.then(() => print(entry, context)).catch((thrown) => broken.abort(thrown));
    return printed;
  };
  try {
    return await interruptible(async (signal) => {
      const output = await openStream(context.where, "workspace.logs", input, {
        signal: AbortSignal.any([signal, broken.signal]),
        // What is not printed yet holds the next one back: a pager may be read as slowly as a person reads.
        onEvent: (event) => (event.type === "entry" && follow ? show(event.entry) : undefined),
      }).result;
      if (context.json && !follow) await writeJson(output);
      else for (const entry of output.entries) await show(entry);
      await printed;
      broken.signal.throwIfAborted();
      const { note } = logsView(output);
      if (note !== undefined && !context.json && !context.quiet) await writeAll(STDERR, `${note}\n`);
      return 0;
    });
  } catch (thrown) {
    // Interrupting is how following ends: that is no failure to report.
    if (!follow || !(thrown instanceof Ended)) throw thrown;
    // A reader who has stopped reading holds nobody up who wants to leave.
    await Promise.race([printed, sleep(FLUSH_MS, undefined, { ref: false })]);
    return thrown.status;
  }
}

async function print(entry: Entry, context: Context): Promise<void> {
  if (context.json) return writeJson(entry);
  const { stdout, stderr, note } = entryView(entry);
  await writeAll(STDOUT, stdout);
  await writeAll(STDERR, stderr);
  if (note !== undefined && !context.quiet) await writeAll(STDERR, `${note}\n`);
}
