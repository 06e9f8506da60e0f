// Serves one connection of a command in a workspace: the start of a stopped workspace, then what any connection does for
// its process. The command belongs to the workspace: it goes on when its client has gone, and a client that comes back
// with the same request id takes it up.
import { orAborted } from "../abort/or-aborted.ts";
import type { Engine } from "../engine/engine.ts";
import type { Command } from "../engine/workspace/command.ts";
import { PyroError } from "../errors/error.ts";
import type { EventOf, ParsedInputOf } from "../operations/table.ts";
import { REQUEST_ID_PATTERN } from "../wire/ids.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { race, receive, streamOutput } from "./attached.ts";
import type { Reply, Requests } from "./stream.ts";

/** How much longer than its wait a caller waits for a start, so that a failure of it is told, ms. */
const START_GRACE_MS = 15_000;
/** How long a cancel waits for the end of what it kills; a client waits a little longer for its answer, ms. */
const CANCEL_MS = 3000;

export async function serveExec(
  engine: Engine,
  input: ParsedInputOf<"workspace.exec">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { request_id: requestId, terminal, resume } = head;
  if (requestId !== undefined && !REQUEST_ID_PATTERN.test(requestId)) {
    throw new PyroError("INVALID_INPUT", `${requestId} cannot be the id of a request.`);
  }
  const { commands, workspaceId } = engine.workspaces.get(input.workspace_id);
  const command = commands.begin({
    requestId,
    input,
    terminal,
    // One that is detached is written to by other calls.
    stdinClosed: head.stdin_closed && !input.detach,
    mustExist: resume !== undefined && (resume.cursor !== "0" || resume.stdin_offset > 0),
  });
  const tell = (event: EventOf<"workspace.exec">) => void reply.json(ToClient.Event, event);
  const unlisten = command.listen(tell);
  const wait = input.wait_seconds === undefined ? undefined : AbortSignal.timeout(input.wait_seconds * 1000);
  const cancelled = new AbortController();
  const stop = AbortSignal.any([gone, cancelled.signal]);
  void receive(command, "command", head, requests, reply, stop, (reason) => {
    cancelled.abort(reason);
    command.cancel(reason);
  });
  const result = (cursor: bigint) => commands.resultOf(command, cursor);
  try {
    const started = await untilStarted(command, wait, stop);
    if (started) tell({ type: "started", workspace_id: workspaceId, process_id: command.processId });
    if (started && !input.detach) await streamOutput(command, result, head, reply, wait, stop);
    else await reply.json(ToClient.Output, result(0n));
  } catch (thrown) {
    if (gone.aborted) return;
    if (!cancelled.signal.aborted) throw thrown;
    throw await whenDead(command, cancelled.signal.reason as PyroError);
  } finally {
    unlisten();
  }
}

/** A cancel is answered when nothing runs any more, or says that something does. */
async function whenDead(command: Command, reason: PyroError): Promise<PyroError> {
  await orAborted(command.finished, AbortSignal.timeout(CANCEL_MS)).catch(() => {});
  if (command.over || !command.begun) return reason;
  const { code, message, hint } = reason;
  const { processId } = command;
  const still = `${message} ${processId} is still being killed: the guest has not answered yet.`;
  return new PyroError(code, still, { hint, details: { ...reason.details, process_id: processId } });
}

/** False when it is still being started though the wait is long over: it will be, or `ended` says why not. */
async function untilStarted(command: Command, wait: AbortSignal | undefined, stop: AbortSignal): Promise<boolean> {
  try {
    if ((await race(command.started, wait, stop)) === "done") return true;
    return (await race(command.started, AbortSignal.timeout(START_GRACE_MS), stop)) === "done";
  } catch (thrown) {
    // One that was lost before this daemon could take it up has output to give, and says why behind that.
    if (!stop.aborted && command.over && command.hasSpool) return true;
    throw thrown;
  }
}
