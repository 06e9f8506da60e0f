// An archive of a file or a directory of a workspace, as its guest makes it. Nobody looks into it on the way: whoever unpacks
// it does.
import { PyroError } from "../../errors/error.ts";
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { nonsense as fileNonsense, numberOf, pathFacts, typeOf } from "./file-facts.ts";
import { nonsense, type OutgoingGuest, piecesFrom } from "./outgoing-pieces.ts";

type Exported = Pick<
  OutputOf<"workspace.export">,
  "artifact_type" | "entry_count" | "bytes_written" | "skipped" | "skipped_count"
>;

export interface ExportRequest {
  /** Relative to the workspace. */
  readonly path: Uint8Array;
}

export interface ExportLimits {
  /** Of all files together, holes included. */
  readonly maxBytes: number;
  readonly maxEntries: number;
}

/** What an entry may take beside its content, with a long name in an extension of its header. */
const OVERHEAD_BYTES = 16 << 10;
const MOST_SKIPPED = 100;
const MOST_REASON = 1000;

/**
 * Errors: FILE_NOT_FOUND, FILE_WRONG_KIND, PATH_OUTSIDE, LIMIT_EXCEEDED; GUEST_UNRESPONSIVE, MICROVM_LOST; what the sink
 * throws; the signal's reason.
 */
export async function exportArchive(
  guest: OutgoingGuest,
  request: ExportRequest,
  limits: ExportLimits,
  sink: (bytes: Uint8Array) => Promise<void>,
  signal: AbortSignal,
): Promise<Exported> {
  const most = limits.maxBytes + Math.min(limits.maxEntries, 2 ** 24) * OVERHEAD_BYTES;
  let bytes = 0;
  const pieces = piecesFrom(
    guest,
    (calls, outgoingId, options) =>
      calls.beginExport(
        {
          outgoingId,
          path: request.path,
          maxBytes: BigInt(limits.maxBytes),
          maxEntries: BigInt(limits.maxEntries),
        },
        options,
      ),
    (calls, outgoingId, piece, options) => calls.readExport({ outgoingId, piece }, options),
    signal,
  );
  for await (const piece of pieces) {
    if (piece.data.length === 0 && !piece.end) throw nonsense("there is nothing in a piece of an archive");
    bytes += piece.data.length;
    if (bytes > most) throw new PyroError("LIMIT_EXCEEDED", "The archive is larger than its files may be together.");
    if (piece.data.length > 0) await sink(piece.data);
    if (!piece.end) continue;
    if (piece.entryCount > BigInt(limits.maxEntries) || piece.bytesWritten > BigInt(limits.maxBytes)) {
      throw fileNonsense();
    }
    return {
      artifact_type: typeOf(piece.type),
      entry_count: numberOf(piece.entryCount),
      bytes_written: numberOf(piece.bytesWritten),
      skipped: piece.skipped.slice(0, MOST_SKIPPED).map(({ path, reason }) => ({
        ...pathFacts(path),
        reason: printable(reason.slice(0, MOST_REASON)),
      })),
      skipped_count: numberOf(piece.skippedCount),
    };
  }
  throw nonsense("the archive has no end");
}
