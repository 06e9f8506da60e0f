// Rows about snapshots: the writable disk of a workspace as it stood at a moment, kept under a name.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent } from "./environment.ts";
import * as f from "./fields.ts";
import { WORKSPACE_ERRORS } from "./workspace.ts";

/** What every workspace has from its beginning; nobody can make or delete one of this name. */
export const BASELINE = "baseline";
export const SNAPSHOT_NAME_PATTERN = /^(?!baseline$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

const snapshotName = z
  .string()
  .regex(
    SNAPSHOT_NAME_PATTERN,
    "a snapshot's name has 1 to 64 letters, digits, dots, underscores and dashes, begins with a letter or digit, and is not `baseline`, which every workspace has",
  )
  .describe("The name of the snapshot, unique in its workspace");

/** Names one that there is. */
export const anySnapshot = z.string().min(1).max(64).describe("The name of a snapshot, or `baseline`");

/** What is known of a snapshot. */
const snapshotRecord = {
  snapshot_name: z.string(),
  kind: z.enum(["baseline", "named"]).describe("baseline: the workspace as it was created"),
  created_at: f.timestamp,
  bytes: z
    .int()
    .describe("Bytes of the host's disk that it holds; those that it shares with others are counted with each of them"),
} as const;

const ofWorkspace = { workspace_id: f.workspaceId } as const;

export const snapshotCreate = defineOperation({
  name: "snapshot.create",
  summary: "Keep the disk of a workspace as it stands now, under a name",
  input: z.object({ ...ofWorkspace, snapshot_name: snapshotName, wait_seconds: f.waitSeconds.optional() }),
  output: z.object({ workspace_id: z.string(), ...snapshotRecord }),
  errors: [...WORKSPACE_ERRORS, "SNAPSHOT_EXISTS", "LIMIT_EXCEEDED", "MICROVM_LOST", "GUEST_UNRESPONSIVE"],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped"],
  profiles: ["workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "snapshot", "create"],
    positional: ["workspace_id", "snapshot_name"],
    omit: ["wait_seconds"],
    examples: ["pyro workspace snapshot create fix-tests before-upgrade"],
  },
  mcp: {
    tool: "snapshot_create",
    title: "Keep a snapshot",
    description:
      "Use this before you try something that may break a workspace: it keeps everything that was written to its disk, files in " +
      "/workspace and installed packages alike, under a name, and workspace_reset with snapshot_name comes back to it. What runs " +
      "goes on; memory and processes are not kept. Only files that are saved by then are in it.",
  },
  sdk: { method: "createSnapshot", omit: ["wait_seconds"] },
});

export const snapshotList = defineOperation({
  name: "snapshot.list",
  summary: "List the snapshots of a workspace, the baseline first, then from the oldest",
  input: z.object({ ...ofWorkspace, limit: f.listLimit, cursor: f.cursor.optional() }),
  output: z.object({
    workspace_id: z.string(),
    snapshots: z.array(z.object(snapshotRecord)),
    next_cursor: z.string().nullable(),
  }),
  errors: ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "WORKSPACE_FAILED", "CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "snapshot", "list"],
    positional: ["workspace_id"],
    examples: ["pyro workspace snapshot list fix-tests"],
  },
  mcp: {
    tool: "snapshot_list",
    title: "List a workspace's snapshots",
    description: "Use this to see what workspace_reset and workspace_clone can go back to. `baseline` is always there.",
  },
  sdk: { method: "listSnapshots" },
});

export const snapshotDelete = defineOperation({
  name: "snapshot.delete",
  summary: "Delete a snapshot of a workspace",
  input: z.object({ ...ofWorkspace, snapshot_name: snapshotName }),
  output: z.object({ workspace_id: z.string(), snapshot_name: z.string(), deleted: z.boolean() }),
  errors: ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "WORKSPACE_FAILED", "SNAPSHOT_NOT_FOUND"],
  effect: { readOnly: false, destructive: true, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "snapshot", "delete"],
    positional: ["workspace_id", "snapshot_name"],
    examples: ["pyro workspace snapshot delete fix-tests before-upgrade"],
  },
  mcp: {
    tool: "snapshot_delete",
    title: "Delete a snapshot",
    description:
      "Use this when a snapshot is not needed any more. The workspace, and workspaces that were cloned from it, stay as they are.",
  },
  sdk: { method: "deleteSnapshot" },
});
