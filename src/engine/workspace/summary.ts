// A workspace summed up: gathered from what keeps each part of it, and cut until it is short. A part that takes a guest to be
// known is left out, and that is said, when the guest does not tell it.
import { PyroError } from "../../errors/error.ts";
import type { OutputOf } from "../../operations/table.ts";
import { ChangeCounts } from "./change-counts.ts";
import type { Calling } from "./outgoing.ts";
import { type Gathered, shortest } from "./summary-size.ts";
import type { Workspace } from "./workspace.ts";

type Summary = OutputOf<"workspace.summary">;
type What = Pick<
  Workspace,
  "workspaceId" | "record" | "commands" | "services" | "shells" | "lifecycle" | "outgoing"
> & {
  readonly exchanges: Pick<Workspace["exchanges"], "stored">;
  readonly secrets: Pick<Workspace["secrets"], "redactor">;
};

/** More than are shown of anything. */
const MOST = 32;
/** All snapshots that a workspace may have, and the baseline. */
const ALL_SNAPSHOTS = 2000;

/** `waitSeconds` bounds the comparison of its files. Errors: WORKSPACE_FAILED, WORKSPACE_STATE; the signal's reason. */
export async function summarize(
  workspace: What,
  waitSeconds: number | undefined,
  { progress, signal }: Calling,
): Promise<Summary> {
  const { record, commands, services, shells, exchanges } = workspace;
  const changes = await changesOf(workspace, waitSeconds, { progress, signal });
  const { redactor } = workspace.secrets;
  const reviewed = await commands.review(MOST);
  const { shells: open } = await shells.list({ all: false, limit: MOST });
  const { snapshots } = await workspace.lifecycle.listSnapshots({ limit: ALL_SNAPSHOTS });
  const { push_count, pushes, export_count, exports } = exchanges.stored;
  const gathered: Gathered = {
    workspace_id: workspace.workspaceId,
    name: record.name,
    state: record.state,
    stop_reason: record.state === "stopped" ? record.stop_reason : null,
    since: record.last_reset_at ?? record.created_at,
    reset_count: record.reset_count,
    commands: {
      total: commands.count,
      ...reviewed.outcomes,
      running: reviewed.running,
      // Before anything of a word is cut: half a value is not found any more.
      entries: reviewed.newest.map(({ process_id, command, state, exit_code, timed_out, started_at, duration_ms }) => ({
        process_id,
        command: command.map((word) => redactor.text(word)),
        state,
        exit_code,
        timed_out,
        started_at,
        duration_ms,
      })),
    },
    ...changes,
    services: {
      total: services.count,
      running: services.running,
      entries: services.all().map(({ service_name, state, exit_code, published_ports }) => ({
        service_name,
        state,
        exit_code,
        host_ports: published_ports.map(({ host_port }) => host_port),
      })),
    },
    shells: {
      total: shells.count,
      open: shells.running,
      entries: open.map(({ shell_id, cwd, started_at }) => ({ shell_id, cwd: redactor.text(cwd), started_at })),
    },
    snapshots: {
      total: snapshots.length - 1,
      entries: snapshots
        .filter(({ kind }) => kind === "named")
        .map(({ snapshot_name, created_at }) => ({ snapshot_name, created_at })),
    },
    pushes: { total: push_count, entries: pushes },
    exports: { total: export_count, entries: exports },
  };
  return shortest(gathered);
}

async function changesOf(
  { outgoing, secrets }: What,
  waitSeconds: number | undefined,
  { progress, signal }: Calling,
): Promise<Pick<Gathered, "changes" | "changes_left_out">> {
  const counts = new ChangeCounts();
  const late = waitSeconds === undefined ? undefined : AbortSignal.timeout(waitSeconds * 1000);
  try {
    await outgoing.count(counts, { progress, signal: late === undefined ? signal : AbortSignal.any([signal, late]) });
  } catch (thrown) {
    signal.throwIfAborted();
    const why = late?.aborted ? "Comparing its files took longer than wait_seconds." : PyroError.from(thrown).message;
    return { changes: null, changes_left_out: why };
  }
  const directories = counts.directories.map(({ path, total }) => ({ path: secrets.redactor.text(path), total }));
  return { changes: { ...counts.counts, directories, untold: counts.untold }, changes_left_out: null };
}
