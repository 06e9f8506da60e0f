// The client: one typed method per row of the table.
import { call } from "../client/call.ts";
import { openStream } from "../client/stream.ts";
import { whereFrom } from "../client/where.ts";
import { PyroError } from "../errors/error.ts";
import { OPERATIONS } from "../operations/table.ts";
import { Calls } from "./calls.ts";
import { toCamel } from "./case.ts";
import { emitted, listing } from "./listing.ts";
import { Process, type Run } from "./process.ts";
import { ShellView } from "./shell.ts";
import type * as t from "./types.ts";
import { Workspace } from "./workspace.ts";

/** Tries at deleting what an ephemeral create left, when no daemon answers. */
const REMOVALS = 3;
/** Most of a log in one result, bytes. */
const MOST_LOG_BYTES = 65_536;

export interface PyroOptions {
  /** Replaces the environment variable PYRO_HOME: where state is kept, and so which daemon is spoken to. */
  readonly home?: string;
}

/** A client of this user's daemon, which is started on demand. An idle one keeps nothing alive. */
export class Pyro implements AsyncDisposable {
  readonly #calls: Calls;

  constructor(options: PyroOptions = {}) {
    this.#calls = new Calls(whereFrom(process.env, options.home));
  }

  /**
   * Runs one command in a new microVM and throws the microVM away. A non-zero exit and a timeout resolve, unless
   * `check` is set. It starts at once; await it for the result, iterate it for output as it comes.
   */
  run(input: t.RunInput, options: t.RunOptions = {}): Run {
    return this.#command<t.RunResult>("run", input, options as t.ProcessOptions<t.SdkEvent<"run" | "workspace.exec">>);
  }

  /**
   * Makes a workspace, and resolves with a handle on it when it is ready: its seed is in, its microVM runs. With
   * `ephemeral` it is deleted when the handle is disposed of, and nothing stays of one that could not be finished.
   */
  createWorkspace(input: t.WorkspaceCreateInput = {}, options: t.EventOptions<t.WorkspaceEvent> = {}) {
    const made = this.#create(input, options);
    this.#calls.track(made);
    return made;
  }

  /** A handle on a workspace that there is, by id or name. Asks nothing: the first call tells whether it is there. */
  workspace(idOrName: string): Workspace {
    return new Workspace(this, idOrName);
  }

  /** Lists workspaces, the oldest first. */
  listWorkspaces(
    input: t.WorkspaceListInput = {},
    options: t.CallOptions = {},
  ): t.Listing<t.WorkspaceList, t.WorkspaceRecord> {
    const page = (cursor?: string) => this.#calls.call("workspace.list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ workspaces }) => workspaces);
  }

  /** Shows all that is known of a workspace. */
  statusWorkspace(input: t.WorkspaceStatusInput, options: t.CallOptions = {}): Promise<t.WorkspaceRecord> {
    return this.#calls.call("workspace.status", input, options);
  }

  /** Changes a workspace's name, labels or time to live. */
  updateWorkspace(input: t.WorkspaceUpdateInput, options: t.CallOptions = {}): Promise<t.WorkspaceRecord> {
    return this.#calls.call("workspace.update", input, options);
  }

  /** Deletes a workspace with everything in it. */
  deleteWorkspace(input: t.WorkspaceDeleteInput, options: t.CallOptions = {}): Promise<t.WorkspaceDeleteResult> {
    return this.#calls.call("workspace.delete", input, options);
  }

  /** Brings a directory, a file or an archive of this host into a workspace: all of it arrives, or nothing does. */
  syncPushWorkspace(input: t.SyncPushInput, options: t.EventOptions<t.WorkspaceEvent> = {}): Promise<t.SyncPushResult> {
    return this.#calls.stream("workspace.sync_push", input, options);
  }

  /**
   * Runs a command in a workspace. A non-zero exit and a timeout resolve, unless `check` is set. It starts at once; await
   * it for the result, iterate it for output as it comes. Aborting ends the command; with `detach` it resolves as soon as
   * the command runs.
   */
  execWorkspace(input: t.ExecInput, options: t.ExecOptions = {}): Process<t.ExecResult> {
    const given = options as t.ProcessOptions<t.SdkEvent<"run" | "workspace.exec">>;
    return this.#command<t.ExecResult>("workspace.exec", input, given);
  }

