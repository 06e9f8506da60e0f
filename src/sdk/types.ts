// The types of the SDK, all derived from the operation table.
import type { EventOf, InputOf, OPERATIONS, OperationName, OutputOf } from "../operations/table.ts";
import type { Camel } from "./case.ts";

type Omitted<N extends OperationName> = (typeof OPERATIONS)[N]["sdk"] extends { omit: readonly (infer Key)[] }
  ? Key
  : never;

export type { OperationName };
/** What a method takes. */
export type SdkInput<N extends OperationName> = Camel<Omit<InputOf<N>, Extract<Omitted<N>, keyof InputOf<N>>>>;
/** What a method resolves with. */
export type SdkOutput<N extends OperationName> = Camel<OutputOf<N>>;
/** What it tells while it runs. */
export type SdkEvent<N extends OperationName> = Camel<EventOf<N>>;

export type RunInput = SdkInput<"run">;
/** The result of a command in a microVM of its own that was awaited. */
export type RunResult = SdkOutput<"run">;
export type RunEvent = SdkEvent<"run">;

/** All that is known of a workspace. */
export type WorkspaceRecord = SdkOutput<"workspace.status">;
export type WorkspaceEvent = SdkEvent<"workspace.create">;
export type WorkspaceCreateInput = SdkInput<"workspace.create"> & {
  /** Delete it when the handle is disposed of (`await using`), or when creating it fails or is aborted midway. */
  readonly ephemeral?: boolean | undefined;
};
export type WorkspaceListInput = SdkInput<"workspace.list">;
export type WorkspaceList = SdkOutput<"workspace.list">;
export type WorkspaceStatusInput = SdkInput<"workspace.status">;
export type WorkspaceSummaryInput = SdkInput<"workspace.summary">;
export type WorkspaceSummary = SdkOutput<"workspace.summary">;
export type WorkspaceUpdateInput = SdkInput<"workspace.update">;
export type WorkspaceDeleteInput = SdkInput<"workspace.delete">;
export type WorkspaceDeleteResult = SdkOutput<"workspace.delete">;
export type WorkspaceStopInput = SdkInput<"workspace.stop">;
export type WorkspaceStartInput = SdkInput<"workspace.start">;
export type WorkspaceResetInput = SdkInput<"workspace.reset">;
export type WorkspaceCloneInput = SdkInput<"workspace.clone"> & Pick<WorkspaceCreateInput, "ephemeral">;
export type SnapshotCreateInput = SdkInput<"snapshot.create">;
/** All that is known of a snapshot that was made. */
export type SnapshotRecord = SdkOutput<"snapshot.create">;
export type SnapshotListInput = SdkInput<"snapshot.list">;
export type SnapshotList = SdkOutput<"snapshot.list">;
export type SnapshotFacts = SnapshotList["snapshots"][number];
export type SnapshotDeleteInput = SdkInput<"snapshot.delete">;
export type SnapshotDeleteResult = SdkOutput<"snapshot.delete">;
export type SyncPushInput = SdkInput<"workspace.sync_push">;
export type SyncPushResult = SdkOutput<"workspace.sync_push">;
export type ExecInput = SdkInput<"workspace.exec">;
/** The result of a command in a workspace that was awaited. */
export type ExecResult = SdkOutput<"workspace.exec">;
export type ExecEvent = SdkEvent<"workspace.exec">;
export type LogsInput = Omit<SdkInput<"workspace.logs">, "follow"> & { readonly follow?: false | undefined };
export type FollowedLogsInput = Omit<SdkInput<"workspace.logs">, "follow"> & { readonly follow: true };
export type LogsPage = SdkOutput<"workspace.logs">;
export type LogEntry = LogsPage["entries"][number];
export type NetworkSetInput = SdkInput<"network.set">;
export type NetworkSetResult = SdkOutput<"network.set">;
export type SecretSetInput = SdkInput<"secret.set">;
export type SecretSetResult = SdkOutput<"secret.set">;
export type NetworkLogInput = Omit<SdkInput<"network.log">, "follow"> & { readonly follow?: false | undefined };
export type FollowedNetworkLogInput = Omit<SdkInput<"network.log">, "follow"> & { readonly follow: true };
export type NetworkLogPage = SdkOutput<"network.log">;
export type NetworkEntry = NetworkLogPage["entries"][number];

export type FileListInput = SdkInput<"workspace.file_list">;
export type FileList = SdkOutput<"workspace.file_list">;
/** What is known of a file without its content. */
export type FileFacts = FileList["entries"][number];
export type FileReadInput = SdkInput<"workspace.file_read">;
export type FileReadResult = SdkOutput<"workspace.file_read">;
export type FileWriteInput = SdkInput<"workspace.file_write">;
export type FileWriteResult = SdkOutput<"workspace.file_write">;
export type FileEditInput = SdkInput<"workspace.file_edit">;
export type FileEditResult = SdkOutput<"workspace.file_edit">;
export type DiffInput = SdkInput<"workspace.diff">;
export type DiffResult = SdkOutput<"workspace.diff">;
export type DiffEntry = DiffResult["entries"][number];
export type DiffEvent = SdkEvent<"workspace.diff">;
export type ExportInput = SdkInput<"workspace.export">;
export type ExportResult = SdkOutput<"workspace.export">;
export type PatchApplyInput = SdkInput<"workspace.patch_apply">;
export type PatchApplyResult = SdkOutput<"workspace.patch_apply">;

export type DiskListInput = SdkInput<"workspace.disk_list">;
export type DiskList = SdkOutput<"workspace.disk_list">;
export type DiskReadInput = SdkInput<"workspace.disk_read">;
export type DiskReadResult = SdkOutput<"workspace.disk_read">;
export type DiskExportInput = SdkInput<"workspace.disk_export">;
export type DiskExportResult = SdkOutput<"workspace.disk_export">;

