// The client: one typed method per row of the table.
import { call } from "../client/call.ts";
import { withUserDefaults } from "../client/settings.ts";
import { openStream, type Stream } from "../client/stream.ts";
import { withUpload } from "../client/upload.ts";
import { type Where, whereFrom } from "../client/where.ts";
import { PyroError } from "../errors/error.ts";
import { parseInput } from "../operations/check.ts";
import type { Operation } from "../operations/define.ts";
import { type EventOf, type InputOf, OPERATIONS, type OperationName } from "../operations/table.ts";
import { camelKey, toCamel, toSnake } from "./case.ts";
import { emitted, listing } from "./listing.ts";
import { Process, type Run } from "./process.ts";
import type * as t from "./types.ts";
import { Workspace } from "./workspace.ts";

/** Tries at deleting what an ephemeral create left, when no daemon answers. */
const REMOVALS = 3;

export interface PyroOptions {
  /** Replaces the environment variable PYRO_HOME: where state is kept, and so which daemon is spoken to. */
  readonly home?: string;
}

/** A client of this user's daemon, which is started on demand. An idle one keeps nothing alive. */
export class Pyro implements AsyncDisposable {
  readonly #where: Where;
  readonly #closing = new AbortController();
  readonly #running = new Set<Promise<unknown>>();

  constructor(options: PyroOptions = {}) {
    this.#where = whereFrom(process.env, options.home);
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
    this.#track(made);
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
    const page = (cursor?: string) => this.#call("workspace.list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ workspaces }) => workspaces);
  }

  /** Shows all that is known of a workspace. */
  statusWorkspace(input: t.WorkspaceStatusInput, options: t.CallOptions = {}): Promise<t.WorkspaceRecord> {
    return this.#call("workspace.status", input, options);
  }

  /** Changes a workspace's name, labels or time to live. */
  updateWorkspace(input: t.WorkspaceUpdateInput, options: t.CallOptions = {}): Promise<t.WorkspaceRecord> {
    return this.#call("workspace.update", input, options);
  }

  /** Deletes a workspace with everything in it. */
  deleteWorkspace(input: t.WorkspaceDeleteInput, options: t.CallOptions = {}): Promise<t.WorkspaceDeleteResult> {
    return this.#call("workspace.delete", input, options);
  }

  /** Brings a directory, a file or an archive of this host into a workspace: all of it arrives, or nothing does. */
  syncPushWorkspace(input: t.SyncPushInput, options: t.EventOptions<t.WorkspaceEvent> = {}): Promise<t.SyncPushResult> {
    return this.#stream("workspace.sync_push", input, options);
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
    const page = (cursor?: string) => this.#stream("workspace.logs", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ entries }) => entries);
  }

  /** Lists what is in a directory of a workspace, in the order of names; with `recursive` also what is below. */
  listWorkspaceFiles(input: t.FileListInput, options: t.CallOptions = {}): t.Listing<t.FileList, t.FileFacts> {
    const page = (cursor?: string) => this.#call("workspace.file_list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ entries }) => entries);
  }

  /** Reads a file of a workspace, or a part of it: at most 65,536 bytes unless `maxBytes` says otherwise. */
  readWorkspaceFile(input: t.FileReadInput, options: t.CallOptions = {}): Promise<t.FileReadResult> {
    return this.#call("workspace.file_read", input, options);
  }

  /** Writes a file of a workspace, whole. */
  writeWorkspaceFile(input: t.FileWriteInput, options: t.CallOptions = {}): Promise<t.FileWriteResult> {
    return this.#call("workspace.file_write", input, options);
  }

  /** Replaces a text in a file of a workspace: the one place where it is, or with `all` everywhere. */
  editWorkspaceFile(input: t.FileEditInput, options: t.CallOptions = {}): Promise<t.FileEditResult> {
    return this.#call("workspace.file_edit", input, options);
  }

  /** Applies a unified or git patch to the files of a workspace: all of it, or nothing. */
  applyWorkspacePatch(input: t.PatchApplyInput, options: t.CallOptions = {}): Promise<t.PatchApplyResult> {
    return this.#call("workspace.patch_apply", input, options);
  }

  /** Lists the processes of a workspace that run, or all of them. */
  listProcesses(input: t.ProcessListInput, options: t.CallOptions = {}): t.Listing<t.ProcessList, t.ProcessFacts> {
    const page = (cursor?: string) => this.#call("process.list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ processes }) => processes);
  }

  /** Reads what a process printed, from a cursor on. */
  readProcess(input: t.ProcessReadInput, options: t.CallOptions = {}): Promise<t.ProcessReadResult> {
    return this.#call("process.read", input, options);
  }

  /** Writes to the stdin of a process of a workspace. */
  writeProcess(input: t.ProcessWriteInput, options: t.CallOptions = {}): Promise<t.ProcessWriteResult> {
    return this.#call("process.write", input, options);
  }

  /** Sends a signal to a process of a workspace. */
  signalProcess(input: t.ProcessSignalInput, options: t.CallOptions = {}): Promise<t.ProcessSignalResult> {
    const { signal } = input;
    const word = typeof signal === "number" ? String(signal) : signal;
    return this.#call("process.signal", { ...input, signal: word }, options);
  }

  /** Waits until a process of a workspace has ended. */
  waitProcess(input: t.ProcessWaitInput, options: t.EventOptions<t.WorkspaceEvent> = {}): Promise<t.ProcessWaitResult> {
    return this.#stream("process.wait", input, options);
  }

