// All rows. Every type in the faces is inferred from here.
import type { z } from "zod";
import type { Operation } from "./define.ts";
import { diskExport, diskList, diskRead } from "./disk.ts";
import { envInspect, envList, envPrune, envPull } from "./environment.ts";
import { fileEdit, fileList, fileRead, fileWrite, patchApply } from "./file.ts";
import { doctor } from "./host.ts";
import { workspaceClone, workspaceReset, workspaceStart, workspaceStop } from "./lifecycle.ts";
import { networkLog, networkSet } from "./network.ts";
import { workspaceDiff, workspaceExport } from "./outgoing.ts";
import { processList, processRead, processSignal, processWait, processWrite, run } from "./process.ts";
import { secretSet } from "./secret.ts";
import { serviceList, serviceLogs, serviceStart, serviceStatus, serviceStop } from "./service.ts";
import {
  shellAttach,
  shellClose,
  shellList,
  shellOpen,
  shellRead,
  shellResize,
  shellSignal,
  shellWrite,
} from "./shell.ts";
import { snapshotCreate, snapshotDelete, snapshotList } from "./snapshot.ts";
import { workspaceSummary } from "./summary.ts";
import {
  workspaceCreate,
  workspaceDelete,
  workspaceExec,
  workspaceList,
  workspaceLogs,
  workspaceStatus,
  workspaceSyncPush,
  workspaceUpdate,
} from "./workspace.ts";

export const OPERATIONS = {
  run,
  "workspace.create": workspaceCreate,
  "workspace.list": workspaceList,
  "workspace.status": workspaceStatus,
  "workspace.update": workspaceUpdate,
  "workspace.delete": workspaceDelete,
  "workspace.stop": workspaceStop,
  "workspace.start": workspaceStart,
  "workspace.reset": workspaceReset,
  "workspace.clone": workspaceClone,
  "workspace.sync_push": workspaceSyncPush,
  "workspace.exec": workspaceExec,
  "workspace.logs": workspaceLogs,
  "workspace.summary": workspaceSummary,
  "workspace.file_list": fileList,
  "workspace.file_read": fileRead,
  "workspace.file_write": fileWrite,
  "workspace.file_edit": fileEdit,
  "workspace.patch_apply": patchApply,
  "workspace.diff": workspaceDiff,
  "workspace.export": workspaceExport,
  "workspace.disk_list": diskList,
  "workspace.disk_read": diskRead,
  "workspace.disk_export": diskExport,
  "process.list": processList,
  "process.read": processRead,
  "process.write": processWrite,
  "process.signal": processSignal,
  "process.wait": processWait,
  "service.start": serviceStart,
  "service.list": serviceList,
  "service.status": serviceStatus,
  "service.stop": serviceStop,
  "service.logs": serviceLogs,
  "network.set": networkSet,
  "network.log": networkLog,
  "secret.set": secretSet,
  "shell.open": shellOpen,
  "shell.list": shellList,
  "shell.read": shellRead,
  "shell.write": shellWrite,
  "shell.signal": shellSignal,
  "shell.resize": shellResize,
  "shell.close": shellClose,
  "shell.attach": shellAttach,
  "snapshot.create": snapshotCreate,
  "snapshot.list": snapshotList,
  "snapshot.delete": snapshotDelete,
  "env.list": envList,
  "env.pull": envPull,
  "env.inspect": envInspect,
  "env.prune": envPrune,
  doctor,
} as const satisfies Record<string, Operation>;

export type OperationName = keyof typeof OPERATIONS;

/** What a caller gives: defaults may be left out. */
export type InputOf<N extends OperationName> = z.input<(typeof OPERATIONS)[N]["input"]>;
/** What an operation is carried out with: defaults filled in. */
export type ParsedInputOf<N extends OperationName> = z.output<(typeof OPERATIONS)[N]["input"]>;
/** What an operation answers. */
export type OutputOf<N extends OperationName> = z.output<(typeof OPERATIONS)[N]["output"]>;
/** What it tells while it runs. */
export type EventOf<N extends OperationName> = (typeof OPERATIONS)[N] extends { events: infer E extends z.ZodType }
  ? z.output<E>
  : never;
