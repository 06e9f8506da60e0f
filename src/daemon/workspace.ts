// Serves the calls that make a workspace or bring files into one.
import type { Engine } from "../engine/engine.ts";
import { PyroError } from "../errors/error.ts";
import type { OutputOf, ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { teller } from "./progress.ts";
import type { Reply, Requests } from "./stream.ts";
import { Incoming } from "./upload.ts";

/** Finding that everything is prepared takes a moment, however short the wait, ms. */
const PREPARED_GRACE_MS = 1000;

/**
 * A workspace belongs to its caller until it is there: whoever goes before that leaves nothing behind. `wait_seconds`
 * bounds the wait for the environment and the template, which are prepared on after it.
 */
export async function serveCreate(
  engine: Engine,
  input: ParsedInputOf<"workspace.create">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const cancelled = new AbortController();
  const signal = AbortSignal.any([gone, cancelled.signal]);
  const upload = uploadOf(head, input.seed_path, requests, (reason) => cancelled.abort(reason));
  const preparing = new PyroError("ENVIRONMENT_PREPARING", "The environment is being prepared; nothing was created.");
  const wait = input.wait_seconds;
  const timer =
    wait === undefined
      ? undefined
      : setTimeout(() => cancelled.abort(preparing), Math.max(PREPARED_GRACE_MS, wait * 1000));
  try {
    const workspace = await engine.workspaces.create({
      workspaceId: head.request_id,
      input,
      upload,
      progress: teller(reply),
      prepared: () => clearTimeout(timer),
      signal,
    });
    const output: OutputOf<"workspace.create"> = await workspace.describe();
    await reply.json(ToClient.Output, output);
  } catch (thrown) {
    if (cancelled.signal.reason === preparing) engine.keepPreparing(input.environment);
    throw signal.aborted ? signal.reason : thrown;
  } finally {
    clearTimeout(timer);
  }
}

/** Everything arrives, or nothing does: whoever goes before the end has changed nothing. */
export async function servePush(
  engine: Engine,
  input: ParsedInputOf<"workspace.sync_push">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const cancelled = new AbortController();
  const upload = uploadOf(head, input.source_path, requests, (reason) => cancelled.abort(reason));
  if (upload === undefined) throw new PyroError("INVALID_INPUT", "Nothing was sent with the call.");
  const signal = AbortSignal.any([gone, cancelled.signal]);
  try {
    const workspace = engine.workspaces.get(input.workspace_id);
    const output = await workspace.push(input, upload, teller(reply), signal);
    const { source_path, destination, entry_count, bytes_written } = output;
    await workspace.exchanges.pushed({ source_path, destination, entry_count, bytes_written });
    await reply.json(ToClient.Output, output);
  } catch (thrown) {
    throw signal.aborted ? signal.reason : thrown;
  }
}

/** Listens to the caller in any case. Errors: INVALID_INPUT when a path is named and its content does not come. */
function uploadOf(
  head: RequestHead,
  path: string | undefined,
  requests: Requests,
  cancel: (reason: PyroError) => void,
): Incoming | undefined {
  const sends = head.upload === true;
  if (sends !== (path !== undefined)) {
    throw new PyroError("INVALID_INPUT", "A path of the host and its content come together, or neither does.");
  }
  const incoming = new Incoming(requests, cancel);
  return sends ? incoming : undefined;
}