export type ProcessListInput = SdkInput<"process.list">;
export type ProcessList = SdkOutput<"process.list">;
/** A process without its output. */
export type ProcessFacts = ProcessList["processes"][number];
export type ProcessReadInput = SdkInput<"process.read">;
export type ProcessReadResult = SdkOutput<"process.read">;
export type ProcessWriteInput = SdkInput<"process.write">;
export type ProcessWriteResult = SdkOutput<"process.write">;
export type ProcessSignalInput = Omit<SdkInput<"process.signal">, "signal"> & {
  /** Default "TERM". */
  readonly signal?: Signal | undefined;
};
export type ProcessSignalResult = SdkOutput<"process.signal">;
export type ProcessWaitInput = SdkInput<"process.wait">;
export type ProcessWaitResult = SdkOutput<"process.wait">;

export type ServiceStartInput = SdkInput<"service.start">;
/** All that is known of a service. */
export type ServiceRecord = SdkOutput<"service.status">;
export type ServiceEvent = SdkEvent<"service.start">;
export type ServiceListInput = SdkInput<"service.list">;
export type ServiceList = SdkOutput<"service.list">;
export type ServiceStatusInput = SdkInput<"service.status">;
export type ServiceStopInput = SdkInput<"service.stop">;
type ServiceLogs = Omit<SdkInput<"service.logs">, "follow" | "tail" | "maxBytes"> & {
  /** Begin with that many of the last lines, or "all"; with a cursor it is not looked at. Default 200. */
  readonly tail?: number | "all" | undefined;
};
export type ServiceLogsInput = ServiceLogs & {
  readonly follow?: false | undefined;
  /** Most bytes of the log in the result, at most and unless said otherwise 65536. */
  readonly maxBytes?: number | undefined;
};
export type FollowedServiceLogsInput = ServiceLogs & { readonly follow: true };
export type ServiceLogsResult = SdkOutput<"service.logs">;
export type ShellOpenInput = SdkInput<"shell.open">;
/** All that is known of a shell. */
export type ShellRecord = SdkOutput<"shell.open">;
export type ShellListInput = SdkInput<"shell.list">;
export type ShellList = SdkOutput<"shell.list">;
export type ShellFacts = ShellList["shells"][number];
export type ShellReadInput = SdkInput<"shell.read">;
export type ShellReadResult = SdkOutput<"shell.read">;
export type ShellWriteInput = SdkInput<"shell.write">;
export type ShellWriteResult = SdkOutput<"shell.write">;
export type ShellSignalInput = SdkInput<"shell.signal">;
export type ShellSignalResult = SdkOutput<"shell.signal">;
export type ShellResizeInput = SdkInput<"shell.resize">;
export type ShellCloseInput = SdkInput<"shell.close">;
export type ShellAttachInput = SdkInput<"shell.attach">;
export interface ShellAttachOptions extends EventOptions<WorkspaceEvent> {
  /** Size that the shell's terminal gets; without one it keeps what it has. */
  readonly size?: { readonly cols: number; readonly rows: number };
}

export type EnvironmentListInput = SdkInput<"env.list">;
export type EnvironmentList = SdkOutput<"env.list">;
export type EnvironmentPullInput = SdkInput<"env.pull">;
export type Environment = SdkOutput<"env.pull">;
export type EnvironmentInspectInput = SdkInput<"env.inspect">;
export type EnvironmentDetails = SdkOutput<"env.inspect">;
export type EnvironmentPruneInput = SdkInput<"env.prune">;
export type EnvironmentPruneResult = SdkOutput<"env.prune">;
export type EnvironmentEvent = SdkEvent<"env.pull">;
export type DoctorInput = SdkInput<"doctor">;
export type DoctorReport = SdkOutput<"doctor">;
export type DoctorEvent = SdkEvent<"doctor">;

type SignalWord =
  | "HUP"
  | "INT"
  | "QUIT"
  | "ABRT"
  | "KILL"
  | "USR1"
  | "USR2"
  | "PIPE"
  | "ALRM"
  | "TERM"
  | "CONT"
  | "STOP"
  | "TSTP"
  | "TTIN"
  | "TTOU"
  | "WINCH";

/** A signal as Linux names it, with or without SIG, or its number. */
export type Signal = SignalWord | `SIG${SignalWord}` | number;

export interface CallOptions {
  /** Aborting rejects with the signal's reason and ends what the call started. */
  readonly signal?: AbortSignal;
}

export interface EventOptions<Event> extends CallOptions {
  /** Told of progress as it comes. */
  readonly onEvent?: (event: Event) => void;
}

export interface ProcessOptions<Event> extends EventOptions<Event> {
  /** Reject with COMMAND_FAILED (the result in details.result) unless the command exits with 0 in time. */
  readonly check?: boolean;
  /** Written to the command's stdin, which then ends. */
  readonly stdin?: string | Uint8Array;
  /** Awaiting a command ends its stdin when nothing was written by then; true keeps it open until end(). */
  readonly keepStdin?: boolean;
  /** Bytes kept of stdout and of stderr for the result; the rest is counted. Default 16 MiB each. */
  readonly collectBytes?: number;
  /** Size of the terminal, for `tty: true`. */
  readonly terminal?: { readonly columns: number; readonly rows: number };
}

export type RunOptions = ProcessOptions<RunEvent>;
export type ExecOptions = ProcessOptions<ExecEvent>;

/** A page of a list as a promise; iterated, the items of this page and of all that follow. */
export type Listing<Page, Item> = Promise<Page> & AsyncIterable<Item>;

/** A piece of output, as it came. */
export interface OutputChunk {
  readonly stream: "stdout" | "stderr";
  readonly data: Uint8Array;
}
