// A workspace as a person holds it: the same calls as Pyro's, with its id filled in, and what is deleted with it.
import { shareCalls } from "./calls.ts";
import { diskCalls, type WorkspaceDisk } from "./disk.ts";
import { fileCalls, patchCalls, type WorkspaceFiles, type WorkspacePatches } from "./files.ts";
import type { Process } from "./process.ts";
import type { Pyro } from "./pyro.ts";
import { Service } from "./service.ts";
import { shellsOf, type WorkspaceShells } from "./shell.ts";
import { snapshotCalls, type WorkspaceSnapshots } from "./snapshots.ts";
import type {
  CallOptions,
  DiffEvent,
  DiffInput,
  DiffResult,
  EventOptions,
  ExecInput,
  ExecOptions,
  ExecResult,
  ExportInput,
  ExportResult,
  FollowedLogsInput,
  Listing,
  LogEntry,
  LogsInput,
  LogsPage,
  ProcessFacts,
  ProcessList,
  ProcessListInput,
  ProcessReadInput,
  ProcessReadResult,
  ProcessSignalInput,
  ProcessSignalResult,
  ProcessWaitInput,
  ProcessWaitResult,
  ProcessWriteInput,
  ProcessWriteResult,
  ServiceEvent,
  ServiceList,
  ServiceListInput,
  ServiceRecord,
  ServiceStartInput,
  SyncPushInput,
  SyncPushResult,
  WorkspaceCloneInput,
  WorkspaceDeleteResult,
  WorkspaceEvent,
  WorkspaceRecord,
  WorkspaceSummary,
  WorkspaceUpdateInput,
} from "./types.ts";

/** An input without what the handle knows. */
type OfHandle<Input> = Omit<Input, "workspaceId">;
/** The same of a call about one process: its id is an argument of its own. */
type OfProcess<Input> = Omit<Input, "workspaceId" | "processId">;

/** The calls about the processes of one workspace. */
export interface WorkspaceProcesses {
  list(input?: OfHandle<ProcessListInput>, options?: CallOptions): Listing<ProcessList, ProcessFacts>;
  read(processId: string, input?: OfProcess<ProcessReadInput>, options?: CallOptions): Promise<ProcessReadResult>;
  write(processId: string, input: OfProcess<ProcessWriteInput>, options?: CallOptions): Promise<ProcessWriteResult>;
  signal(processId: string, signal?: ProcessSignalInput["signal"], options?: CallOptions): Promise<ProcessSignalResult>;
  wait(
    processId: string,
    input?: OfProcess<ProcessWaitInput>,
    options?: EventOptions<WorkspaceEvent>,
  ): Promise<ProcessWaitResult>;
}

/** The calls about the services of one workspace. */
export interface WorkspaceServices {
  /** Resolves when it is ready. Rejects with SERVICE_FAILED when it ends before, or is not in time. */
  start(input: OfHandle<ServiceStartInput>, options?: EventOptions<ServiceEvent>): Promise<Service>;
  list(input?: OfHandle<ServiceListInput>, options?: CallOptions): Listing<ServiceList, ServiceRecord>;
  /** A handle on one that there is. Asks nothing: the first call tells whether it is there. */
  get(serviceName: string): Service;
}

export class Workspace implements AsyncDisposable {
  /** Its id, or the name that it was asked for by. */
  readonly workspaceId: string;
  /** What was known of it when it was made; undefined for a handle on one that there was. */
  readonly created: WorkspaceRecord | undefined;
  readonly process: WorkspaceProcesses;
  readonly service: WorkspaceServices;
  readonly shell: WorkspaceShells;
  readonly snapshot: WorkspaceSnapshots;
  readonly file: WorkspaceFiles;
  readonly patch: WorkspacePatches;
  readonly disk: WorkspaceDisk;
  readonly #pyro: Pyro;
  #atDispose: (() => Promise<void>) | undefined;

  /** Made by Pyro.createWorkspace and Pyro.workspace. `atDispose` deletes one that was made as ephemeral. */
  constructor(pyro: Pyro, workspaceId: string, created?: WorkspaceRecord, atDispose?: () => Promise<void>) {
    this.#pyro = pyro;
    shareCalls(this, pyro);
    this.workspaceId = workspaceId;
    this.created = created;
    this.#atDispose = atDispose;
    this.shell = shellsOf(pyro, workspaceId);
    this.snapshot = snapshotCalls(pyro, workspaceId);
    this.file = fileCalls(pyro, workspaceId);
    this.patch = patchCalls(pyro, workspaceId);
    this.disk = diskCalls(pyro, workspaceId);
    this.process = {
      list: (input, options) => pyro.listProcesses({ ...input, workspaceId }, options),
      read: (processId, input, options) => pyro.readProcess({ ...input, workspaceId, processId }, options),
      write: (processId, input, options) => pyro.writeProcess({ ...input, workspaceId, processId }, options),
      signal: (processId, signal, options) => pyro.signalProcess({ workspaceId, processId, signal }, options),
      wait: (processId, input, options) => pyro.waitProcess({ ...input, workspaceId, processId }, options),
    };
    this.service = {
      start: async (input, options) => {
        const started = await pyro.startService({ ...input, workspaceId }, options);
        return new Service(pyro, workspaceId, started.serviceName, started);
      },
      list: (input, options) => pyro.listServices({ ...input, workspaceId }, options),
      get: (serviceName) => new Service(pyro, workspaceId, serviceName),
    };
  }