  /**
   * The commands of a workspace with their output. With `follow: true` a loop over them that goes on with what ends
   * later, until it is left; else a page, as other lists.
   */
  logsWorkspace(input: t.FollowedLogsInput, options?: t.CallOptions): AsyncIterable<t.LogEntry>;
  logsWorkspace(input: t.LogsInput, options?: t.CallOptions): t.Listing<t.LogsPage, t.LogEntry>;
  logsWorkspace(
    input: t.LogsInput | t.FollowedLogsInput,
    options: t.CallOptions = {},
  ): AsyncIterable<t.LogEntry> | t.Listing<t.LogsPage, t.LogEntry> {
    if (input.follow) return this.#followLogs(input, options);
    const page = (cursor?: string) => this.#calls.stream("workspace.logs", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ entries }) => entries);
  }

  /** Lists what is in a directory of a workspace, in the order of names; with `recursive` also what is below. */
  listWorkspaceFiles(input: t.FileListInput, options: t.CallOptions = {}): t.Listing<t.FileList, t.FileFacts> {
    const page = (cursor?: string) => this.#calls.call("workspace.file_list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ entries }) => entries);
  }

  /** Reads a file of a workspace, or a part of it: at most 65,536 bytes unless `maxBytes` says otherwise. */
  readWorkspaceFile(input: t.FileReadInput, options: t.CallOptions = {}): Promise<t.FileReadResult> {
    return this.#calls.call("workspace.file_read", input, options);
  }

  /** Writes a file of a workspace, whole. */
  writeWorkspaceFile(input: t.FileWriteInput, options: t.CallOptions = {}): Promise<t.FileWriteResult> {
    return this.#calls.call("workspace.file_write", input, options);
  }

  /** Replaces a text in a file of a workspace: the one place where it is, or with `all` everywhere. */
  editWorkspaceFile(input: t.FileEditInput, options: t.CallOptions = {}): Promise<t.FileEditResult> {
    return this.#calls.call("workspace.file_edit", input, options);
  }

  /** Applies a unified or git patch to the files of a workspace: all of it, or nothing. */
  applyWorkspacePatch(input: t.PatchApplyInput, options: t.CallOptions = {}): Promise<t.PatchApplyResult> {
    return this.#calls.call("workspace.patch_apply", input, options);
  }

  /**
   * What was changed in a workspace since it was created, with a patch that `git apply` takes: in the result as far as 64 MiB,
   * or with `outputPath` in a new file of this host. `onEvent` is told each change as it comes.
   */
  diffWorkspace(input: t.DiffInput, options: t.EventOptions<t.DiffEvent> = {}): Promise<t.DiffResult> {
    return this.#calls.takeOut("workspace.diff", input, options);
  }

  /** Copies a file or a directory of a workspace to a new name of this host: all of it, or nothing. */
  exportWorkspace(input: t.ExportInput, options: t.EventOptions<t.WorkspaceEvent> = {}): Promise<t.ExportResult> {
    return this.#calls.takeOut("workspace.export", input, options);
  }

  /** Lists the processes of a workspace that run, or all of them. */
  listProcesses(input: t.ProcessListInput, options: t.CallOptions = {}): t.Listing<t.ProcessList, t.ProcessFacts> {
    const page = (cursor?: string) => this.#calls.call("process.list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ processes }) => processes);
  }

  /** Reads what a process printed, from a cursor on. */
  readProcess(input: t.ProcessReadInput, options: t.CallOptions = {}): Promise<t.ProcessReadResult> {
    return this.#calls.call("process.read", input, options);
  }

  /** Writes to the stdin of a process of a workspace. */
  writeProcess(input: t.ProcessWriteInput, options: t.CallOptions = {}): Promise<t.ProcessWriteResult> {
    return this.#calls.call("process.write", input, options);
  }

  /** Sends a signal to a process of a workspace. */
  signalProcess(input: t.ProcessSignalInput, options: t.CallOptions = {}): Promise<t.ProcessSignalResult> {
    const { signal } = input;
    const word = typeof signal === "number" ? String(signal) : signal;
    return this.#calls.call("process.signal", { ...input, signal: word }, options);
  }

  /** Waits until a process of a workspace has ended. */
  waitProcess(input: t.ProcessWaitInput, options: t.EventOptions<t.WorkspaceEvent> = {}): Promise<t.ProcessWaitResult> {
    return this.#calls.stream("process.wait", input, options);
  }

  /**
   * Starts a service in a workspace, and resolves when it is ready. Rejects with SERVICE_FAILED when it is not in time, or
   * ends before: details hold its record and the end of its log. Aborting ends it.
   */
  startService(input: t.ServiceStartInput, options: t.EventOptions<t.ServiceEvent> = {}): Promise<t.ServiceRecord> {
    return this.#calls.stream("service.start", input, options);
  }

  /** Lists the services of a workspace, by name. */
  listServices(input: t.ServiceListInput, options: t.CallOptions = {}): t.Listing<t.ServiceList, t.ServiceRecord> {
    const page = (cursor?: string) => this.#calls.call("service.list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ services }) => services);
  }

