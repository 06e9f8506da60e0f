// A guest that a test holds in its hands: what runs in it prints, reads and ends when the test says so. It stands where a
// GuestClient does; as there, starting twice under one id starts once.
import { Code, ConnectError } from "@connectrpc/connect";
import { Secrets } from "../../../../src/engine/secrets/secrets.ts";
import type { Entered } from "../../../../src/engine/workspace/command-host.ts";
import type { ProcessKind } from "../../../../src/engine/workspace/command-record.ts";
import type { ServiceHost } from "../../../../src/engine/workspace/services.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import type { GuestClient } from "../../../../src/guest/client.ts";

const STDIN_BYTES = 1000;

export class FakeProcess {
  readonly argv: string[];
  readonly env: string[];
  readonly noStdin: boolean;
  readonly wholeTree: boolean;
  readonly chunks: { cursor: bigint; stream: number; data: Buffer }[] = [];
  readonly signals: { signal: number; wholeTree: boolean }[] = [];
  /** Of the last signal: whether it was for what has the terminal, and after which time the tree is to be ended. */
  last: { foreground: boolean; endTreeMs: number } | undefined;
  readonly sizes: { columns: number; rows: number }[] = [];
  stdin = Buffer.alloc(0);
  reads = true;
  eof = false;
  end = 0n;
  exited: { exitCode: number; signal: number } | undefined;
  readonly #guest: FakeGuest;

  constructor(guest: FakeGuest, request: Omit<StartRequest, "processId">) {
    this.#guest = guest;
    this.argv = request.argv.map((word) => Buffer.from(word).toString());
    this.env = request.env.map((word) => Buffer.from(word).toString());
    this.noStdin = request.noStdin;
    this.wholeTree = request.wholeTree === true;
  }

  print(text: string | Buffer, stream = 1): void {
    const data = Buffer.from(text);
    this.chunks.push({ cursor: this.end, stream, data });
    this.end += BigInt(data.length);
    this.#guest.changed();
  }

  exit(exitCode: number, signal = 0): void {
    this.exited ??= { exitCode, signal };
    this.#guest.changed();
  }

  get state() {
    return {
      running: this.exited === undefined,
      exitCode: this.exited?.exitCode ?? 0,
      signal: this.exited?.signal ?? 0,
      timedOut: false,
      outOfMemory: false,
      startError: "",
      startedUnixNanoseconds: BigInt(this.#guest.clock()) * 1_000_000n,
      endedUnixNanoseconds: this.exited === undefined ? 0n : BigInt(Date.now()) * 1_000_000n,
      outputEnd: this.end,
      inputOffset: BigInt(this.stdin.length),
    };
  }
}

export class FakeGuest {
  readonly processes = new Map<string, FakeProcess>();
  readonly starts: string[] = [];
  readonly removed: string[] = [];
  /** When what it starts was started, ms since 1970, as it says. */
  clock: () => number = Date.now;
  /** Called before a start is answered, after it was carried out. */
  onStart: (id: string) => Promise<void> = async () => {};
  refuse: ConnectError | undefined;
  /** What a look at a service finds: undefined when it is ready. */
  onProbe: (probe: Probe) => Promise<string | undefined> = async () => undefined;
  readonly probes: Probe[] = [];
  /** Called before a stop ends its process, which it does with 143. */
  onStop: (id: string, graceMs: number) => Promise<void> = async () => {};
  readonly stops: { id: string; graceMs: number }[] = [];
  /** What starts exits with 0 at once. */
  immediate = false;
  readonly #lost = Promise.withResolvers<never>();
  #change = Promise.withResolvers<void>();
  #held: PyroError | undefined;
  /** Those that were given a client before hear nothing more. */
  #daemon = 0;
  #moving = Promise.withResolvers<void>();

  constructor() {
    this.#lost.promise.catch(() => {});
  }

  changed(): void {
    this.#change.resolve();
    this.#change = Promise.withResolvers();
  }

  /** It stands still until `unhold`, and calls are refused. */
  hold(): void {
    this.#held = new PyroError("HOST_DISK_FULL", "The host had no room.");
  }

