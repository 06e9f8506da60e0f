// Serves the calls about the disk of a stopped workspace.
import type { Engine } from "../engine/engine.ts";
import { exportDisk } from "../engine/workspace/disk-export.ts";
import type { ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { hearCancel } from "./attached.ts";
import { teller } from "./progress.ts";
import type { Reply, Requests } from "./stream.ts";

/** Its image goes out as stdout. An export belongs to its caller: whoever goes leaves nothing. */
export async function serveDiskExport(
  engine: Engine,
  input: ParsedInputOf<"workspace.disk_export">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const cancelled = hearCancel(requests, "export");
  const signal = AbortSignal.any([gone, cancelled]);
  const { disk, workspaceId, exchanges } = engine.workspaces.get(input.workspace_id);
  let cursor = 0n;
  try {
    const { entryCount, bytesWritten, sizeBytes } = await exportDisk(disk, engine.inspections, {
      progress: teller(reply),
      take: async (bytes) => {
        cursor += BigInt(bytes.length);
        await reply.output("stdout", cursor, bytes);
      },
      signal,
    });
    const { output_path } = input;
    await exchanges.exported({ kind: "disk", workspace_path: "/", output_path, bytes_written: bytesWritten });
    await reply.json(ToClient.Output, {
      workspace_id: workspaceId,
      output_path,
      format: "ext4",
      bytes_written: bytesWritten,
      size_bytes: sizeBytes,
      entry_count: entryCount,
    });
  } catch (thrown) {
    throw signal.aborted ? signal.reason : thrown;
  }
}
