// What daemon and launcher hold: memory, threads, descriptors by kind, and what their home has on the host. The daemon's
// live heap is asked of its inspector, after a collection: its resident memory alone tells a leak from idleness too late.
import { spawn } from "node:child_process";
import { open, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type OwnHome, pyro, ROOT } from "./harness.ts";
import { cgroupsOf, descriptorsOf, filesOf, processesAt } from "./remains.ts";

const START_MS = 20_000;
const ANSWER_MS = 20_000;
const KIB = 1024;
/**
 * Code is made once and kept: not for the tenth call of a function or the hundredth, or the heap of a young daemon grows
 * for an hour with nothing leaked.
 */
const STEADY_CODE = [
  "--no-opt",
  "--no-maglev",
  "--no-sparkplug",
  "--no-lazy-feedback-allocation",
  "--no-flush-bytecode",
];

export interface Held {
  /** Proportional and resident memory, KiB. */
  readonly pss: number;
  readonly rss: number;
  readonly threads: number;
  readonly descriptors: ReadonlyMap<string, number>;
}

export interface Figures {
  readonly daemon: Held;
  readonly launcher: Held;
  /** Live bytes of the daemon's heap, and what it holds outside of it. */
  readonly heap: number;
  readonly external: number;
  /** Counts, by what is counted. */
  readonly counts: ReadonlyMap<string, number>;
}

/** A daemon of a home, started as a client starts it but with an inspector of its own. */
export class InspectedDaemon {
  readonly #home: OwnHome;
  readonly #temporary: string;
  readonly #socket: WebSocket;
  #request = 0;

  private constructor(home: OwnHome, temporary: string, socket: WebSocket) {
    this.#home = home;
    this.#temporary = temporary;
    this.#socket = socket;
  }

  /** `temporary`: an empty directory that becomes the daemon's TMPDIR. */
  static async start(home: OwnHome, temporary: string): Promise<InspectedDaemon> {
    await pyro(["daemon", "stop"], { env: home.env });
    const log = await open(home.paths.log, "a", 0o600);
    const lock = ["--nonblock", "--no-fork", "--conflict-exit-code", "1", home.paths.daemonLock];
    const node = [process.execPath, "--inspect=127.0.0.1:0", ...STEADY_CODE, join(ROOT, "dist", "daemon.js")];
    const child = spawn("flock", [...lock, ...node], {
      cwd: "/",
      detached: true,
      env: { ...process.env, ...home.env, TMPDIR: temporary },
      stdio: ["ignore", log.fd, log.fd],
    });
    child.unref();
    await log.close();
    const deadline = Date.now() + START_MS;
    for (;;) {
      const text = await readFile(home.paths.log, "utf8");
      const address = /Debugger listening on (ws:\S+)/g;
      const url = [...text.matchAll(address)].at(-1)?.[1];
      if (url !== undefined && text.slice(text.lastIndexOf(url)).includes("serving on")) {
        return new InspectedDaemon(home, temporary, await connect(url));
      }
      if (Date.now() > deadline || child.exitCode !== null) throw new Error(`the daemon does not come up:\n${text}`);
      await sleep(50);
    }
  }

  /** Call when nothing runs. */
  async figures(): Promise<Figures> {
    const processes = await processesAt(this.#home);
    const pidOf = (kind: string) => {
      const found = processes.filter((process) => process.kind === kind);
      const [only] = found;
      if (only === undefined || found.length > 1) throw new Error(`${found.length} processes are the ${kind}`);
      return only.pid;
    };
    // Twice: what a finalizer of the first lets go is collected by the second.
    for (let times = 0; times < 2; times++) await this.#ask("HeapProfiler.collectGarbage");
    const heap = (await this.#ask("Runtime.getHeapUsage")) as { usedSize: number; backingStorageSize?: number };
    const sockets = await readdir(this.#home.paths.sockets, { recursive: true });
    return {
      daemon: await heldBy(pidOf("daemon")),
      launcher: await heldBy(pidOf("launcher")),
      heap: heap.usedSize,
      external: heap.backingStorageSize ?? 0,
      counts: new Map([
        ["processes", processes.length],
        ["files of the home", (await filesOf(this.#home)).length],
        ["files beside sockets", sockets.length],
        ["cgroups", (await cgroupsOf(this.#home)).length],
        ["temporary files", (await readdir(this.#temporary)).length],
      ]),
    };
  }

  close(): void {
    this.#socket.close();
  }

  async #ask(method: string): Promise<unknown> {
    const id = ++this.#request;
    const answer = new Promise<unknown>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer to ${method}`)), ANSWER_MS);
      const hear = ({ data }: MessageEvent) => {
        const message = JSON.parse(String(data)) as { id?: number; result?: unknown; error?: { message: string } };
        if (message.id !== id) return;
        clearTimeout(timer);
        this.#socket.removeEventListener("message", hear);
        if (message.error === undefined) resolve(message.result);
        else reject(new Error(`${method}: ${message.error.message}`));
      };
      this.#socket.addEventListener("message", hear);
    });
    this.#socket.send(JSON.stringify({ id, method }));
    return await answer;
  }
}

async function connect(url: string): Promise<WebSocket> {
  const socket = new WebSocket(url);
  await new Promise<void>((resolve, reject) => {
    socket.addEventListener("open", () => resolve(), { once: true });
    socket.addEventListener("error", () => reject(new Error(`no inspector at ${url}`)), { once: true });
  });
  return socket;
}

async function heldBy(pid: number): Promise<Held> {
  const rollup = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const number = (text: string, field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)?.[1]);
  return {
    pss: number(rollup, "Pss"),
    rss: number(rollup, "Rss"),
    threads: number(status, "Threads"),
    descriptors: await descriptorsOf(pid),
  };
}

/** A line for each figure, a column for each moment. */
export function table(moments: readonly (readonly [string, Figures])[]): string {
  const rows = new Map<string, string[]>();
  for (const [column, [, figures]] of moments.entries()) {
    const add = (name: string, value: number | string) => {
      const row = rows.get(name) ?? [];
      row[column] = String(value);
      rows.set(name, row);
    };
    for (const who of ["daemon", "launcher"] as const) {
      const { pss, rss, threads, descriptors } = figures[who];
      add(`${who} PSS, KiB`, pss);
      add(`${who} RSS, KiB`, rss);
      if (who === "daemon") add("daemon live heap, KiB", Math.round(figures.heap / KIB));
      if (who === "daemon") add("daemon live buffers, KiB", Math.round(figures.external / KIB));
      add(`${who} threads`, threads);
      for (const [kind, count] of [...descriptors].sort()) add(`${who} descriptors: ${kind}`, count);
    }
    for (const [name, count] of figures.counts) add(name, count);
  }
  const width = Math.max(...[...rows.keys()].map((name) => name.length));
  const cells = (values: readonly (string | undefined)[]) =>
    moments.map((_, column) => (values[column] ?? "0").padStart(14)).join("");
  const head = `${"".padEnd(width)}${cells(moments.map(([name]) => name))}`;
  return [head, ...[...rows].map(([name, values]) => `${name.padEnd(width)}${cells(values)}`)].join("\n");
}
