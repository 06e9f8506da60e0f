// Serves what leaves a workspace: changes as events, with the bytes of their patch as output between them; and archives, which
// are passed on without a look into them. A caller who does not read holds the guest back.
import type { Engine } from "../engine/engine.ts";
import { WORKSPACE_PATH } from "../operations/fields.ts";
import type { EventOf, ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { hearCancel } from "./attached.ts";
import { teller } from "./progress.ts";
import type { Reply, Requests } from "./stream.ts";

export async function serveDiff(
  engine: Engine,
  input: ParsedInputOf<"workspace.diff">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const signal = AbortSignal.any([gone, hearCancel(requests, "diff")]);
  const bytes = outputOf(reply);
  const sink = {
    change: async (entry: Extract<EventOf<"workspace.diff">, { type: "entry" }>["entry"]) => {
      const event: EventOf<"workspace.diff"> = { type: "entry", entry };
      await reply.json(ToClient.Event, event);
    },
    patch: bytes,
  };
  try {
    const { outgoing, exchanges } = engine.workspaces.get(input.workspace_id);
    const output = await outgoing.diff(input, sink, { progress: teller(reply), signal });
    const { output_path } = output;
    if (output_path !== null) {
      await exchanges.exported({ kind: "patch", workspace_path: WORKSPACE_PATH, output_path, bytes_written: null });
    }
    await reply.json(ToClient.Output, output);
  } catch (thrown) {
    throw signal.aborted ? signal.reason : thrown;
  }
}

export async function serveExport(
  engine: Engine,
  input: ParsedInputOf<"workspace.export">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const signal = AbortSignal.any([gone, hearCancel(requests, "export")]);
  try {
    const { outgoing, exchanges } = engine.workspaces.get(input.workspace_id);
    const output = await outgoing.export(input, outputOf(reply), { progress: teller(reply), signal });
    const { workspace_path, output_path, bytes_written } = output;
    await exchanges.exported({ kind: "files", workspace_path, output_path, bytes_written });
    await reply.json(ToClient.Output, output);
  } catch (thrown) {
    throw signal.aborted ? signal.reason : thrown;
  }
}

/** Bytes as frames of output. */
function outputOf(reply: Reply): (bytes: Uint8Array) => Promise<void> {
  let sent = 0n;
  return async (bytes) => {
    sent += BigInt(bytes.length);
    await reply.output("stdout", sent, bytes);
  };
}
