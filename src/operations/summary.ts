// The row that sums a workspace up: what was done in it since it was created or reset, short whatever there is to tell.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent } from "./environment.ts";
import * as f from "./fields.ts";
import { serviceRecord } from "./service.ts";
import { WORKSPACE_ERRORS, workspaceRecord } from "./workspace.ts";

/** A push into a workspace, as it is remembered. */
export const pushFacts = {
  source_path: z.string(),
  destination: z.string(),
  entry_count: z.int(),
  bytes_written: z.int(),
  pushed_at: f.timestamp,
} as const;

/** Something that was brought out of a workspace, as it is remembered. */
export const exportFacts = {
  kind: z.enum(["files", "patch", "disk"]),
  workspace_path: z.string(),
  output_path: z.string().describe("Where its client was to write it on the host"),
  bytes_written: z.int().nullable().describe("Null for a patch"),
  exported_at: f.timestamp,
} as const;

const omitted = z.int().describe("How many there are beside those in entries");

export const workspaceSummary = defineOperation({
  name: "workspace.summary",
  summary: "Sum up what happened in a workspace since it was created or last reset",
  input: z.object({ workspace_id: f.workspaceId, wait_seconds: f.waitSeconds.optional() }),
  output: z.object({
    workspace_id: z.string(),
    name: z.string().nullable(),
    state: workspaceRecord.state,
    stop_reason: workspaceRecord.stop_reason,
    since: f.timestamp.describe("When it was created, or last reset"),
    reset_count: z.int(),
    commands: z
      .object({
        total: z.int(),
        succeeded: z.int(),
        failed: z.int().describe("Exited with another status than 0, or ended by a signal or their time"),
        lost: z.int().describe("Of which nobody knows how they ended: their microVM was lost"),
        running: z.int(),
        entries: z.array(
          z.object({
            process_id: z.string(),
            command: z.array(z.string()).describe("Cut where it is long"),
            state: z.enum(["running", "exited"]),
            exit_code: z.int().nullable(),
            timed_out: z.boolean(),
            started_at: f.timestamp,
            duration_ms: z.int(),
          }),
        ),
        entries_omitted: omitted,
      })
      .describe("Those that run, then the newest, in the order in which they began"),
    changes: z
      .object({
        total: z.int(),
        added: z.int(),
        modified: z.int(),
        deleted: z.int(),
        type_changed: z.int(),
        insertions: z.int(),
        deletions: z.int(),
        directories: z
          .array(z.object({ path: z.string(), total: z.int() }))
          .describe("Where most was changed, by the first directory of each path; . is /workspace itself"),
        directories_omitted: z.int(),
      })
      .nullable()
      .describe("Of /workspace, since it was created, as a diff has them: a reset to a snapshot leaves what that has"),
    changes_left_out: z.string().nullable().describe("Why changes are null"),
    services: z
      .object({
        total: z.int(),
        running: z.int(),
        entries: z.array(
          z.object({
            service_name: z.string(),
            state: serviceRecord.state,
            exit_code: serviceRecord.exit_code,
            host_ports: z.array(z.int()).describe("Ports of the host that lead to it"),
          }),
        ),
        entries_omitted: omitted,
      })
      .describe("Those that run first"),
    shells: z
      .object({
        total: z.int(),
        open: z.int(),
        entries: z.array(z.object({ shell_id: z.string(), cwd: z.string(), started_at: f.timestamp })),
        entries_omitted: omitted,
      })
      .describe("Entries are those that are open"),
    snapshots: z
      .object({
        total: z.int().describe("The baseline is not counted"),
        entries: z.array(z.object({ snapshot_name: z.string(), created_at: f.timestamp })),
        entries_omitted: omitted,
      })
      .describe("All that it has, made before a reset or after; entries are the newest"),
    pushes: z
      .object({ total: z.int(), entries: z.array(z.object(pushFacts)), entries_omitted: omitted })
      .describe("Entries are the newest"),
    exports: z
      .object({ total: z.int(), entries: z.array(z.object(exportFacts)), entries_omitted: omitted })
      .describe("What was brought out of it; entries are the newest"),
  }),
  errors: [...WORKSPACE_ERRORS],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-core", "workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "summary"],
    positional: ["workspace_id"],
    omit: ["wait_seconds"],
    examples: ["pyro workspace summary fix-tests"],
  },
  mcp: {
    tool: "workspace_summary",
    title: "Sum up a workspace",
    description:
      "Use this to find your way back into a workspace, or to check what you did before you report it: which commands ran and how " +
      "they ended, where files were changed, what still runs, and what was kept, pushed and exported, since it was created or last " +
      "reset. It is short however much there is; workspace_logs, workspace_diff and process_read have the rest. A stopped " +
      "workspace is not started for it.",
  },
  sdk: { method: "summarizeWorkspace", omit: ["wait_seconds"] },
});
