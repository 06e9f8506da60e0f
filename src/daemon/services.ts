// Serves the calls about the services of a workspace: start, list, status, stop and logs.
import type { Engine } from "../engine/engine.ts";
import { parseCursor } from "../engine/result.ts";
import { FAILED_GRACE_MS, type Service } from "../engine/workspace/service.ts";
import { logChunks, logPart, tailStart } from "../engine/workspace/service-log.ts";
import { PyroError } from "../errors/error.ts";
import type { EventOf, OutputOf, ParsedInputOf } from "../operations/table.ts";
import { REQUEST_ID_PATTERN } from "../wire/ids.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { hearCancel, race } from "./attached.ts";
import type { Reply, Requests } from "./stream.ts";

/** How much longer than its wait a caller waits for a start, so that a failure of it is told, ms. */
const START_GRACE_MS = 15_000;
/** How long a cancel waits for the end of what it ends; a client waits a little longer for its answer, ms. */
const CANCEL_MS = 3000;

/** A service belongs to its workspace: a caller that vanishes leaves it, one that cancels ends what is not ready yet. */
export async function serveStart(
  engine: Engine,
  input: ParsedInputOf<"service.start">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { request_id: requestId } = head;
  if (requestId !== undefined && !REQUEST_ID_PATTERN.test(requestId)) {
    throw new PyroError("INVALID_INPUT", `${requestId} cannot be the id of a request.`);
  }
  const { services } = engine.workspaces.get(input.workspace_id);
  const service = services.begin(input, requestId);
  const tell = (event: EventOf<"service.start">) => void reply.json(ToClient.Event, event);
  const unlisten = service.listen(tell);
  const cancelled = hearCancel(requests, "start");
  const stop = AbortSignal.any([gone, cancelled]);
  try {
    const wait = input.wait_seconds === undefined ? undefined : AbortSignal.timeout(input.wait_seconds * 1000);
    const decided = (await race(service.decided, wait, stop)) === "done";
    if (!decided) await race(service.command.started, AbortSignal.timeout(START_GRACE_MS), stop);
    await reply.json(ToClient.Output, decided ? await startedOrWhyNot(service) : service.describe());
  } catch (thrown) {
    if (gone.aborted) return;
    if (cancelled.aborted) await race(service.stop("cancelled", FAILED_GRACE_MS), AbortSignal.timeout(CANCEL_MS), gone);
    throw cancelled.aborted ? cancelled.reason : thrown;
  } finally {
    unlisten();
  }
}

/** Of one that is decided. Errors: why it does not run. */
async function startedOrWhyNot(service: Service): Promise<OutputOf<"service.start">> {
  const { name, command } = service;
  if (service.left !== undefined) throw service.left;
  // It never was.
  if (!command.begun) await command.ended;
  const described = service.describe();
  switch (described.state) {
    case "failed":
      throw service.failure();
    case "stopped":
      // Its microVM was lost: that is told.
      await command.ended;
      throw new PyroError("CANCELLED", `The service ${name} was stopped before it was ready.`);
    default:
      return described;
  }
}

export async function listServices(
  engine: Engine,
  { workspace_id, limit, cursor }: ParsedInputOf<"service.list">,
): Promise<OutputOf<"service.list">> {
  const { services, workspaceId } = engine.workspaces.get(workspace_id);
  return { workspace_id: workspaceId, ...services.list({ limit, cursor }) };
}

/** One that is starting is waited for, if that is asked for. */
export async function serviceStatus(
  engine: Engine,
  { workspace_id, service_name, wait_seconds }: ParsedInputOf<"service.status">,
  signal: AbortSignal,
): Promise<OutputOf<"service.status">> {
  const service = engine.workspaces.get(workspace_id).services.get(service_name);
  if (wait_seconds !== undefined) await race(service.decided, AbortSignal.timeout(wait_seconds * 1000), signal);
  return service.describe();
}

