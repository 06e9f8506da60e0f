// A command with the caller's own stdin, stdout and stderr: what `pyro run` and `pyro workspace exec` do while it runs.
import { Collector } from "../client/collect.ts";
import { openStream, type Stream } from "../client/stream.ts";
import type { EventOf, InputOf } from "../operations/table.ts";
import { type Context, Ended } from "./context.ts";
import { statusOf } from "./exit-status.ts";
import { watchInterrupts } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { Progress } from "./progress.ts";
import { takeTerminal, terminalSize } from "./terminal.ts";
import { endNote } from "./views/process.ts";

/** Rows that give a command the caller's streams. */
export type CommandRow = "run" | "workspace.exec";

const SIGHUP = 1;

/** The exit status: the command's own, 124 when its time ran out, 0 for one that is not waited for. Errors are thrown. */
export async function runCommand(name: CommandRow, input: InputOf<CommandRow>, context: Context): Promise<number> {
  const abort = new AbortController();
  const progress = new Progress(context);
  const collected = context.json ? new Collector() : undefined;
  const terminal = input.tty ? terminalSize() : undefined;
  const detach = "detach" in input && input.detach === true;
  // A terminal is passed on only with -t: without it the command would fight the shell for what is typed. To a command
  // that nobody waits for, what is to be written is written later.
  const stdin = input.no_stdin !== true && !detach && (input.tty === true || process.stdin.isTTY !== true);
  let release: (() => void) | undefined;

  const stream: Stream<CommandRow> = openStream(context.where, name, input, {
    signal: abort.signal,
    stdin,
    ...(terminal ? { terminal } : {}),
    onEvent: (event) => onEvent(event),
    onOutput: async (from, data) => {
      if (collected) return collected.add(from, data);
      progress.clear();
      await writeAll(from === "stdout" ? STDOUT : STDERR, data).catch((thrown) => abort.abort(thrown));
    },
  });
  const interrupts = watchInterrupts(
    (signal) => stream.signal(signal),
    (reason) => abort.abort(reason),
    // A workspace's command goes on without us, but not one whose terminal this was.
    name === "run" ? undefined : (reason) => leave(stream, input.tty === true, reason),
  );
  const onEvent = (event: EventOf<CommandRow>) => {
    if (event.type === "progress") progress.show(event);
    if (event.type === "gap") progress.note(`pyro: ${event.dropped_bytes} bytes of output were lost.`);
    if (event.type !== "started") return;
    progress.clear();
    const machine = "vm_id" in event ? event.vm_id : event.workspace_id;
    if (context.verbose) progress.note(`pyro: ${event.process_id} runs in ${machine}`);
    interrupts.started();
    if (!input.tty || detach || release) return;
    release = takeTerminal(({ columns, rows }) => stream.resize(columns, rows));
    if (stdin) void feed(stream, progress);
  };
  if (stdin && !input.tty) void feed(stream, progress);

  try {
    const output = await stream.result;
    progress.clear();
    if (collected) await writeJson(collected.fill(output));
    else if (detach) await writeAll(STDOUT, `${output.process_id}\n`);
    const note = endNote(output, name);
    if (note !== undefined && !context.json && !context.quiet) await writeAll(STDERR, `${note}\n`);
    return detach && output.state === "running" ? 0 : statusOf(output);
  } finally {
    release?.();
    progress.clear();
    interrupts.dispose();
    process.stdin.destroy();
  }
}

/** Ends our part of it; the command hears of a hang-up if it had our terminal. */
function leave(stream: Stream<CommandRow>, terminal: boolean, reason: Ended): void {
  if (terminal) stream.signal(SIGHUP);
  // What was just sent is on its way by then.
  setImmediate(() => stream.leave(reason));
}

/** Our stdin to the command's, at the command's pace. */
async function feed(stream: Stream<CommandRow>, progress: Progress): Promise<void> {
  try {
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
      if (!(await stream.write(chunk))) break;
    }
  } catch (thrown) {
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    // Destroying stdin at the end reads as an abort here.
    if (!(thrown instanceof Ended) && !process.stdin.destroyed) progress.note(`pyro: stdin cannot be read: ${message}`);
  }
  await stream.end();
}