  unhold(): void {
    this.#held = undefined;
    this.#moving.resolve();
    this.#moving = Promise.withResolvers();
  }

  /** Its daemon is killed: what has a client of it by now is answered no more. */
  killDaemon(): void {
    this.#daemon++;
    this.changed();
  }

  lose(): void {
    this.#lost.reject(new PyroError("MICROVM_LOST", "The microVM ended: killed."));
  }

  process(id: string): FakeProcess {
    const process = this.processes.get(id);
    if (process === undefined) throw new ConnectError(`no process ${id}`, Code.NotFound);
    return process;
  }

  get client(): GuestClient {
    const isHeld = () => this.#held !== undefined;
    const daemon = this.#daemon;
    const alive = async () => (daemon === this.#daemon ? undefined : await new Promise<never>(() => {}));
    return {
      get isHeld() {
        return isHeld();
      },
      untilMoving: async (signal: AbortSignal) => {
        while (this.#held !== undefined) await this.#bounded(this.#moving.promise, signal);
      },
      call: async (
        method: (calls: unknown, options: { signal: AbortSignal }) => Promise<unknown>,
        options: CallOptions,
      ) => {
        await alive();
        if (this.#held !== undefined) throw this.#held;
        const answer = await this.#bounded(
          method(this.#calls(), { signal: options.signal ?? new AbortController().signal }),
          options.signal,
          options.timeoutMs,
        );
        await alive();
        return answer;
      },
      readOutput: (id: string, from: bigint, signal: AbortSignal) => this.#read(id, from, signal, alive),
    } as unknown as GuestClient;
  }

  async #bounded<T>(work: Promise<T>, signal: AbortSignal | undefined, ms?: number): Promise<T> {
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => {});
    const late = new PyroError("GUEST_UNRESPONSIVE", "The guest did not answer.");
    const timer = ms === undefined ? undefined : setTimeout(() => aborted.reject(late), ms);
    work.then(
      () => clearTimeout(timer),
      () => clearTimeout(timer),
    );
    if (signal?.aborted) aborted.reject(signal.reason);
    signal?.addEventListener("abort", () => aborted.reject(signal.reason), { once: true });
    return await Promise.race([work, this.#lost.promise, aborted.promise]);
  }

  #calls() {
    return {
      startProcess: async (request: StartRequest) => {
        const id = request.processId;
        if (this.refuse !== undefined) throw this.refuse;
        let process = this.processes.get(id);
        if (process === undefined) {
          this.starts.push(id);
          process = new FakeProcess(this, request);
          this.processes.set(id, process);
          if (this.immediate) process.exit(0);
        }
        await this.onStart(id);
        return { process: process.state };
      },
      writeInput: async (
        request: { processId: string; offset: bigint; data?: Uint8Array; eof?: boolean },
        options: { signal: AbortSignal },
      ) => {
        const process = this.process(request.processId);
        const data = Buffer.from(request.data ?? []);
        if (process.noStdin || process.exited) return { inputOffset: BigInt(process.stdin.length), closed: true };
        const fresh = data.subarray(Math.max(0, process.stdin.length - Number(request.offset)));
        const room = process.reads ? fresh.length : Math.max(0, STDIN_BYTES - process.stdin.length);
        process.stdin = Buffer.concat([process.stdin, fresh.subarray(0, room)]);
        if (room < fresh.length) await new Promise((_, reject) => options.signal.addEventListener("abort", reject));
        process.eof ||= request.eof === true;
        return { inputOffset: BigInt(process.stdin.length), closed: false };
      },
      signalProcess: async (request: SignalRequest) => {
        const process = this.process(request.processId);
        if (process.exited) return { delivered: false };
        process.signals.push({ signal: request.signal, wholeTree: request.wholeTree });
        const endTreeMs = Number(request.endTreeAfterMilliseconds ?? 0n);
        process.last = { foreground: request.foreground === true, endTreeMs };
        if (request.wholeTree) process.exit(137, 9);
        if (endTreeMs > 0) process.exit(128 + request.signal, request.signal);
        return { delivered: true };
      },
      stopProcess: async ({ processId, graceMilliseconds }: { processId: string; graceMilliseconds: bigint }) => {
        const process = this.process(processId);
        this.stops.push({ id: processId, graceMs: Number(graceMilliseconds) });
        await this.onStop(processId, Number(graceMilliseconds));
        process.exit(143, 15);
        return {};
      },
      probeReadiness: async ({ probe }: { probe: Probe }) => {
        this.probes.push(probe);
        const reason = await this.onProbe(probe);
        return { ready: reason === undefined, reason: reason ?? "" };
      },
      resizeProcess: async (request: { processId: string; size: { columns: number; rows: number } }) => {
        const process = this.process(request.processId);
        if (process.exited) throw new ConnectError("the process has exited", Code.FailedPrecondition);
        process.sizes.push({ columns: request.size.columns, rows: request.size.rows });
        return {};
      },
      listProcesses: async () => ({
        processes: [...this.processes].map(([processId, process]) => ({ processId, ...process.state })),
      }),
      removeProcess: async ({ processId }: { processId: string }) => {
        const process = this.processes.get(processId);
        if (process === undefined && this.removed.includes(processId)) return {};
        if (this.process(processId).exited === undefined) {
          throw new ConnectError(`process ${processId} is still running`, Code.FailedPrecondition);
        }
        this.processes.delete(processId);
        this.removed.push(processId);
        return {};
      },
    };
  }

  async *#read(
    id: string,
    from: bigint,
    signal: AbortSignal,
    alive: () => Promise<undefined>,
  ): AsyncGenerator<unknown> {
    const process = this.process(id);
    let at = process.chunks.findIndex((chunk) => chunk.cursor + BigInt(chunk.data.length) > from);
    if (at < 0) at = process.chunks.length;
    for (;;) {
      await alive();
      const changed = this.#change.promise;
      while (at < process.chunks.length) yield { case: "chunk" as const, value: process.chunks[at++] };
      if (process.exited) return yield { case: "exited" as const, value: process.state };
      await this.#bounded(changed, signal);
    }
  }
}

interface CallOptions {
  readonly signal?: AbortSignal;
  readonly timeoutMs?: number;
}

/** One look at a service, as the guest is asked for it. */
export interface Probe {
  readonly case: string;
  readonly value: unknown;
}

interface SignalRequest {
  readonly processId: string;
  readonly signal: number;
  readonly wholeTree: boolean;
  readonly foreground?: boolean;
  readonly endTreeAfterMilliseconds?: bigint;
}

interface StartRequest {
  readonly processId: string;
  readonly argv: Uint8Array[];
  readonly env: Uint8Array[];
  readonly noStdin: boolean;
  readonly wholeTree?: boolean;
}

/** A workspace of which only the commands are there, or only the services. */
export class FakeHost implements ServiceHost {
  readonly workspaceId = "ws_aaaaaaaaaa";
  readonly processKind: ProcessKind;
  readonly commandsDirectory: string;
  readonly servicesDirectory: string;
  secrets: Secrets = Secrets.none;
  guest: FakeGuest;
  machineId = "vm_1";
  inside = 0;
  left = 0;
  onEnter: (signal: AbortSignal) => Promise<void> = async () => {};

  /** How often it was used, beside being entered. */
  uses = 0;

  constructor(commandsDirectory: string, guest: FakeGuest, processKind: ProcessKind = "proc") {
    this.processKind = processKind;
    this.commandsDirectory = commandsDirectory;
    this.servicesDirectory = commandsDirectory;
    this.guest = guest;
  }

  use(): () => void {
    this.uses++;
    return () => {};
  }

  async enter(signal: AbortSignal): Promise<Entered> {
    await this.onEnter(signal);
    signal.throwIfAborted();
    this.inside++;
    let here = true;
    return {
      machineId: this.machineId,
      guest: this.guest.client,
      env: { PATH: "/bin", LANG: "C", FROM: "workspace" },
      leave: () => {
        this.left++;
        if (here) this.inside--;
        here = false;
      },
    };
  }
}
