// Serves the log of a workspace: a page of it, or each command as it ends.
import type { Engine } from "../engine/engine.ts";
import type { EventOf, OutputOf, ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { hearCancel } from "./attached.ts";
import type { Reply, Requests } from "./stream.ts";

/** With `follow` the caller ends it, or the workspace's end does: then the answer holds no entries, they were events. */
export async function serveLogs(
  engine: Engine,
  input: ParsedInputOf<"workspace.logs">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { commands, workspaceId } = engine.workspaces.get(input.workspace_id);
  const { cursor, limit, max_bytes: maxBytes } = input;
  const answer = async (page: Omit<OutputOf<"workspace.logs">, "workspace_id">) => {
    const output: OutputOf<"workspace.logs"> = { workspace_id: workspaceId, ...page };
    await reply.json(ToClient.Output, output);
  };
  if (!input.follow) return await answer(await commands.entries({ limit, cursor, maxBytes }));
  const stop = AbortSignal.any([gone, hearCancel(requests, "log")]);
  try {
    for await (const entry of commands.follow({ cursor, maxBytes }, stop)) {
      const event: EventOf<"workspace.logs"> = { type: "entry", entry };
      await reply.json(ToClient.Event, event);
    }
  } catch (thrown) {
    throw stop.aborted ? stop.reason : thrown;
  }
  await answer({ entries: [], next_cursor: null });
}
