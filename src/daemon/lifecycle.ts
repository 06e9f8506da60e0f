// Serves the calls about the life of a workspace: stop, start, reset, clone, and its snapshots.
import type { Engine } from "../engine/engine.ts";
import { PyroError } from "../errors/error.ts";
import type { OutputOf, ParsedInputOf } from "../operations/table.ts";
import { REQUEST_ID_PATTERN } from "../wire/ids.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { hearCancel, race } from "./attached.ts";
import { teller } from "./progress.ts";
import type { Reply, Requests } from "./stream.ts";

/** What was asked to stop goes on stopping when its caller goes. */
export async function serveStop(
  engine: Engine,
  input: ParsedInputOf<"workspace.stop">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const workspace = engine.workspaces.get(input.workspace_id);
  const stop = AbortSignal.any([gone, hearCancel(requests, "wait")]);
  await race(workspace.lifecycle.stop(), waitOf(input), stop);
  await reply.json(ToClient.Output, await workspace.describe());
}

/** What was asked to start goes on starting when its caller goes. */
export async function serveStart(
  engine: Engine,
  input: ParsedInputOf<"workspace.start">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const workspace = engine.workspaces.get(input.workspace_id);
  const stop = AbortSignal.any([gone, hearCancel(requests, "wait")]);
  await race(workspace.lifecycle.start(teller(reply), stop), waitOf(input), stop);
  await reply.json(ToClient.Output, await workspace.describe());
}

/** Whoever goes, or cancels, before the new disk is there has changed nothing; after that it is carried out. */
export async function serveReset(
  engine: Engine,
  input: ParsedInputOf<"workspace.reset">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const workspace = engine.workspaces.get(input.workspace_id);
  const request = { snapshotName: input.snapshot_name, requestId: requestIdOf(head) };
  const signal = giveUpOf(input, requests, "reset", gone);
  await workspace.lifecycle.reset(request, teller(reply), signal);
  await reply.json(ToClient.Output, await workspace.describe());
}

/** The clone belongs to its caller until it is there: whoever goes before that leaves nothing behind. */
export async function serveClone(
  engine: Engine,
  input: ParsedInputOf<"workspace.clone">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const signal = giveUpOf(input, requests, "clone", gone);
  const request = { workspaceId: head.request_id, input, progress: teller(reply), signal };
  const workspace = await engine.workspaces.clone(request);
  await reply.json(ToClient.Output, await workspace.describe());
}

/** Whoever goes before it is whole leaves nothing behind. */
export async function serveSnapshot(
  engine: Engine,
  input: ParsedInputOf<"snapshot.create">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { lifecycle } = engine.workspaces.get(input.workspace_id);
  const signal = giveUpOf(input, requests, "snapshot", gone);
  const made: OutputOf<"snapshot.create"> = await lifecycle.snapshot(input.snapshot_name, requestIdOf(head), signal);
  await reply.json(ToClient.Output, made);
}

export async function listSnapshots(
  engine: Engine,
  { workspace_id, limit, cursor }: ParsedInputOf<"snapshot.list">,
): Promise<OutputOf<"snapshot.list">> {
  return await engine.workspaces.get(workspace_id).lifecycle.listSnapshots({ limit, cursor });
}

export async function deleteSnapshot(
  engine: Engine,
  { workspace_id, snapshot_name }: ParsedInputOf<"snapshot.delete">,
): Promise<OutputOf<"snapshot.delete">> {
  return await engine.workspaces.get(workspace_id).lifecycle.deleteSnapshot(snapshot_name);
}

function waitOf({ wait_seconds }: { wait_seconds?: number | undefined }): AbortSignal | undefined {
  return wait_seconds === undefined ? undefined : AbortSignal.timeout(wait_seconds * 1000);
}

/** Aborts when the caller goes, cancels, or does not want to wait any longer. */
function giveUpOf(
  input: { wait_seconds?: number | undefined },
  requests: Requests,
  what: string,
  gone: AbortSignal,
): AbortSignal {
  const signals = [gone, hearCancel(requests, what)];
  const wait = waitOf(input);
  if (wait !== undefined) {
    const late = new AbortController();
    const told = `The ${what} took longer than wait_seconds and was given up; nothing was changed.`;
    const hint = "Wait longer with wait_seconds, at most 50; a disk that holds much takes its time to be copied.";
    wait.addEventListener("abort", () => late.abort(new PyroError("LIMIT_EXCEEDED", told, { hint })), { once: true });
    signals.push(late.signal);
  }
  return AbortSignal.any(signals);
}

/** Errors: INVALID_INPUT. */
function requestIdOf({ request_id: requestId }: RequestHead): string | undefined {
  if (requestId === undefined || REQUEST_ID_PATTERN.test(requestId)) return requestId;
  throw new PyroError("INVALID_INPUT", `${requestId} cannot be the id of a request.`);
}
