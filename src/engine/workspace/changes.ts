// Comparing a workspace with what it was, by its guest or any other that has its disks. Nothing that is said is believed beyond
// what it may be: names that stay below the workspace, counts that add up, and no more bytes than were allowed.
import { PyroError } from "../../errors/error.ts";
import { type Change, ChangeStatus } from "../../gen/pyro/guest/v1/changes_pb.js";
import type { EventOf, OutputOf } from "../../operations/table.ts";
import { numberOf, pathFacts, typeOf } from "./file-facts.ts";
import { nonsense, type OutgoingGuest, piecesFrom } from "./outgoing-pieces.ts";

type Summary = OutputOf<"workspace.diff">["summary"];
export type ChangeEntry = Extract<EventOf<"workspace.diff">, { type: "entry" }>["entry"];

/** Takes what is told, in order: each change, and the parts of its patch behind it. A promise holds the guest back. */
export interface ChangesSink {
  change(entry: ChangeEntry): Promise<void>;
  patch(bytes: Uint8Array): Promise<void>;
}

export interface ChangesRequest {
  /** Whether there was a seed, which is on the baseline's drive; else it is compared with what the base has. */
  readonly baseline: { readonly disk: boolean };
  /** Relative to the workspace. */
  readonly paths: readonly Uint8Array[];
  /** No patch is wanted. */
  readonly stat: boolean;
}

export interface ChangesLimits {
  /** Of the patch. */
  readonly maxBytes: number;
  readonly maxChanges?: number;
}

/** As the guest has it: a change is kept in its memory until it is told. */
const MOST_CHANGES = 500_000;
const MOST_PATCH_PART = 1 << 20;

const STATUSES: { readonly [S in ChangeStatus]?: ChangeEntry["status"] } = {
  [ChangeStatus.ADDED]: "added",
  [ChangeStatus.MODIFIED]: "modified",
  [ChangeStatus.DELETED]: "deleted",
  [ChangeStatus.TYPE_CHANGED]: "type_changed",
};

/**
 * Errors: FILE_NOT_FOUND for a path where nothing is or was, BASELINE_MISSING, LIMIT_EXCEEDED; GUEST_UNRESPONSIVE,
 * MICROVM_LOST; what the sink throws; the signal's reason.
 */
export async function compareChanges(
  guest: OutgoingGuest,
  request: ChangesRequest,
  { maxBytes, maxChanges = MOST_CHANGES }: ChangesLimits,
  sink: ChangesSink,
  signal: AbortSignal,
): Promise<Summary> {
  const summary: Summary = {
    total: 0,
    added: 0,
    modified: 0,
    deleted: 0,
    type_changed: 0,
    text_patched: 0,
    non_text: 0,
    not_in_patch: 0,
  };
  let bytes = 0;
  const pieces = piecesFrom(
    guest,
    (calls, outgoingId, options) =>
      calls.beginChanges(
        {
          outgoingId,
          baseline: request.baseline,
          paths: [...request.paths],
          stat: request.stat,
        },
        options,
      ),
    (calls, outgoingId, piece, options) => calls.readChanges({ outgoingId, piece }, options),
    signal,
  );
  for await (const { events, end } of pieces) {
    if (events.length === 0 && !end) throw nonsense("there is nothing in a piece of changes");
    for (const { event } of events) {
      if (event.case === "change") {
        const entry = entryOf(event.value);
        count(summary, entry);
        if (summary.total > maxChanges) throw nonsense(`it tells more than ${maxChanges} changes`);
        await sink.change(entry);
      } else if (event.case === "patch") {
        const { length } = event.value;
        bytes += length;
        if (length === 0 || length > MOST_PATCH_PART || summary.total === 0 || request.stat) {
          throw nonsense("there is a part of a patch that cannot be one");
        }
        if (bytes > maxBytes) {
          throw new PyroError("LIMIT_EXCEEDED", `The patch has more than ${maxBytes / 2 ** 20} MiB.`, {
            hint: "Ask for a part of it by its path, or for more with a larger max_transfer_mib.",
          });
        }
        await sink.patch(event.value);
      } else {
        throw nonsense("there is an event of no kind among its changes");
      }
    }
  }
  return summary;
}

function entryOf(change: Change): ChangeEntry {
  const status = STATUSES[change.status];
  if (status === undefined) throw nonsense("it tells of a change of no kind");
  return {
    ...pathFacts(change.path),
    status,
    artifact_type: typeOf(change.type),
    text: change.text,
    text_patch: null,
    insertions: numberOf(change.insertions),
    deletions: numberOf(change.deletions),
    old_bytes: numberOf(change.oldSize),
    new_bytes: numberOf(change.newSize),
    in_patch: change.patched,
  };
}

function count(summary: Summary, { status, text, in_patch }: ChangeEntry): void {
  summary.total++;
  summary[status]++;
  summary[text ? "text_patched" : "non_text"]++;
  if (!in_patch) summary.not_in_patch++;
}
