// Putting a workspace back to a snapshot: all of it or nothing, whoever dies in between. The new disk is made beside the old
// one; then the record says that the reset is to be finished, and from there on it is, by this daemon or by the next: the
// microVM and what ran in it are gone, the new disk takes the place of the old. Before that nothing has changed.
import { mkdir, rename, rm } from "node:fs/promises";
import { formatDisk } from "../../environments/disk.ts";
import { PyroError } from "../../errors/error.ts";
import { isThere } from "../../host/is-there.ts";
import { syncPath } from "../../host/records.ts";
import { copyDisk, settleDisk } from "../disk-copy.ts";
import type { Progress } from "../templates.ts";
import type { Ledger } from "./ledger.ts";
import { failedError, type Life, START_STAGE } from "./life.ts";
import { layoutOf, type StoredWorkspace } from "./record.ts";
import type { Snapshots, Source } from "./snapshots.ts";

/** What a reset needs of its workspace. */
export interface ResetParts {
  readonly ledger: Ledger;
  readonly life: Life;
  readonly snapshots: Snapshots;
  /** Ends all that was run in it, and lets nobody begin anything. Resolves when nothing writes into its directories. */
  empty(reason: PyroError): Promise<void>;
  /** Its directories are empty: things may be begun in it again. */
  refill(): Promise<void>;
}

export interface ResetRequest {
  readonly snapshotName: string;
  /** The caller's name for this call: the same again resets nothing. */
  readonly requestId: string | undefined;
}

const STAGE = "reset";

/** Makes a disk of its own of a source, safe from a crash of the host; nothing is there after a failure. Errors: as copyDisk. */
export async function makeDisk(source: Source, to: string, diskMib: number, signal: AbortSignal): Promise<void> {
  if (source === "pristine") await formatDisk(to, diskMib, signal);
  else await copyDisk(source.diskPath, to, signal);
  await settleDisk(to);
}

/**
 * In its turn. One that ran runs again afterwards, and so does one that could not be started; one that was stopped stays
 * stopped. Errors: SNAPSHOT_NOT_FOUND, HOST_DISK_FULL, HOST_IO_FAILED and the signal's reason, when nothing has changed;
 * those of a start, when it is reset and stopped; WORKSPACE_FAILED for one that nothing mends. One that cannot be finished
 * just now is `failed` and says so.
 */
export async function reset(
  parts: ResetParts,
  { snapshotName, requestId }: ResetRequest,
  progress: Progress,
  signal: AbortSignal,
): Promise<void> {
  const { ledger, life, snapshots } = parts;
  signal.throwIfAborted();
  const { directory } = ledger;
  const { record } = ledger;
  const mends = record.image !== null && [START_STAGE, STAGE].includes(record.failure?.stage ?? "");
  if (record.state === "failed" && !mends) throw failedError(record);
  const isDone = requestId !== undefined && record.last_reset_request === requestId;
  if (!isDone) {
    // What looks at the old disk would show it as the new one.
    await life.takeDisk();
    const source = snapshots.source(snapshotName);
    // One that an earlier call could not finish.
    if (record.resetting !== null) await finishWith(parts);
    const { nextDisk } = layoutOf(directory);
    await rm(nextDisk, { force: true });
    // It is to be started on the new disk.
    await life.checkRoom();
    progress({ stage: "copy", message: "Making the disk", fraction: null });
    await makeDisk(source, nextDisk, record.disk_mib, signal);
    try {
      signal.throwIfAborted();
      const resetting = { snapshot_name: snapshotName, request_id: requestId ?? null };
      await ledger.save({ resetting }, { durable: true });
    } catch (error) {
      await rm(nextDisk, { force: true }).catch(() => {});
      throw error;
    }
    await finishWith(parts);
  }
  // Whoever asked and has gone finds it as it is; it is started in any case.
  if (record.state === "stopped" && !isDone) return;
  if (ledger.record.state === "stopped" && ledger.record.stop_reason !== "stopped") await life.startInTurn(progress);
}

/** From here on it cannot be undone. */
async function finishWith(parts: ResetParts): Promise<void> {
  const { ledger, life } = parts;
  const { workspace_id } = ledger.record;
  try {
    await life.kill();
    const hint = "Everything that ran in it has ended; begin anew.";
    await parts.empty(new PyroError("MICROVM_LOST", `The workspace ${workspace_id} was reset.`, { hint }));
    await ledger.save(await finishReset(ledger), { durable: true });
    await parts.refill();
  } catch (thrown) {
    const { message } = PyroError.from(thrown);
    const told = `It could not be reset to the end: ${message} Resetting it again does that, and so does the next daemon.`;
    ledger.note({
      state: "failed",
      stop_reason: null,
      machine_id: null,
      failure: { stage: STAGE, message: told, console_tail: "" },
    });
    await ledger.save({}, { durable: true }).catch(() => {});
    throw thrown;
  }
}

/**
 * Does on disk what the record says is to be done, as often as it takes; gives what the record has to say then. Its
 * microVM must have ended. Errors: the system's.
 */
export async function finishReset({ directory, record }: Ledger): Promise<Partial<StoredWorkspace>> {
  const layout = layoutOf(directory);
  for (const place of [layout.commands, layout.shells, layout.services]) {
    await rm(place, { recursive: true, force: true });
  }
  await mkdir(layout.commands, { mode: 0o700 });
  // Where it is not there any more, it is in its place already.
  if (await isThere(layout.nextDisk)) await rename(layout.nextDisk, layout.disk);
  await syncPath(directory);
  const asked = record.state === "stopped" && record.stop_reason !== null;
  return {
    resetting: null,
    reset_count: record.reset_count + 1,
    last_reset_at: new Date().toISOString(),
    last_reset_request: record.resetting?.request_id ?? null,
    exchanges: undefined,
    state: "stopped",
    // The next operation starts one that ran.
    stop_reason: asked ? record.stop_reason : "lost",
    machine_id: null,
    failure: null,
  };
}