  /**
   * Runs a command in it: a string is run by a shell, a list exactly as given. It starts at once; await it for the
   * result, iterate it for output as it comes. Aborting ends the command, leaving the loop does not.
   */
  exec(
    command: string | readonly string[] | Readonly<OfHandle<ExecInput>>,
    options: ExecOptions = {},
  ): Process<ExecResult> {
    const input =
      typeof command === "string" ? { command } : isVector(command) ? { command: [...command] } : { ...command };
    return this.#pyro.execWorkspace({ ...input, workspaceId: this.workspaceId }, options);
  }

  /** Brings a directory, a file or an archive of this host in: all of it arrives, or nothing does. */
  syncPush(
    source: string | OfHandle<SyncPushInput>,
    options: EventOptions<WorkspaceEvent> = {},
  ): Promise<SyncPushResult> {
    const input = typeof source === "string" ? { sourcePath: source } : source;
    return this.#pyro.syncPushWorkspace({ ...input, workspaceId: this.workspaceId }, options);
  }

  /** What was changed in it since it was created, with a patch that `git apply` takes. */
  diff(input: OfHandle<DiffInput> = {}, options: EventOptions<DiffEvent> = {}): Promise<DiffResult> {
    return this.#pyro.diffWorkspace({ ...input, workspaceId: this.workspaceId }, options);
  }

  /** Copies a file or a directory of it to a new name of this host: all of it, or nothing. */
  export(
    path: string,
    outputPath: string,
    input: Omit<OfHandle<ExportInput>, "path" | "outputPath"> = {},
    options: EventOptions<WorkspaceEvent> = {},
  ): Promise<ExportResult> {
    return this.#pyro.exportWorkspace({ ...input, workspaceId: this.workspaceId, path, outputPath }, options);
  }

  status(options: CallOptions = {}): Promise<WorkspaceRecord> {
    return this.#pyro.statusWorkspace({ workspaceId: this.workspaceId }, options);
  }

  /** What happened in it since it was created or last reset, in short. Does not start it. */
  summary(options: EventOptions<WorkspaceEvent> = {}): Promise<WorkspaceSummary> {
    return this.#pyro.summarizeWorkspace({ workspaceId: this.workspaceId }, options);
  }

  /** What was run in it, with its output; with `follow: true` also what ends later, until the loop is left. */
  logs(input: OfHandle<FollowedLogsInput>, options?: CallOptions): AsyncIterable<LogEntry>;
  logs(input?: OfHandle<LogsInput>, options?: CallOptions): Listing<LogsPage, LogEntry>;
  logs(
    input: OfHandle<LogsInput> | OfHandle<FollowedLogsInput> = {},
    options: CallOptions = {},
  ): AsyncIterable<LogEntry> {
    return this.#pyro.logsWorkspace({ ...(input as OfHandle<LogsInput>), workspaceId: this.workspaceId }, options);
  }

  update(input: OfHandle<WorkspaceUpdateInput>, options: CallOptions = {}): Promise<WorkspaceRecord> {
    return this.#pyro.updateWorkspace({ ...input, workspaceId: this.workspaceId }, options);
  }

  /** Ends what runs in it and keeps its files; only `start` starts it again. Resolves when it is stopped. */
  stop(options: EventOptions<WorkspaceEvent> = {}): Promise<WorkspaceRecord> {
    return this.#pyro.stopWorkspace({ workspaceId: this.workspaceId }, options);
  }

  /** Starts it when it is stopped, and resolves when it is ready. */
  start(options: EventOptions<WorkspaceEvent> = {}): Promise<WorkspaceRecord> {
    return this.#pyro.startWorkspace({ workspaceId: this.workspaceId }, options);
  }

  /** Puts it back to a snapshot; without one, to what it was created as. Everything since is lost. */
  reset(snapshotName?: string, options: EventOptions<WorkspaceEvent> = {}): Promise<WorkspaceRecord> {
    return this.#pyro.resetWorkspace({ workspaceId: this.workspaceId, snapshotName }, options);
  }

  /** Makes another that begins with its files, as they are now or were in a snapshot. */
  clone(input: OfHandle<WorkspaceCloneInput> = {}, options: EventOptions<WorkspaceEvent> = {}): Promise<Workspace> {
    return this.#pyro.cloneWorkspace({ ...input, workspaceId: this.workspaceId }, options);
  }

  /** Deletes it with everything in it, however it was made. */
  async delete(options: CallOptions = {}): Promise<WorkspaceDeleteResult> {
    const deleted = await this.#pyro.deleteWorkspace({ workspaceId: this.workspaceId }, options);
    this.#atDispose = undefined;
    return deleted;
  }

  /** Deletes it when it was made with `ephemeral: true` and is still there; leaves any other alone. */
  async [Symbol.asyncDispose](): Promise<void> {
    const remove = this.#atDispose;
    await remove?.();
    this.#atDispose = undefined;
  }
}

function isVector(command: readonly string[] | object): command is readonly string[] {
  return Array.isArray(command);
}
