// Making a workspace and holding it: the handle on what was made, and nothing left of one that could not be finished where it
// was to go with its handle.
import { call } from "../client/call.ts";
import { PyroError } from "../errors/error.ts";
import { OPERATIONS } from "../operations/table.ts";
import type { Calls } from "./calls.ts";
import { toCamel } from "./case.ts";
import type { Pyro } from "./pyro.ts";
import type * as t from "./types.ts";
import { Workspace } from "./workspace.ts";

/** Tries at deleting what an ephemeral create left, when no daemon answers. */
const REMOVALS = 3;

export async function make(
  pyro: Pyro,
  calls: Calls,
  operation: "workspace.create" | "workspace.clone",
  { ephemeral = false, ...input }: { readonly ephemeral?: boolean | undefined },
  { onEvent, ...options }: t.EventOptions<t.WorkspaceEvent>,
): Promise<Workspace> {
  const signal = calls.signal(options);
  const stream = await calls.open(operation, input, { onEvent, signal });
  try {
    const record = toCamel(OPERATIONS[operation].output, await stream.result) as t.WorkspaceRecord;
    const { workspaceId } = record;
    return new Workspace(pyro, workspaceId, record, ephemeral ? () => remove(calls, workspaceId) : undefined);
  } catch (thrown) {
    // The client chose the id, so what was begun can be found although no answer came.
    if (ephemeral && stream.id !== undefined) await remove(calls, stream.id).catch(() => {});
    throw thrown;
  }
}

/** Deletes a workspace that may be gone already, also of a client that was closed. */
async function remove(calls: Calls, workspaceId: string): Promise<void> {
  for (let left = REMOVALS - 1; ; left--) {
    try {
      await call(calls.where, "workspace.delete", { workspace_id: workspaceId });
      return;
    } catch (thrown) {
      const { code } = PyroError.from(thrown);
      if (code === "WORKSPACE_NOT_FOUND") return;
      if (code !== "DAEMON_UNREACHABLE" || left === 0) throw thrown;
    }
  }
}
