// Rows about the life of a workspace after its creation: stopped and started, reset to a snapshot, cloned.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent } from "./environment.ts";
import * as f from "./fields.ts";
import { anySnapshot, BASELINE } from "./snapshot.ts";
import { START_ERRORS, WORKSPACE_ERRORS, workspaceRecord } from "./workspace.ts";

export const workspaceStop = defineOperation({
  name: "workspace.stop",
  summary: "Stop a workspace, with all of its files kept, until it is started again",
  input: z.object({ workspace_id: f.workspaceId, wait_seconds: f.waitSeconds.optional() }),
  output: z.object(workspaceRecord),
  errors: [...WORKSPACE_ERRORS],
  effect: { readOnly: false, destructive: true, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped"],
  profiles: ["workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "stop"],
    positional: ["workspace_id"],
    omit: ["wait_seconds"],
    examples: ["pyro workspace stop fix-tests"],
  },
  mcp: {
    tool: "workspace_stop",
    title: "Stop a workspace",
    description:
      "Use this to free the memory of a workspace that is to be kept: what runs in it is ended, everything on its disk stays. " +
      "Nothing but workspace_start starts it again. One that is stopped already stays so.",
  },
  sdk: { method: "stopWorkspace", omit: ["wait_seconds"] },
});

export const workspaceStart = defineOperation({
  name: "workspace.start",
  summary: "Start a workspace that is stopped",
  input: z.object({ workspace_id: f.workspaceId, wait_seconds: f.waitSeconds.optional() }),
  output: z.object(workspaceRecord),
  errors: [...WORKSPACE_ERRORS, ...START_ERRORS],
  effect: { readOnly: false, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "start"],
    positional: ["workspace_id"],
    omit: ["wait_seconds"],
    examples: ["pyro workspace start fix-tests"],
  },
  mcp: {
    tool: "workspace_start",
    title: "Start a workspace",
    description:
      "Use this to start a workspace that workspace_stop has stopped: its files are as they were, /tmp is empty and nothing runs. " +
      'When the state is still "stopped" after wait_seconds it is being started: workspace_status tells when it is there.',
  },
  sdk: { method: "startWorkspace", omit: ["wait_seconds"] },
});

export const workspaceReset = defineOperation({
  name: "workspace.reset",
  summary: "Put a workspace back to a snapshot, or to what it was created as",
  input: z.object({
    workspace_id: f.workspaceId,
    snapshot_name: anySnapshot.default(BASELINE),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object(workspaceRecord),
  errors: [...WORKSPACE_ERRORS, "SNAPSHOT_NOT_FOUND", ...START_ERRORS],
  effect: { readOnly: false, destructive: true, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-core", "workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "reset"],
    positional: ["workspace_id"],
    omit: ["wait_seconds"],
    flags: { snapshot_name: "--snapshot <name>" },
    examples: ["pyro workspace reset fix-tests", "pyro workspace reset fix-tests --snapshot before-upgrade"],
  },
  mcp: {
    tool: "workspace_reset",
    title: "Reset a workspace",
    description:
      "Use this to begin anew in a workspace: its whole disk is what it was at its creation (or in the snapshot that is named), " +
      "files in /workspace and installed packages alike; /tmp is empty, and processes, shells, services and the history of commands " +
      "are gone. Its id, name, labels and what its changes are compared with stay. Everything since is lost.",
  },
  sdk: { method: "resetWorkspace", omit: ["wait_seconds"] },
});

export const workspaceClone = defineOperation({
  name: "workspace.clone",
  summary: "Make a new workspace of another as it stands now, or of one of its snapshots",
  input: z.object({
    workspace_id: f.workspaceId,
    snapshot_name: anySnapshot
      .describe("Begin with this snapshot, or `baseline`; without it, with what is there now")
      .optional(),
    name: f.workspaceName.optional(),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object(workspaceRecord),
  errors: [...WORKSPACE_ERRORS, "WORKSPACE_NAME_TAKEN", "SNAPSHOT_NOT_FOUND", ...START_ERRORS],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped"],
  profiles: ["workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "clone"],
    positional: ["workspace_id"],
    omit: ["wait_seconds"],
    flags: { snapshot_name: "--snapshot <name>" },
    idOnly: "workspace_id",
    examples: [
      "pyro workspace clone fix-tests --name try-two",
      "pyro workspace clone fix-tests --snapshot before-upgrade",
    ],
  },
  mcp: {
    tool: "workspace_clone",
    title: "Clone a workspace",
    description:
      "Use this to try two ways from one point: the new workspace begins with the files of another as they are now, or with one of " +
      "its snapshots; the other goes on undisturbed. It has an id of its own. Processes, secrets and snapshots are not copied; its " +
      "changes are compared with what the other's are compared with.",
  },
  sdk: { method: "cloneWorkspace", omit: ["wait_seconds"] },
});
