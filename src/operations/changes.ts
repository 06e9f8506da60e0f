// Whether an update says what is to change.

/** One that names no change was mistyped, and must not look as if it had been carried out. */
export function changesSomething({ workspace_id: _, ...changes }: object & { workspace_id: string }): boolean {
  return Object.values(changes).some((change) => change !== undefined && change !== false && !isEmpty(change));
}

function isEmpty(change: unknown): boolean {
  return typeof change === "object" && change !== null && Object.keys(change).length === 0;
}
