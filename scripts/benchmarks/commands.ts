// Whole commands, from the start of the process to its end: pyro's, and those it is compared with.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findProgram } from "../../src/host/resources.ts";
import { median, type Row, sample } from "./samples.ts";

const ROOT = join(import.meta.dirname, "..", "..");
export const PYRO = join(ROOT, "bin", "pyro.js");
const READY_MS = 120_000;

async function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "pipe"] });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (data: Buffer) => out.push(data));
  child.stderr.on("data", (data: Buffer) => err.push(data));
  const status = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (status !== 0) throw new Error(`${program} ${args.join(" ")}: status ${status}: ${Buffer.concat(err)}`);
  return Buffer.concat(out).toString();
}

/** pyro under the Node that runs this, which is the one that `node -e 0` is timed with. */
async function pyro(args: readonly string[], env?: NodeJS.ProcessEnv): Promise<string> {
  return await run(process.execPath, [PYRO, ...args], env);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

/** The start of the command itself. Node and pyro take turns, so that whatever else the machine does meets both. */
export async function startUp(count: number): Promise<Row[]> {
  const node: number[] = [];
  const version = await sample(count, async () => {
    node.push(await timed(() => run(process.execPath, ["-e", "0"])));
    return await timed(() => pyro(["--version"]));
  });
  const samples = node.slice(-count);
  return [
    { name: "Node's own start", command: "node -e 0", unit: "ms", samples },
    {
      name: "`pyro --version`",
      command: "pyro --version",
      unit: "ms",
      samples: version,
      target: 1.7 * median(samples),
    },
  ];
}

/** What else runs `true` in a sandbox. */
export async function others(count: number): Promise<Row[]> {
  const rows: Row[] = [];
  const sandboxes = [
    ["bubblewrap, namespaces only", "bwrap", ["--ro-bind", "/", "/", "--unshare-all", "true"]],
    ["gVisor, a kernel in user space", "runsc", ["--network=none", "do", "true"]],
  ] as const;
  for (const [name, program, args] of sandboxes) {
    if ((await findProgram(program)) === undefined) continue;
    const samples = await sample(count, () => timed(() => run(program, args)));
    rows.push({ name, command: [program, ...args].join(" "), unit: "ms", samples });
  }
  return rows;
}

/** `pyro run` from the shell, with microVMs lying ready and without. */
export async function runs(count: number): Promise<Row[]> {
  const args = ["run", "debian:12", "--", "true"];
  const none = { PYRO_POOL_SIZE: "0" };
  await stop();
  const without = await sample(count, () => timed(() => pyro(args, none)), 2);
  await stop();
  await pyro(args);
  const withPool = await sample(count, async () => {
    await untilPoolIsFull();
    return await timed(() => pyro(args));
  });
  await stop();
  return [
    {
      name: "a whole run, from the pool",
      command: "pyro run debian:12 -- true",
      unit: "ms",
      samples: withPool,
      target: 350,
    },
    {
      name: "a whole run, without a pool",
      command: "PYRO_POOL_SIZE=0 pyro run debian:12 -- true",
      unit: "ms",
      samples: without,
    },
  ];
}

/** Stops the daemon and waits for its process: it takes its sockets' directories with it at the very end. */
export async function stop(): Promise<void> {
  const { pid } = JSON.parse(await pyro(["daemon", "status", "--json"])) as { pid?: number };
  await pyro(["daemon", "stop"]);
  while (pid !== undefined && existsSync(`/proc/${pid}`)) await sleep(20);
}

export async function untilPoolIsFull(): Promise<void> {
  const deadline = Date.now() + READY_MS;
  for (;;) {
    const { pool } = JSON.parse(await pyro(["daemon", "status", "--json"])) as {
      pool: { size: number; ready: number };
    };
    if (pool.ready >= pool.size) break;
    if (Date.now() > deadline) throw new Error("the pool does not fill");
    await sleep(100);
  }
  // What filled it has its last work to do.
  await sleep(300);
}
