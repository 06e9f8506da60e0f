// `pyro workspace network log`: the decisions of an answer, and with --follow each as it is made.
import { openStream } from "../client/stream.ts";
import type { InputOf, OutputOf } from "../operations/table.ts";
import { type Context, Ended } from "./context.ts";
import { interruptible } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { networkLine, networkLogView } from "./views/network.ts";

/** The exit status. Errors are thrown. */
export async function showNetworkLog(input: InputOf<"network.log">, context: Context): Promise<number> {
  const follow = input.follow === true;
  const broken = new AbortController();
  const show = (entry: OutputOf<"network.log">["entries"][number]) =>
    (context.json ? writeJson(entry) : writeAll(STDOUT, `${networkLine(entry)}\n`)).catch((thrown) =>
      broken.abort(thrown),
    );
  try {
    return await interruptible(async (signal) => {
      const output = await openStream(context.where, "network.log", input, {
        signal: AbortSignal.any([signal, broken.signal]),
        onEvent: ({ type, entry }) => (type === "entry" && follow ? show(entry) : undefined),
      }).result;
      if (context.json && !follow) await writeJson(output);
      else for (const entry of output.entries) await show(entry);
      broken.signal.throwIfAborted();
      const { note } = networkLogView(output);
      if (note !== undefined && !context.json && !context.quiet) await writeAll(STDERR, `${note}\n`);
      return 0;
    });
  } catch (thrown) {
    // Interrupting is how following ends: that is no failure to report.
    if (!follow || !(thrown instanceof Ended)) throw thrown;
    return thrown.status;
  }
}
