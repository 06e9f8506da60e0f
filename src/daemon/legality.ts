// Whether a row may be carried out on a workspace as it is: the table says in which states, this refuses the others.
import { failedError } from "../engine/workspace/life.ts";
import { STOP_FIRST_HINT } from "../engine/workspace/stopped-disk.ts";
import { PyroError } from "../errors/error.ts";
import type { Operation, WorkspaceState } from "../operations/define.ts";
import { OPERATIONS, type OperationName } from "../operations/table.ts";

/** What of a workspace decides. */
export interface Stateful {
  readonly workspaceId: string;
  readonly state: WorkspaceState;
  readonly failure: { readonly message: string } | null;
}

/** `workspaces` finds one by id or name. Errors: WORKSPACE_STATE, WORKSPACE_FAILED; those of finding it. */
export function checkState(workspaces: { get(idOrName: string): Stateful }, name: OperationName, input: unknown): void {
  const { legalIn }: Operation = OPERATIONS[name];
  const { workspace_id: named } = Object(input) as { workspace_id?: string };
  if (legalIn.length === 0 || named === undefined) return;
  const { workspaceId, state, failure } = workspaces.get(named);
  if (legalIn.includes(state)) return;
  if (state === "failed") throw failedError({ workspace_id: workspaceId, failure });
  const is = state === "creating" ? "is being created" : `is ${state}`;
  const hint = state === "started" && legalIn.includes("stopped") ? { hint: STOP_FIRST_HINT } : {};
  throw new PyroError("WORKSPACE_STATE", `The workspace ${workspaceId} ${is}: ${name} is not possible now.`, hint);
}
