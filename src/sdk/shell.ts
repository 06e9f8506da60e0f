// A shell as a person holds it: the same calls as Pyro's with its ids filled in, and a live view of one.
import { type Stream, toBytes } from "../client/stream.ts";
import { OPERATIONS } from "../operations/table.ts";
import { toCamel } from "./case.ts";
import { emitted } from "./listing.ts";
import type { Pyro } from "./pyro.ts";
import type {
  CallOptions,
  EventOptions,
  Listing,
  ShellAttachOptions,
  ShellFacts,
  ShellList,
  ShellListInput,
  ShellOpenInput,
  ShellReadInput,
  ShellReadResult,
  ShellRecord,
  ShellSignalInput,
  ShellSignalResult,
  ShellWriteInput,
  ShellWriteResult,
  WorkspaceEvent,
} from "./types.ts";

/** An input without what the handle knows. */
type OfWorkspace<Input> = Omit<Input, "workspaceId">;
type OfShell<Input> = Omit<Input, "workspaceId" | "shellId">;

/** The shells of one workspace. */
export interface WorkspaceShells {
  /** Opens one; `await using` closes it. */
  open(input?: OfWorkspace<ShellOpenInput>, options?: EventOptions<WorkspaceEvent>): Promise<Shell>;
  list(input?: OfWorkspace<ShellListInput>, options?: CallOptions): Listing<ShellList, ShellFacts>;
  /** A handle on one that there is. Asks nothing: the first call tells whether it is there. */
  get(shellId: string): Shell;
}

/** @internal */
export function shellsOf(pyro: Pyro, workspaceId: string): WorkspaceShells {
  return {
    open: async (input, options) => {
      const opened = await pyro.openShell({ ...input, workspaceId }, options);
      return new Shell(pyro, workspaceId, opened.shellId, opened);
    },
    list: (input, options) => pyro.listShells({ ...input, workspaceId }, options),
    get: (shellId) => new Shell(pyro, workspaceId, shellId),
  };
}

export class Shell implements AsyncDisposable {
  /** Id of its workspace, or the name that it was asked for by. */
  readonly workspaceId: string;
  readonly shellId: string;
  /** What was known of it when it was opened; undefined for a handle on one that there was. */
  readonly opened: ShellRecord | undefined;
  readonly #pyro: Pyro;

  /** @internal Made by Workspace.shell. */
  constructor(pyro: Pyro, workspaceId: string, shellId: string, opened?: ShellRecord) {
    this.#pyro = pyro;
    this.workspaceId = workspaceId;
    this.shellId = shellId;
    this.opened = opened;
  }

  /** What it printed, from a cursor on; with `screen` what its terminal shows. */
  read(input: OfShell<ShellReadInput> = {}, options: CallOptions = {}): Promise<ShellReadResult> {
    return this.#pyro.readShell({ ...input, ...this.#ids }, options);
  }

  /** Types a text, with Enter at its end unless `noNewline` is set, or presses `keys`. */
  write(input: string | OfShell<ShellWriteInput>, options: CallOptions = {}): Promise<ShellWriteResult> {
    const given = typeof input === "string" ? { input } : input;
    return this.#pyro.writeShell({ ...given, ...this.#ids }, options);
  }

  signal(signal: ShellSignalInput["signal"], options: CallOptions = {}): Promise<ShellSignalResult> {
    return this.#pyro.signalShell({ signal, ...this.#ids }, options);
  }

  resize(size: { readonly cols: number; readonly rows: number }, options: CallOptions = {}): Promise<ShellRecord> {
    return this.#pyro.resizeShell({ ...size, ...this.#ids }, options);
  }

  /** Ends it and all that was started in it. One that has ended stays as it is. */
  close(options: CallOptions = {}): Promise<ShellRecord> {
    return this.#pyro.closeShell(this.#ids, options);
  }

  attach(options: ShellAttachOptions = {}): ShellView {
    return this.#pyro.attachShell(this.#ids, options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #ids() {
    return { workspaceId: this.workspaceId, shellId: this.shellId };
  }
}

/**
 * A live view of a shell: iterate it for what a terminal has to be written, which begins with what makes it show the screen
 * as it is, and write to it what is typed. Leaving the loop detaches: the shell goes on. The loop ends with the shell.
 */
export class ShellView implements AsyncIterable<Uint8Array> {
  /** Id of the shell, as soon as it is attached to. Rejects when it never was. */
  readonly shellId: Promise<string>;
  /** How the shell ended. Rejects when it was left before. */
  readonly ended: Promise<ShellRecord>;
  readonly #stream: Promise<Stream<"shell.attach">>;
  readonly #left = new AbortController();
  readonly #output: AsyncGenerator<Uint8Array, void, undefined>;

  /** @internal Made by Pyro.attachShell. */
  constructor(begin: (calls: ShellCalls) => Promise<Stream<"shell.attach">>) {
    const attached = Promise.withResolvers<string>();
    const ended = Promise.withResolvers<ShellRecord>();
    const begun = Promise.withResolvers<Stream<"shell.attach">>();
    this.shellId = attached.promise;
    this.ended = ended.promise;
    this.#stream = begun.promise;
    for (const promise of [attached.promise, ended.promise, begun.promise]) promise.catch(() => {});
    let emit: (data: Uint8Array) => Promise<void> = async () => {};
    const looped = Promise.withResolvers<void>();
    const calls: ShellCalls = {
      attached: (shellId) => attached.resolve(shellId),
      // Nothing is printed to nobody: it waits for the loop, and the daemon shows the screen anew when that comes late.
      print: async (data) => {
        await looped.promise;
        await emit(data);
      },
    };
    begin(calls).then(begun.resolve, begun.reject);
    const result = begun.promise.then(async (stream) => {
      this.#left.signal.addEventListener("abort", () => stream.leave(this.#left.signal.reason), { once: true });
      if (this.#left.signal.aborted) stream.leave(this.#left.signal.reason);
      return toCamel(OPERATIONS["shell.attach"].output, await stream.result) as ShellRecord;
    });
    result.then(ended.resolve, (thrown) => {
      ended.reject(thrown);
      attached.reject(thrown);
    });
    this.#output = emitted<Uint8Array>((give, left) => {
      emit = give;
      looped.resolve();
      left.addEventListener("abort", () => void this.detach(), { once: true });
      return result.catch((thrown: unknown) => {
        if (!this.#left.signal.aborted) throw thrown;
      });
    });
    this.#left.signal.addEventListener("abort", () => looped.resolve(), { once: true });
  }

  /** Types; resolves when it was handed on: false when the shell takes no more. */
  async write(data: string | Uint8Array): Promise<boolean> {
    return await (await this.#stream).write(toBytes(data));
  }

  /** The shell's terminal gets this size, whoever else looks at it. */
  async resize(size: { readonly cols: number; readonly rows: number }): Promise<void> {
    (await this.#stream).resize(size.cols, size.rows);
  }

  /** Leaves it running. Idempotent. */
  async detach(): Promise<void> {
    this.#left.abort(new Error("The shell was detached from."));
    await this.ended.catch(() => {});
  }

  [Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#output;
  }
}

/** @internal What a view is told. */
export interface ShellCalls {
  attached(shellId: string): void;
  /** A promise holds what follows back. */
  print(data: Uint8Array): Promise<void>;
}
