// Sends a source over one connection: its bytes as Stdin frames, no faster than the daemon takes them, then UploadEnd.
import { MAX_FRAME_BYTES, ToDaemon } from "../wire/protocol.ts";
import type { Session } from "./session.ts";
import type { Source } from "./source/source.ts";

/**
 * Returns when everything was handed to the connection, or when that takes nothing any more. Aborting ends what makes the
 * bytes. Errors: those of the source; the signal's reason.
 */
export async function sendUpload(source: Source, session: Session, signal: AbortSignal): Promise<void> {
  for await (const bytes of source.bytes(signal)) {
    for (let at = 0; at < bytes.length; at += MAX_FRAME_BYTES) {
      signal.throwIfAborted();
      if (!(await session.sendSlowly(ToDaemon.Stdin, bytes.subarray(at, at + MAX_FRAME_BYTES)))) return;
    }
  }
  signal.throwIfAborted();
  session.sendJson(ToDaemon.UploadEnd, source.end());
}
