// What a view is, and the one for each row: how an output reads for a person.
import type { OperationName, OutputOf } from "../../operations/table.ts";
import type { Context } from "../context.ts";
import { diskExportView } from "./disk.ts";
import { doctorView } from "./doctor.ts";
import { envInspectView, envListView, envPruneView, envPullView } from "./environment.ts";
import { fileChangedView, fileListView, fileReadView, patchView } from "./file.ts";
import { workspaceCloneView, workspaceResetView, workspaceStartView, workspaceStopView } from "./lifecycle.ts";
import { logsView } from "./logs.ts";
import { networkLogView, networkSetView, secretSetView } from "./network.ts";
import { diffView, exportView } from "./outgoing.ts";
import {
  execView,
  processListView,
  processReadView,
  processSignalView,
  processWaitView,
  processWriteView,
  runView,
} from "./process.ts";
import { serviceListView, serviceLogsView, serviceStartView, serviceStatusView, serviceStopView } from "./service.ts";
import {
  shellAttachView,
  shellCloseView,
  shellListView,
  shellOpenView,
  shellReadView,
  shellResizeView,
  shellSignalView,
  shellWriteView,
} from "./shell.ts";
import { snapshotCreateView, snapshotDeleteView, snapshotListView } from "./snapshot.ts";
import { summaryView } from "./summary.ts";
import {
  syncPushView,
  workspaceCreateView,
  workspaceDeleteView,
  workspaceListView,
  workspaceStatusView,
  workspaceUpdateView,
} from "./workspace.ts";

/** What goes where. Notes are left out with --quiet. */
export interface Shown {
  readonly stdout?: string | Uint8Array;
  readonly stderr?: string | Uint8Array;
  readonly note?: string;
  /** Exit status, where an answer is not simply 0. */
  readonly status?: number;
}

export type View<N extends OperationName> = (output: OutputOf<N>, context: Context) => Shown;

export const VIEWS: { readonly [N in OperationName]: View<N> } = {
  run: runView,
  "process.read": processReadView,
  "workspace.create": workspaceCreateView,
  "workspace.list": workspaceListView,
  "workspace.status": workspaceStatusView,
  "workspace.update": workspaceUpdateView,
  "workspace.delete": workspaceDeleteView,
  "workspace.stop": workspaceStopView,
  "workspace.start": workspaceStartView,
  "workspace.reset": workspaceResetView,
  "workspace.clone": workspaceCloneView,
  "workspace.sync_push": syncPushView,
  "workspace.exec": execView,
  "workspace.logs": logsView,
  "workspace.summary": summaryView,
  "workspace.file_list": fileListView,
  "workspace.file_read": fileReadView,
  "workspace.file_write": fileChangedView,
  "workspace.file_edit": fileChangedView,
  "workspace.patch_apply": patchView,
  "workspace.diff": diffView,
  "workspace.export": exportView,
  "workspace.disk_list": fileListView,
  "workspace.disk_read": fileReadView,
  "workspace.disk_export": diskExportView,
  "process.list": processListView,
  "process.write": processWriteView,
  "process.signal": processSignalView,
  "process.wait": processWaitView,
  "service.start": serviceStartView,
  "service.list": serviceListView,
  "service.status": serviceStatusView,
  "service.stop": serviceStopView,
  "service.logs": serviceLogsView,
  "network.set": networkSetView,
  "network.log": networkLogView,
  "secret.set": secretSetView,
  "shell.open": shellOpenView,
  "shell.list": shellListView,
  "shell.read": shellReadView,
  "shell.write": shellWriteView,
  "shell.signal": shellSignalView,
  "shell.resize": shellResizeView,
  "shell.close": shellCloseView,
  "shell.attach": shellAttachView,
  "snapshot.create": snapshotCreateView,
  "snapshot.list": snapshotListView,
  "snapshot.delete": snapshotDeleteView,
  "env.list": envListView,
  "env.pull": envPullView,
  "env.inspect": envInspectView,
  "env.prune": envPruneView,
  doctor: doctorView,
};
