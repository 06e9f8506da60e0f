// The client: a typed method for each row of the table. Those that answer once are in methods.ts.
import { openStream } from "../client/stream.ts";
import { whereFrom } from "../client/where.ts";
import { OPERATIONS } from "../operations/table.ts";
import { Calls, shareCalls } from "./calls.ts";
import { toCamel } from "./case.ts";
import { emitted, listing } from "./listing.ts";
import { make } from "./making.ts";
import { Methods } from "./methods.ts";
import { followedNetwork } from "./network.ts";
import { Process, type Run } from "./process.ts";
import { ShellView } from "./shell.ts";
import type * as t from "./types.ts";
import { Workspace } from "./workspace.ts";

/** Most of a log in one result, bytes. */
const MOST_LOG_BYTES = 65_536;

export interface PyroOptions {
  /** Replaces the environment variable PYRO_HOME: where state is kept, and so which daemon is spoken to. */
  readonly home?: string;
}

/** A client of this user's daemon, which is started on demand. An idle one keeps nothing alive. */
export class Pyro extends Methods implements AsyncDisposable {
  readonly #calls: Calls;

  constructor(options: PyroOptions = {}) {
    const calls = new Calls(whereFrom(process.env, options.home));
    super(calls);
    this.#calls = calls;
    shareCalls(this, calls);
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
    return this.#make("workspace.create", input, options);
  }

  /** A handle on a workspace that there is, by id or name. Asks nothing: the first call tells whether it is there. */
  workspace(idOrName: string): Workspace {
    return new Workspace(this, idOrName);
  }

  /**
   * Makes a workspace that begins with the files of another, as they are now or were in a snapshot; the other goes on. It is
   * a handle as createWorkspace gives it, `ephemeral` too.
   */
  cloneWorkspace(input: t.WorkspaceCloneInput, options: t.EventOptions<t.WorkspaceEvent> = {}) {
    return this.#make("workspace.clone", input, options);
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

  /** What a workspace's network let through and refused. With `follow: true` a loop that goes on with what comes later. */
  logNetwork(input: t.FollowedNetworkLogInput, options?: t.CallOptions): AsyncIterable<t.NetworkEntry>;
  logNetwork(input: t.NetworkLogInput, options?: t.CallOptions): t.Listing<t.NetworkLogPage, t.NetworkEntry>;
  logNetwork(
    input: t.NetworkLogInput | t.FollowedNetworkLogInput,
    options: t.CallOptions = {},
  ): AsyncIterable<t.NetworkEntry> | t.Listing<t.NetworkLogPage, t.NetworkEntry> {
    if (input.follow) return followedNetwork(this.#calls, input, options);
    const page = (cursor?: string) => this.#calls.stream("network.log", { ...input, cursor }, options);
    return listing(page, input.cursor, ({ entries }) => entries);
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

  /** Ends what this client started and still waits for. The daemon goes on, and so do workspaces. */
  async close(): Promise<void> {
    await this.#calls.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #make(
    operation: "workspace.create" | "workspace.clone",
    input: { readonly ephemeral?: boolean | undefined },
    options: t.EventOptions<t.WorkspaceEvent>,
  ): Promise<Workspace> {
    const made = make(this, this.#calls, operation, input, options);
    this.#calls.track(made);
    return made;
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