  /** Shows all that is known of a service. */
  statusService(input: t.ServiceStatusInput, options: t.CallOptions = {}): Promise<t.ServiceRecord> {
    return this.#calls.call("service.status", input, options);
  }

  /** Ends a service with all that it started, and resolves when it has ended; one that had ended stays as it is. */
  stopService(input: t.ServiceStopInput, options: t.EventOptions<t.ServiceEvent> = {}): Promise<t.ServiceRecord> {
    return this.#calls.stream("service.stop", input, options);
  }

  /**
   * What a service printed, from its last lines or from a cursor on. With `follow: true` a loop over it as it comes, until
   * the service ends or the loop is left.
   */
  logsService(input: t.FollowedServiceLogsInput, options?: t.CallOptions): AsyncIterable<t.OutputChunk>;
  logsService(input: t.ServiceLogsInput, options?: t.CallOptions): Promise<t.ServiceLogsResult>;
  logsService(
    input: t.ServiceLogsInput | t.FollowedServiceLogsInput,
    options: t.CallOptions = {},
  ): AsyncIterable<t.OutputChunk> | Promise<t.ServiceLogsResult> {
    const tail = typeof input.tail === "number" ? String(input.tail) : input.tail;
    if (input.follow) return this.#followService({ ...input, tail }, options);
    return this.#calls.stream("service.logs", { maxBytes: MOST_LOG_BYTES, ...input, tail }, options);
  }

  /** Opens a shell in a workspace: a terminal that stays open until it is closed. */
  openShell(input: t.ShellOpenInput, options: t.EventOptions<t.WorkspaceEvent> = {}): Promise<t.ShellRecord> {
    return this.#calls.stream("shell.open", input, options);
  }

  /** Lists the shells of a workspace that run, or all of them. */
  listShells(input: t.ShellListInput, options: t.CallOptions = {}): t.Listing<t.ShellList, t.ShellFacts> {
    const page = (cursor?: string) => this.#calls.call("shell.list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ shells }) => shells);
  }

  /** Reads what a shell printed, from a cursor on, or what its terminal shows. */
  readShell(input: t.ShellReadInput, options: t.CallOptions = {}): Promise<t.ShellReadResult> {
    return this.#calls.call("shell.read", input, options);
  }

  /** Types into a shell. */
  writeShell(input: t.ShellWriteInput, options: t.CallOptions = {}): Promise<t.ShellWriteResult> {
    return this.#calls.call("shell.write", input, options);
  }

  /** Sends a signal to what runs in a shell. */
  signalShell(input: t.ShellSignalInput, options: t.CallOptions = {}): Promise<t.ShellSignalResult> {
    return this.#calls.call("shell.signal", input, options);
  }

  /** Changes the size of a shell's terminal. */
  resizeShell(input: t.ShellResizeInput, options: t.CallOptions = {}): Promise<t.ShellRecord> {
    return this.#calls.call("shell.resize", input, options);
  }

  /** Closes a shell and ends all that was started in it. */
  closeShell(input: t.ShellCloseInput, options: t.CallOptions = {}): Promise<t.ShellRecord> {
    return this.#calls.call("shell.close", input, options);
  }