  /** Lists the environments there are, and which are installed. */
  listEnvironments(
    input: t.EnvironmentListInput = {},
    options: t.CallOptions = {},
  ): t.Listing<t.EnvironmentList, t.Environment> {
    const page = (cursor?: string) => this.#call("env.list", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ environments }) => environments);
  }

  /** Builds or fetches an environment, so that the first start does not wait for it. */
  pullEnvironment(
    input: t.EnvironmentPullInput,
    options: t.EventOptions<t.EnvironmentEvent> = {},
  ): Promise<t.Environment> {
    return this.#stream("env.pull", input, options);
  }

  /** Shows all that is known of an environment. */
  inspectEnvironment(input: t.EnvironmentInspectInput, options: t.CallOptions = {}): Promise<t.EnvironmentDetails> {
    return this.#call("env.inspect", input, options);
  }

  /** Removes images, kernels and logs that nothing needs any more; what is in use stays. */
  pruneEnvironments(
    input: t.EnvironmentPruneInput = {},
    options: t.CallOptions = {},
  ): Promise<t.EnvironmentPruneResult> {
    return this.#call("env.prune", input, options);
  }

  /** Checks this host: what pyro found, what it will use, and how to get better. */
  doctor(input: t.DoctorInput = {}, options: t.EventOptions<t.DoctorEvent> = {}): Promise<t.DoctorReport> {
    return this.#stream("doctor", input, options);
  }

  /** Ends what this client started and still waits for. The daemon goes on, and so do workspaces. */
  async close(): Promise<void> {
    this.#closing.abort(new PyroError("CANCELLED", "The client was closed."));
    await Promise.allSettled(this.#running);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #command<Result extends t.RunResult | t.ExecResult>(
    operation: "run" | "workspace.exec",
    input: unknown,
    options: t.ProcessOptions<t.SdkEvent<"run" | "workspace.exec">>,
  ): Process<Result> {
    const checked = () => this.#checked(operation, input);
    const begun = new Process<Result>(
      { where: this.#where, operation, checked },
      { ...options, signal: this.#signal(options) },
    );
    this.#track(begun.settled);
    return begun;
  }

  async #create(
    { ephemeral = false, ...input }: t.WorkspaceCreateInput,
    { onEvent, ...options }: t.EventOptions<t.WorkspaceEvent>,
  ): Promise<Workspace> {
    const signal = this.#signal(options);
    const stream = await this.#open("workspace.create", input, { onEvent, signal });
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
        await call(this.#where, "workspace.delete", { workspace_id: workspaceId });
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
      const followed = this.#stream("workspace.logs", input, {
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

  async #call<N extends OperationName>(name: N, input: unknown, options: t.CallOptions): Promise<t.SdkOutput<N>> {
    const answer = call(this.#where, name, this.#checked(name, input), { signal: this.#signal(options) });
    this.#track(answer);
    return toCamel(OPERATIONS[name].output, await answer) as t.SdkOutput<N>;
  }

  async #stream<N extends OperationName>(
    name: N,
    input: unknown,
    { onEvent, ...options }: Told<N>,
  ): Promise<t.SdkOutput<N>> {
    const answer = this.#open(name, input, { onEvent, signal: this.#signal(options) }).then(({ result }) => result);
    this.#track(answer);
    return toCamel(OPERATIONS[name].output, await answer) as t.SdkOutput<N>;
  }

  /** Begins a streaming call, with what it sends of this host opened first. */
  async #open<N extends OperationName>(
    name: N,
    input: unknown,
    { onEvent, signal }: Told<N> & { readonly signal: AbortSignal },
  ): Promise<Stream<N>> {
    const { events }: Operation = OPERATIONS[name];
    const told = (event: EventOf<N>) => onEvent?.((events ? toCamel(events, event) : event) as t.SdkEvent<N>);
    const sent = await withUpload(name, this.#checked(name, input), { cwd: process.cwd(), signal });
    return openStream(this.#where, name, sent.input, { signal, upload: sent.upload, onEvent: told });
  }

  /** In the table's keys, checked before anything is started. Errors: INVALID_INPUT in the caller's own keys. */
  #checked<N extends OperationName>(name: N, input: unknown): InputOf<N> {
    const row: Operation = OPERATIONS[name];
    const omit = "method" in row.sdk ? (row.sdk.omit ?? []) : [];
    const given = withUserDefaults(name, toSnake(row.input, input), this.#where.environment);
    const allowed = { ...row, name: "method" in row.sdk ? row.sdk.method : name, input: without(row.input, omit) };
    // Only what the row has was turned into its keys; anything else is named as it was written.
    const label = (key: string) => (Object.hasOwn(row.input.shape, key) ? camelKey(key) : key);
    return parseInput(allowed, given, label) as InputOf<N>;
  }

  #signal(options: t.CallOptions): AbortSignal {
    return options.signal ? AbortSignal.any([options.signal, this.#closing.signal]) : this.#closing.signal;
  }

  #track(call: Promise<unknown>): void {
    const settled = call.then(
      () => {},
      () => {},
    );
    this.#running.add(settled);
    void settled.then(() => this.#running.delete(settled));
  }
}

interface Told<N extends OperationName> extends t.CallOptions {
  readonly onEvent?: ((event: t.SdkEvent<N>) => void | Promise<void>) | undefined;
}

function without(schema: Operation["input"], keys: readonly string[]): Operation["input"] {
  const mask: Record<string, true> = Object.fromEntries(keys.map((key) => [key, true]));
  return keys.length === 0 ? schema : schema.omit(mask as Parameters<typeof schema.omit>[0]);
}
