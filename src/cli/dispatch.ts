// Carries out what the command line asks for and shows the answer.
import { existsSync } from "node:fs";
import { call } from "../client/call.ts";
import { withUserDefaults } from "../client/settings.ts";
import { openStream } from "../client/stream.ts";
import { withUpload } from "../client/upload.ts";
import { PyroError } from "../errors/error.ts";
import { FACTS } from "../operations/facts.ts";
import type { InputOf, OperationName, OutputOf } from "../operations/table.ts";
import { printable } from "../text/printable.ts";
import { type Context, Ended } from "./context.ts";
import { deleteWorkspaces } from "./delete.ts";
import { downloaded } from "./download.ts";
import { readFile } from "./file-read.ts";
import type { Asked } from "./from-operation.ts";
import { withContent } from "./host-content.ts";
import { interruptible } from "./interrupts.ts";
import { showLogs } from "./logs.ts";
import { showNetworkLog } from "./network-log.ts";
import { exportFiles, showDiff } from "./outgoing.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { writeProcess } from "./process-write.ts";
import { Progress, type ProgressEvent } from "./progress.ts";
import { runCommand } from "./run.ts";
import { withSecrets } from "./secret-words.ts";
import { showServiceLogs } from "./service-logs.ts";
import { attachShell } from "./shell-attach.ts";
import { writeShell } from "./shell-write.ts";
import { VIEWS, type View } from "./views/view.ts";

/** The exit status. Errors are thrown. */
export async function dispatch(asked: Asked, context: Context): Promise<number> {
  const { name, idOnly } = asked;
  if (idOnly !== undefined && context.json) {
    throw new PyroError("INVALID_INPUT", "--id-only and --json exclude each other.");
  }
  // One command of several calls: it makes their inputs itself.
  if (name === "workspace.delete") return deleteWorkspaces(asked.beside, context);
  const typed = await withSecrets(await withContent(asked), context.where.environment);
  const input = withUserDefaults(name, typed, context.where.environment);
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
      case "network.log":
        return await showNetworkLog(input as InputOf<typeof name>, context);
      case "service.logs":
        return await showServiceLogs(input as InputOf<typeof name>, context);
      case "workspace.file_read":
      case "workspace.disk_read":
        return await readFile(name, input as InputOf<typeof name>, asked.beside, context);
      case "workspace.diff":
        return await showDiff(input as InputOf<typeof name>, context);
      case "workspace.export":
        return await exportFiles(input as InputOf<typeof name>, context);
      case "process.write":
        return await writeProcess(input as InputOf<typeof name>, context);
      case "shell.write":
        return await writeShell(input as InputOf<typeof name>, context);
      case "shell.attach":
        return await attachShell(input as InputOf<typeof name>, asked.beside, context);
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
  // Whoever ends what changes things wants to know what came of it; all else is simply left.
  const { streams, effect, download } = FACTS[name];
  const asking = interruptible((signal) => {
    if (download !== null) {
      return downloaded(name, input, context, signal).then((output) => ({ output, late: undefined }));
    }
    if (!streams) return call(context.where, name, input, { signal }).then((output) => ({ output, late: undefined }));
    return stream(name, input, context, signal, !effect.readOnly);
  });
  const { output, late } = await asking;
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
  if (late && !context.json && !context.quiet)
    await writeAll(STDERR, `pyro: ${late.message}, but it was done by then\n`);
  return late?.status ?? shown.status ?? 0;
}

interface Streamed<N extends OperationName> {
  readonly output: OutputOf<N>;
  /** What was to end it and came too late. */
  readonly late: Ended | undefined;
}

/** `settle`: an interrupt waits to hear whether it was in time. */
async function stream<N extends OperationName>(
  name: N,
  input: InputOf<N>,
  context: Context,
  signal: AbortSignal,
  settle: boolean,
): Promise<Streamed<N>> {
  const progress = new Progress(context);
  const reason = () => (signal.aborted && signal.reason instanceof Ended ? signal.reason : undefined);
  try {
    const { input: sent, upload } = await withUpload(name, input, { cwd: process.cwd(), signal });
    signal.throwIfAborted();
    const asked = openStream(context.where, name, sent, {
      ...(settle ? {} : { signal }),
      upload,
      onEvent: (event: unknown) => {
        if (isProgress(event)) progress.show(event);
      },
    });
    if (settle) signal.addEventListener("abort", () => asked.cancel(), { once: true });
    return { output: await asked.result, late: reason() };
  } catch (thrown) {
    const ended = reason();
    if (!settle || !ended) throw thrown;
    const code = thrown instanceof PyroError ? thrown.code : undefined;
    const unknown = code === "DAEMON_UNREACHABLE" ? "; the daemon did not say whether that was in time" : "";
    throw new Ended(ended.status, ended.message, `${ended.message}${unknown}`);
  } finally {
    progress.clear();
  }
}

function isProgress(event: unknown): event is ProgressEvent {
  return typeof event === "object" && event !== null && "type" in event && event.type === "progress";
}
