// The rows of the table that answer once: one typed method each, which says what it takes and gives and passes it on.
import type { Calls } from "./calls.ts";
import { listing } from "./listing.ts";
import type * as t from "./types.ts";

export class Methods {
  readonly #calls: Calls;

  /** @internal */
  constructor(calls: Calls) {
    this.#calls = calls;
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

  /** Sums up what happened in a workspace since it was created or last reset; one that is stopped is not started. */
  summarizeWorkspace(
    input: t.WorkspaceSummaryInput,
    options: t.EventOptions<t.WorkspaceEvent> = {},
  ): Promise<t.WorkspaceSummary> {
    return this.#calls.stream("workspace.summary", input, options);
  }

  /** Changes a workspace's name, labels or time to live. */
  updateWorkspace(input: t.WorkspaceUpdateInput, options: t.CallOptions = {}): Promise<t.WorkspaceRecord> {
    return this.#calls.call("workspace.update", input, options);
  }

  /** Deletes a workspace with everything in it. */
  deleteWorkspace(input: t.WorkspaceDeleteInput, options: t.CallOptions = {}): Promise<t.WorkspaceDeleteResult> {
    return this.#calls.call("workspace.delete", input, options);
  }

  /** Changes which hosts a workspace may reach: those that are named, or with none every public one. */
  setNetwork(input: t.NetworkSetInput, options: t.CallOptions = {}): Promise<t.NetworkSetResult> {
    return this.#calls.call("network.set", input, options);
  }

  /** Gives brokered secrets of a workspace, those of `secretFor`, new values. */
  setSecrets(input: t.SecretSetInput, options: t.CallOptions = {}): Promise<t.SecretSetResult> {
    return this.#calls.call("secret.set", input, options);
  }

  /** Stops a workspace: what runs in it ends, its files are kept. Resolves when it is stopped. */
  stopWorkspace(
    input: t.WorkspaceStopInput,
    options: t.EventOptions<t.WorkspaceEvent> = {},
  ): Promise<t.WorkspaceRecord> {
    return this.#calls.stream("workspace.stop", input, options);
  }

  /** Starts a workspace that is stopped, and resolves when it is ready. */
  startWorkspace(
    input: t.WorkspaceStartInput,
    options: t.EventOptions<t.WorkspaceEvent> = {},
  ): Promise<t.WorkspaceRecord> {
    return this.#calls.stream("workspace.start", input, options);
  }

  /** Puts a workspace back to a snapshot, or to what it was created as. Everything since is lost. */
  resetWorkspace(
    input: t.WorkspaceResetInput,
    options: t.EventOptions<t.WorkspaceEvent> = {},
  ): Promise<t.WorkspaceRecord> {
    return this.#calls.stream("workspace.reset", input, options);
  }

  /** Keeps the disk of a workspace as it stands now, under a name; what runs in it goes on. */
  createSnapshot(
    input: t.SnapshotCreateInput,
    options: t.EventOptions<t.WorkspaceEvent> = {},
  ): Promise<t.SnapshotRecord> {
    return this.#calls.stream("snapshot.create", input, options);
  }

  /** Lists the snapshots of a workspace, the baseline first. */
  listSnapshots(input: t.SnapshotListInput, options: t.CallOptions = {}): t.Listing<t.SnapshotList, t.SnapshotFacts> {
    const page = (cursor?: string) => this.#calls.call("snapshot.list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ snapshots }) => snapshots);
  }

  /** Deletes a snapshot. The workspace stays as it is. */
  deleteSnapshot(input: t.SnapshotDeleteInput, options: t.CallOptions = {}): Promise<t.SnapshotDeleteResult> {
    return this.#calls.call("snapshot.delete", input, options);
  }

  /** Brings a directory, a file or an archive of this host into a workspace: all of it arrives, or nothing does. */
  syncPushWorkspace(input: t.SyncPushInput, options: t.EventOptions<t.WorkspaceEvent> = {}): Promise<t.SyncPushResult> {
    return this.#calls.stream("workspace.sync_push", input, options);
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

  /** Lists what is in a directory of a stopped workspace's system; with `recursive` also what is below. */
  listWorkspaceDisk(input: t.DiskListInput, options: t.CallOptions = {}): t.Listing<t.DiskList, t.FileFacts> {
    const page = (cursor?: string) => this.#calls.call("workspace.disk_list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ entries }) => entries);
  }

  /** Reads a file of a stopped workspace's system: at most 65,536 bytes unless `maxBytes` says otherwise. */
  readWorkspaceDisk(input: t.DiskReadInput, options: t.CallOptions = {}): Promise<t.DiskReadResult> {
    return this.#calls.call("workspace.disk_read", input, options);
  }

  /** Exports a stopped workspace's whole system as an ext4 image, to a file of this host that is not there yet. */
  exportWorkspaceDisk(
    input: t.DiskExportInput,
    options: t.EventOptions<t.WorkspaceEvent> = {},
  ): Promise<t.DiskExportResult> {
    return this.#calls.download("workspace.disk_export", input, options);
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
}
