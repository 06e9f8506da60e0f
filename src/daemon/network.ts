// Serves the decisions of a workspace's network: a page of them, or each as it is made.
import type { Engine } from "../engine/engine.ts";
import type { EventOf, OutputOf, ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { hearCancel } from "./attached.ts";
import type { Reply, Requests } from "./stream.ts";

/** With `follow` the caller ends it: then the answer holds no entries, they were events. */
export async function serveNetworkLog(
  engine: Engine,
  { workspace_id, follow, limit, cursor }: ParsedInputOf<"network.log">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { network, workspaceId } = engine.workspaces.get(workspace_id);
  if (!follow) {
    const output: OutputOf<"network.log"> = {
      workspace_id: workspaceId,
      ...(await network.entries({ limit, cursor })),
    };
    return await reply.json(ToClient.Output, output);
  }
  const stop = AbortSignal.any([gone, hearCancel(requests, "log")]);
  try {
    for await (const entry of network.follow(cursor, stop)) {
      const event: EventOf<"network.log"> = { type: "entry", entry };
      await reply.json(ToClient.Event, event);
    }
  } catch (thrown) {
    throw stop.aborted ? stop.reason : thrown;
  }
}
