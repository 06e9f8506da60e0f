// All shells of one workspace: opened once each, found again by id, taken up after another daemon. They are numbered and kept
// as commands are, beside them, and are none: neither the log nor the counts of commands hold them.
import { mkdir } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { orAborted } from "../../abort/or-aborted.ts";
import { PyroError } from "../../errors/error.ts";
import { nearest } from "../../errors/nearest.ts";
import type { GuestClient } from "../../guest/client.ts";
import type { EventOf, OutputOf } from "../../operations/table.ts";
import { Terminals } from "../terminal/terminals.ts";
import type { Command } from "./command.ts";
import type { CommandHost } from "./command-host.ts";
import { Commands } from "./commands.ts";
import { Shell } from "./shell.ts";

/**
 * The image's own shell, or the first that there is, as a login shell. Which one that is only the guest can say, so a
 * shell finds it.
 */
const LOGIN = [
  "/bin/sh",
  "-c",
  'for shell in "$SHELL" /bin/bash /bin/sh; do [ -x "$shell" ] && SHELL=$shell && export SHELL && exec "$shell" -l; done',
];

/** How often the output of a shell counts as activity, at most, ms. */
const ACTIVITY_MS = 1000;

/** One for all workspaces: their terminals share a thread. */
const terminals = new Terminals();

/** What shells need of their workspace beyond what its commands do. */
export interface ShellHost extends CommandHost {
  /** It is in use until what is returned is called. */
  use(): () => void;
}

export interface OpenRequest {
  /** The caller's name for this call: the same again opens nothing. */
  readonly requestId: string | undefined;
  readonly cwd: string | undefined;
  readonly secretEnv?: readonly string[] | undefined;
  readonly cols: number;
  readonly rows: number;
  /** The caller was told of it: it is there, or lost, and never opened anew. */
  readonly mustExist?: boolean;
}

export class Shells {
  readonly #host: ShellHost;
  readonly #commands: Commands;
  /** Those that run. */
  readonly #shells = new Map<Command, Promise<Shell>>();

  private constructor(host: ShellHost, commands: Commands) {
    this.#host = host;
    this.#commands = commands;
  }

  /** Reads what is on disk; `adopt` is to follow. What is damaged there is no error. */
  static async open(host: ShellHost): Promise<Shells> {
    // A shell that waits for somebody to type is no activity, or a workspace with one would never be idle.
    const enter: CommandHost["enter"] = async (signal, progress) => {
      const entered = await host.enter(signal, progress);
      entered.leave();
      return entered;
    };
    const { workspaceId, processKind, commandsDirectory, secrets } = host;
    // One of an older daemon has none.
    await mkdir(commandsDirectory, { recursive: true, mode: 0o700 });
    return new Shells(host, await Commands.open({ workspaceId, processKind, commandsDirectory, secrets, enter }));
  }

  /** See Commands.adopt. */
  async adopt(machineId: string | undefined): Promise<void> {
    for (const command of await this.#commands.adopt(machineId)) this.#watch(command);
  }

  /** See Commands.sweep. */
  async sweep(guest: GuestClient, signal: AbortSignal): Promise<void> {
    await this.#commands.sweep(guest, signal);
  }

  /**
   * Opens one, or finds the one that this call has opened before; resolves when it runs. Errors: CWD_NOT_FOUND, those of
   * CommandHost.enter; the reason of `stop`. One that was `cancelled` before it ran is not opened, or ended; else it is
   * opened whoever waits.
   */
  async begin(
    request: OpenRequest,
    tell: (event: EventOf<"shell.open">) => void,
    { cancelled, stop }: { readonly cancelled: AbortSignal; readonly stop: AbortSignal },
  ): Promise<Shell> {
    const { requestId, cwd, secretEnv, cols, rows, mustExist = false } = request;
    const command = this.#commands.begin({
      requestId,
      input: { command: LOGIN, cwd, secret_env: secretEnv, tty: true, no_stdin: false },
      terminal: { columns: cols, rows },
      stdinClosed: false,
      mustExist,
    });
    this.#watch(command);
    const leave = this.#host.use();
    const unlisten = command.listen(tell);
    const cancel = () => command.cancel(PyroError.from(cancelled.reason));
    cancelled.addEventListener("abort", cancel, { once: true });
    try {
      await orAborted(command.started, stop);
      return await this.#of(command);
    } finally {
      cancelled.removeEventListener("abort", cancel);
      unlisten();
      leave();
    }
  }

  /** Errors: SHELL_NOT_FOUND, with near ids. */
  async get(shellId: string): Promise<Shell> {
    const command = await this.#commands.find(shellId);
    if (command !== undefined) return await this.#of(command);
    const near = nearest(shellId, await this.#ids());
    const guess = near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : "";
    throw new PyroError("SHELL_NOT_FOUND", `There is no shell ${shellId} in ${this.#host.workspaceId}.${guess}`);
  }

  /** Those that run, or all, from the oldest; the cursor is the number of the last one seen. Errors: CURSOR_INVALID. */
  async list(options: {
    readonly all: boolean;
    readonly limit: number;
    readonly cursor?: string | undefined;
  }): Promise<Pick<OutputOf<"shell.list">, "shells" | "next_cursor">> {
    const { processes, next_cursor } = await this.#commands.list(options);
    const shells = await Promise.all(processes.map(async ({ process_id }) => (await this.get(process_id)).facts));
    return { shells, next_cursor };
  }

  get count(): number {
    return this.#commands.count;
  }

  get running(): number {
    return this.#commands.running;
  }

  /** It is being used, until what is returned is called. */
  use(): () => void {
    return this.#host.use();
  }

  /** See Commands.lose. */
  async lose(why: string): Promise<void> {
    await this.#commands.lose(why);
  }

  /** See Commands.release. */
  async release(): Promise<void> {
    await this.#commands.release();
  }

  /** See Commands.abandon. */
  async abandon(reason: PyroError): Promise<void> {
    await this.#commands.abandon(reason);
  }

  async #ids(): Promise<string[]> {
    const { processes } = await this.#commands.list({ all: true, limit: 1000 });
    return processes.map(({ process_id }) => process_id);
  }

  #of(command: Command): Promise<Shell> {
    return this.#shells.get(command) ?? Shell.of(command, terminals);
  }

  /** What it prints is activity; it is remembered until it has ended. */
  #watch(command: Command): void {
    if (this.#shells.has(command)) return;
    const shell = Shell.of(command, terminals);
    this.#shells.set(command, shell);
    const over = new AbortController();
    void command.finished.then(async () => {
      over.abort();
      this.#shells.delete(command);
      await (await shell).forget();
    });
    void this.#touch(command, over.signal).catch(() => {});
  }

  async #touch(command: Command, over: AbortSignal): Promise<void> {
    await command.started;
    const { spool } = command;
    for (let seen = spool.end; !over.aborted; seen = spool.end) {
      await spool.waitBeyond(seen, over);
      if (over.aborted) return;
      this.#host.use()();
      await sleep(ACTIVITY_MS, undefined, { signal: over, ref: false });
    }
  }
}
