// The daemon's side of the launcher: starts it when none serves, keeps the lease open, and tells when microVMs end.

import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { connect as connectSocket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { type Client, Code, ConnectError, createClient } from "@connectrpc/connect";
import { PyroError } from "../errors/error.ts";
import { LaunchService, type Vm } from "../gen/pyro/launch/v1/launch_pb.js";
import { RpcSession } from "../rpc/session.ts";

const START_MS = 10_000;
const STOP_MS = 3_000;
const POLL_MS = 20;
const TAIL_BYTES = 2000;
/** Longest call: loading or sealing a large template. Starting and killing take far less. */
const CALL_MS = 60_000;

export type LaunchCalls = Client<typeof LaunchService>;

/** How a microVM ended. `launcherLost` when the launcher itself has gone, and its microVMs with it. */
export interface VmEnd {
  readonly exitCode: number;
  readonly signal: number;
  readonly launcherLost: boolean;
}

export interface LauncherOptions {
  readonly program: string;
  readonly socketPath: string;
  readonly vmsDirectory: string;
  readonly logPath: string;
}

export class Launcher {
  readonly #options: LauncherOptions;
  #connected: { readonly session: RpcSession; readonly calls: LaunchCalls } | undefined;
  readonly #ends = new Map<string, (end: VmEnd) => void>();
  readonly #closed = new AbortController();
  #watching: Promise<void> | undefined;

  constructor(options: LauncherOptions) {
    this.#options = options;
  }

  /** Makes one call, starting the launcher first when none serves. Refusals become PyroErrors. */
  async call<T>(method: (calls: LaunchCalls, options: { signal: AbortSignal }) => Promise<T>): Promise<T> {
    await this.#ensure();
    try {
      return await method(this.#connection(), { signal: AbortSignal.timeout(CALL_MS) });
    } catch (error) {
      throw toPyroError(error);
    }
  }

  /** Every microVM that the launcher holds or remembers; empty, without starting one, when no launcher serves. */
  async vms(): Promise<Vm[]> {
    if (!(await this.#serves())) return [];
    return (await this.call((calls, options) => calls.hello({}, options))).vms;
  }

  /** What microVMs are bounded in, and why not in the rest; undefined, without starting one, when no launcher serves. */
  async limits(): Promise<{ bounded: string[]; notes: string[] } | undefined> {
    if (!(await this.#serves())) return undefined;
    const { limits, limitNotes } = await this.call((calls, options) => calls.hello({}, options));
    return { bounded: limits, notes: limitNotes };
  }

  /** Resolves when the microVM ends. Ask before it is started, or for one that `vms` told as running. */
  whenEnded(vmId: string): Promise<VmEnd> {
    return new Promise((resolve) => {
      this.#ends.set(vmId, resolve);
    });
  }

  forget(vmId: string): void {
    this.#ends.delete(vmId);
  }

  /** Lets the launcher end when it holds no microVM, lets go of the lease, and waits a moment for it to be gone. */
  async stop(): Promise<void> {
    if (await this.#serves()) {
      await this.#connection()
        .stop({}, { signal: AbortSignal.timeout(STOP_MS) })
        .catch(() => {});
    }
    this.close();
    const deadline = Date.now() + STOP_MS;
    while ((await this.#serves()) && Date.now() < deadline) await sleep(POLL_MS);
  }

  close(): void {
    this.#closed.abort();
    this.#connected?.session.close();
  }

  /** Calls over the present session, or over a new one when that has ended. */
  #connection(): LaunchCalls {
    if (this.#connected === undefined) {
      const session = new RpcSession(connectSocket(this.#options.socketPath));
      const connected = { session, calls: createClient(LaunchService, session.transport) };
      this.#connected = connected;
      session.closed.then(() => {
        if (this.#connected === connected) this.#connected = undefined;
      });
    }
    return this.#connected.calls;
  }

  async #ensure(): Promise<void> {
    if (this.#closed.signal.aborted) throw new PyroError("CANCELLED", "The daemon is stopping.");
    if (this.#watching === undefined) {
      const watching = this.#startAndWatch();
      this.#watching = watching;
      watching.catch(() => {
        if (this.#watching === watching) this.#watching = undefined;
      });
    }
    await this.#watching;
  }

  /** Resolves once the lease is open; what comes over it is followed from there on. */
  async #startAndWatch(): Promise<void> {
    const deadline = Date.now() + START_MS;
    const logStart = await stat(this.#options.logPath).then(
      ({ size }) => size,
      () => 0,
    );
    if (!(await this.#serves())) this.#spawn();
    for (;;) {
      try {
        const stream = this.#connection().watch({}, { signal: this.#closed.signal })[Symbol.asyncIterator]();
        await this.#within(stream.next(), deadline);
        void this.#follow(stream);
        return;
      } catch (error) {
        if (Date.now() > deadline || this.#closed.signal.aborted) {
          throw new PyroError("MICROVM_START_FAILED", `The launcher does not answer: ${String(error)}`, {
            details: { log: this.#options.logPath, log_tail: await tail(this.#options.logPath, logStart) },
          });
        }
      }
      await sleep(POLL_MS);
      if (!(await this.#serves()) && Date.now() + START_MS / 2 > deadline) this.#spawn();
    }
  }

  /** A launcher that was stopped accepts connections and says nothing. */
  async #within<T>(promise: Promise<T>, deadline: number): Promise<T> {
    const session = this.#connected?.session;
    const timer = setTimeout(() => session?.close(), Math.max(0, deadline - Date.now()));
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
    }
  }

  async #follow(stream: AsyncIterator<{ event: { case?: string; value?: unknown } }>): Promise<void> {
    try {
      for (let next = await stream.next(); !next.done; next = await stream.next()) {
        if (next.value.event.case !== "ended") continue;
        const vm = next.value.event.value as Vm;
        this.#tell(vm.vmId, { exitCode: vm.exitCode, signal: vm.signal, launcherLost: false });
      }
    } catch {
      // The launcher has gone, or this daemon lets go; both are settled below.
    }
    this.#watching = undefined;
    if (this.#closed.signal.aborted) return;
    for (const vmId of [...this.#ends.keys()]) this.#tell(vmId, { exitCode: 0, signal: 9, launcherLost: true });
    // Another removes what it left, sockets and cgroups, as it begins; nobody may have a reason to ask for one soon.
    this.#ensure().catch(() => {});
  }

  #tell(vmId: string, end: VmEnd): void {
    const resolve = this.#ends.get(vmId);
    this.#ends.delete(vmId);
    resolve?.(end);
  }

  #spawn(): void {
    const log = openSync(this.#options.logPath, "a", 0o600);
    try {
      const child = spawn(
        this.#options.program,
        ["--socket", this.#options.socketPath, "--vms", this.#options.vmsDirectory],
        { detached: true, stdio: ["ignore", log, log], cwd: "/", env: { PATH: process.env.PATH ?? "" } },
      );
      child.on("error", () => {});
      child.unref();
    } finally {
      closeSync(log);
    }
  }

  #serves(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connectSocket(this.#options.socketPath);
      socket.once("connect", () => {
        socket.destroy();
        resolve(true);
      });
      socket.once("error", () => resolve(false));
    });
  }
}

/** What a log says since `from`, at most TAIL_BYTES of it; empty where it cannot be read. */
async function tail(path: string, from: number): Promise<string> {
  const text = await readFile(path).catch(() => Buffer.alloc(0));
  return text.subarray(Math.max(from, text.length - TAIL_BYTES)).toString("utf8");
}

/** The launcher says what is missing at the start of its message: see proto/pyro/launch/v1. */
function toPyroError(error: unknown): unknown {
  if (!(error instanceof ConnectError)) return error;
  const message = error.rawMessage;
  if (message.startsWith("tool: ")) {
    return new PyroError("HOST_TOOL_MISSING", `The host lacks ${message.slice(6)}.`, { cause: error });
  }
  if (message.startsWith("confinement: ")) {
    return new PyroError("CONFINEMENT_UNAVAILABLE", `bubblewrap cannot work here: ${message.slice(13)}`, {
      cause: error,
    });
  }
  if (message.startsWith("network: ")) {
    return new PyroError("NETWORK_FAILED", `The microVM's network does not work: ${message.slice(9)}`, {
      cause: error,
    });
  }
  if (error.code === Code.FailedPrecondition && message.startsWith("digest: ")) return error;
  if (message.includes("no space left on device")) {
    return new PyroError("HOST_DISK_FULL", `The launcher found no space left: ${message}`, { cause: error });
  }
  return new PyroError("MICROVM_START_FAILED", `The launcher refused: ${message}`, { cause: error });
}
