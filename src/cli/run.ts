// A command with the caller's own stdin, stdout and stderr: what `pyro run` does while it waits.
import { Collector } from "../client/collect.ts";
import { openStream, type Stream } from "../client/stream.ts";
import type { EventOf, InputOf, OutputOf } from "../operations/table.ts";
import { type Context, Ended, STATUS_PYRO_FAILED } from "./context.ts";
import { watchInterrupts } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { Progress } from "./progress.ts";
import { takeTerminal, terminalSize } from "./terminal.ts";
import { runView } from "./views/process.ts";

const STATUS_TIMEOUT = 124;

/** The exit status: the command's own, 124 when its time ran out. Errors are thrown. */
export async function runCommand(input: InputOf<"run">, context: Context): Promise<number> {
  const abort = new AbortController();
  const progress = new Progress(context);
  const collected = context.json ? new Collector() : undefined;
  const terminal = input.tty ? terminalSize() : undefined;
  // A terminal is passed on only with -t: without it the command would fight the shell for what is typed.
  const stdin = input.no_stdin !== true && (input.tty === true || process.stdin.isTTY !== true);
  let release: (() => void) | undefined;

  const stream: Stream<"run"> = openStream(context.where, "run", input, {
    signal: abort.signal,
    stdin,
    ...(terminal ? { terminal } : {}),
    onEvent: (event) => onEvent(event),
    onOutput: async (name, data) => {
      if (collected) return collected.add(name, data);
      progress.clear();
      await writeAll(name === "stdout" ? STDOUT : STDERR, data).catch((thrown) => abort.abort(thrown));
    },
  });
  const interrupts = watchInterrupts(
    (signal) => stream.signal(signal),
    (reason) => abort.abort(reason),
  );
  const onEvent = (event: EventOf<"run">) => {
    if (event.type === "progress") progress.show(event);
    if (event.type === "gap") progress.note(`pyro: ${event.dropped_bytes} bytes of output were lost.`);
    if (event.type !== "started") return;
    progress.clear();
    if (context.verbose) progress.note(`pyro: ${event.process_id} runs in ${event.vm_id}`);
    interrupts.started();
    if (!input.tty || release) return;
    release = takeTerminal(({ columns, rows }) => stream.resize(columns, rows));
    if (stdin) void feed(stream, progress);
  };
  if (stdin && !input.tty) void feed(stream, progress);

  try {
    const output = await stream.result;
    progress.clear();
    if (collected) await writeJson(collected.fill(output));
    else if (!context.quiet) {
      const { note } = runView(output);
      if (note) await writeAll(STDERR, `${note}\n`);
    }
    return statusOf(output);
  } finally {
    release?.();
    progress.clear();
    interrupts.dispose();
    process.stdin.destroy();
  }
}

/** 124 for a timeout, else what the command ended with. */
export function statusOf(output: OutputOf<"run">): number {
  if (output.timed_out) return STATUS_TIMEOUT;
  return output.exit_code === null ? STATUS_PYRO_FAILED : output.exit_code & 0xff;
}

/** Our stdin to the command's, at the command's pace. */
async function feed(stream: Stream<"run">, progress: Progress): Promise<void> {
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