  /** A live view of a shell, or of a new one when none is named. Aborting detaches; the shell goes on. */
  attachShell(input: t.ShellAttachInput, options: t.ShellAttachOptions = {}): ShellView {
    const { size, onEvent, ...rest } = options;
    const view = new ShellView(async (calls) => {
      const signal = this.#calls.signal(rest);
      const stream = openStream(this.#calls.where, "shell.attach", this.#calls.checked("shell.attach", input), {
        stdin: true,
        ...(size === undefined ? {} : { terminal: { columns: size.cols, rows: size.rows } }),
        onEvent: async (event) => {
          if (event.type === "attached") calls.attached(event.shell_id);
          else if (event.type === "redraw") await calls.print(Buffer.from(event.text));
          else onEvent?.(toCamel(OPERATIONS["workspace.create"].events, event) as t.WorkspaceEvent);
        },
        onOutput: (_stream, data) => calls.print(Uint8Array.from(data)),
      });
      // Aborting leaves it, as a terminal that is closed does.
      const leave = () => stream.leave(signal.reason);
      if (signal.aborted) leave();
      signal.addEventListener("abort", leave, { once: true });
      stream.result.catch(() => {}).finally(() => signal.removeEventListener("abort", leave));
      return stream;
    });
    this.#calls.track(view.ended);
    return view;
  }

  /** Lists the environments there are, and which are installed. */
  listEnvironments(
    input: t.EnvironmentListInput = {},
    options: t.CallOptions = {},
  ): t.Listing<t.EnvironmentList, t.Environment> {
    const page = (cursor?: string) => this.#calls.call("env.list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ environments }) => environments);
  }

  /** Builds or fetches an environment, so that the first start does not wait for it. */
  pullEnvironment(
    input: t.EnvironmentPullInput,
    options: t.EventOptions<t.EnvironmentEvent> = {},
  ): Promise<t.Environment> {
    return this.#calls.stream("env.pull", input, options);
  }

  /** Shows all that is known of an environment. */
  inspectEnvironment(input: t.EnvironmentInspectInput, options: t.CallOptions = {}): Promise<t.EnvironmentDetails> {
    return this.#calls.call("env.inspect", input, options);
  }

  /** Removes images, kernels and logs that nothing needs any more; what is in use stays. */
  pruneEnvironments(
    input: t.EnvironmentPruneInput = {},
    options: t.CallOptions = {},
  ): Promise<t.EnvironmentPruneResult> {
    return this.#calls.call("env.prune", input, options);
  }

  /** Checks this host: what pyro found, what it will use, and how to get better. */
  doctor(input: t.DoctorInput = {}, options: t.EventOptions<t.DoctorEvent> = {}): Promise<t.DoctorReport> {
    return this.#calls.stream("doctor", input, options);
  }

  /** Ends what this client started and still waits for. The daemon goes on, and so do workspaces. */
  async close(): Promise<void> {
    await this.#calls.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #command<Result extends t.RunResult | t.ExecResult>(
    operation: "run" | "workspace.exec",
    input: unknown,
    options: t.ProcessOptions<t.SdkEvent<"run" | "workspace.exec">>,
  ): Process<Result> {
    const checked = () => this.#calls.checked(operation, input);
    const begun = new Process<Result>(
      { where: this.#calls.where, operation, checked },
      { ...options, signal: this.#calls.signal(options) },
    );
    this.#calls.track(begun.settled);
    return begun;
  }

  async #create(
    { ephemeral = false, ...input }: t.WorkspaceCreateInput,
    { onEvent, ...options }: t.EventOptions<t.WorkspaceEvent>,
  ): Promise<Workspace> {
    const signal = this.#calls.signal(options);
    const stream = await this.#calls.open("workspace.create", input, { onEvent, signal });
    try {
      const record = toCamel(OPERATIONS["workspace.create"].output, await stream.result) as t.WorkspaceRecord;
      const { workspaceId } = record;
      return new Workspace(this, workspaceId, record, ephemeral ? () => this.#remove(workspaceId) : undefined);
    } catch (thrown) {
      // The client chose the id, so what was begun can be found although no answer came.
      if (ephemeral && stream.id !== undefined) await this.#remove(stream.id).catch(() => {});
      throw thrown;
    }
  }

  /** Deletes a workspace that may be gone already, also of a client that was closed. */
  async #remove(workspaceId: string): Promise<void> {
    for (let left = REMOVALS - 1; ; left--) {
      try {
        await call(this.#calls.where, "workspace.delete", { workspace_id: workspaceId });
        return;
      } catch (thrown) {
        const { code } = PyroError.from(thrown);
        if (code === "WORKSPACE_NOT_FOUND") return;
        if (code !== "DAEMON_UNREACHABLE" || left === 0) throw thrown;
      }
    }
  }

  #followLogs(input: t.FollowedLogsInput, options: t.CallOptions): AsyncIterable<t.LogEntry> {
    return emitted<t.LogEntry>((emit, left) => {
      // A connection that broke is made again from the same cursor, and tells what was told.
      const told = new Set<number>();
      const followed = this.#calls.stream("workspace.logs", input, {
        signal: options.signal ? AbortSignal.any([options.signal, left]) : left,
        onEvent: ({ entry }) => {
          if (told.has(entry.sequence)) return;
          told.add(entry.sequence);
          return emit(entry);
        },
      });
      return followed.catch((thrown: unknown) => {
        if (!left.aborted) throw thrown;
      });
    });
  }

  #followService(input: unknown, options: t.CallOptions): AsyncIterable<t.OutputChunk> {
    return emitted<t.OutputChunk>((emit, left) => {
      const signal = AbortSignal.any([left, this.#calls.signal(options)]);
      const followed = openStream(this.#calls.where, "service.logs", this.#calls.checked("service.logs", input), {
        signal,
        onOutput: (stream, data) => emit({ stream, data: Uint8Array.from(data) }),
      }).result;
      this.#calls.track(followed);
      return followed.catch((thrown: unknown) => {
        if (!left.aborted) throw thrown;
      });
    });
  }
}
