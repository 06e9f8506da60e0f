// What became of a workspace, for a person.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { shellWord } from "../shell-words.ts";
import type { Shown } from "./view.ts";
import { workspaceCreateView } from "./workspace.ts";

type Workspace = OutputOf<"workspace.status">;

export function workspaceStopView(workspace: Workspace): Shown {
  return {
    stdout: `${named(workspace)} is ${workspace.state}\n`,
    note: `pyro: its files are kept; pyro workspace start ${word(workspace)} starts it again`,
  };
}

export function workspaceStartView(workspace: Workspace): Shown {
  return { stdout: `${named(workspace)} is ${workspace.state}\n` };
}

export function workspaceResetView(workspace: Workspace): Shown {
  return { stdout: `${named(workspace)} is reset and ${workspace.state}\n` };
}

export function workspaceCloneView(workspace: Workspace): Shown {
  return workspaceCreateView(workspace);
}

function named({ name, workspace_id }: Workspace): string {
  return printable(name ?? workspace_id);
}

function word({ name, workspace_id }: Workspace): string {
  return shellWord(name ?? workspace_id);
}
