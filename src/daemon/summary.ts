// Serves the call that sums a workspace up.
import type { Engine } from "../engine/engine.ts";
import { summarize } from "../engine/workspace/summary.ts";
import type { ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { hearCancel } from "./attached.ts";
import { teller } from "./progress.ts";
import type { Reply, Requests } from "./stream.ts";

export async function serveSummary(
  engine: Engine,
  { workspace_id, wait_seconds }: ParsedInputOf<"workspace.summary">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const signal = AbortSignal.any([gone, hearCancel(requests, "summary")]);
  try {
    const workspace = engine.workspaces.get(workspace_id);
    await reply.json(ToClient.Output, await summarize(workspace, wait_seconds, { progress: teller(reply), signal }));
  } catch (thrown) {
    throw signal.aborted ? signal.reason : thrown;
  }
}