/** What was asked to end goes on ending when its caller goes. */
export async function serveStop(
  engine: Engine,
  input: ParsedInputOf<"service.stop">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { services } = engine.workspaces.get(input.workspace_id);
  const service = services.get(input.service_name);
  const wait = input.wait_seconds === undefined ? undefined : AbortSignal.timeout(input.wait_seconds * 1000);
  const stop = AbortSignal.any([gone, hearCancel(requests, "stop")]);
  const leave = services.use();
  const stopped = service.stop("requested", input.grace_seconds * 1000).finally(leave);
  await race(stopped, wait, stop);
  if (service.left !== undefined) throw service.left;
  await reply.json(ToClient.Output, service.describe());
}

/**
 * With max_bytes the answer holds a part of the log; without, the log goes beside it, from where a client that comes back
 * says that it is.
 */
export async function serveServiceLogs(
  engine: Engine,
  input: ParsedInputOf<"service.logs">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { services, workspaceId } = engine.workspaces.get(input.workspace_id);
  const service = services.get(input.service_name);
  const { max_bytes: maxBytes, follow } = input;
  if (follow && maxBytes !== undefined) {
    throw new PyroError("INVALID_INPUT", "A log that is followed has no max_bytes: all of it is sent.");
  }
  const stop = AbortSignal.any([gone, hearCancel(requests, "log")]);
  const answer = async (part: Partial<OutputOf<"service.logs">>) => {
    const { service_name, state, exit_code } = service.describe();
    const facts = { workspace_id: workspaceId, service_name, state, exit_code };
    const output: OutputOf<"service.logs"> = { ...facts, ...NOTHING, ...part };
    await reply.json(ToClient.Output, output);
  };
  const leave = follow ? services.use() : () => {};
  try {
    // One whose process is being started has no log yet.
    if (follow)
      await race(
        service.command.started.catch(() => {}),
        undefined,
        stop,
      );
    const { spool } = service;
    if (spool === undefined) return await answer({});
    if (maxBytes !== undefined) {
      const least = spool.end - BigInt(maxBytes);
      const from = input.cursor === undefined ? await tailStart(spool, tailOf(input), least) : cursorIn(spool, input);
      return await answer(await logPart(spool, from, maxBytes));
    }
    let cursor = await beginning(spool, input, head);
    let redacted = head.resume !== undefined && (await spool.redactedBefore(cursor));
    for await (const chunk of logChunks(spool, cursor, follow, stop)) {
      if (chunk.stream === "gap") {
        await reply.json(ToClient.Event, { type: "gap", dropped_bytes: Number(chunk.next - chunk.cursor) });
      } else {
        await reply.output(chunk.stream, chunk.next, chunk.data);
      }
      cursor = chunk.next;
      redacted ||= chunk.redacted === true;
    }
    if (follow) await race(service.command.finished, undefined, stop);
    if (follow && service.left !== undefined) throw service.left;
    await answer({ next_cursor: `c${cursor}`, redacted });
  } catch (thrown) {
    throw stop.aborted ? stop.reason : thrown;
  } finally {
    leave();
  }
}

const NOTHING = { output: "", output_encoding: "utf-8", omitted_bytes: 0, next_cursor: "c0", redacted: false } as const;

type Log = NonNullable<Service["spool"]>;
type LogsInput = ParsedInputOf<"service.logs">;

async function beginning(spool: Log, input: LogsInput, { resume }: RequestHead): Promise<bigint> {
  if (resume !== undefined && resume.cursor !== "0") {
    const cursor = BigInt(resume.cursor);
    if (cursor > spool.end) throw new PyroError("INVALID_INPUT", `head.resume.cursor ${cursor} is beyond the log.`);
    return cursor;
  }
  return input.cursor === undefined ? await tailStart(spool, tailOf(input), 0n) : cursorIn(spool, input);
}

function tailOf({ tail }: LogsInput): "all" | number {
  return tail === "all" ? "all" : Number(tail);
}

/** Errors: CURSOR_INVALID. */
function cursorIn(spool: Log, { cursor = "", service_name }: LogsInput): bigint {
  const from = parseCursor(cursor);
  if (from > spool.end) throw new PyroError("CURSOR_INVALID", `${cursor} is beyond the log of ${service_name}.`);
  return from;
}
