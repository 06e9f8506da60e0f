// What microVMs cost that do nothing, many side by side.
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { processesOf, VMM } from "../../test/vm/harness.ts";
import { openEngine } from "./engine.ts";
import type { Row } from "./samples.ts";

const WATCH_MS = 20_000;
const FILL_MS = 300_000;
const TICKS_PER_SECOND = 100;

/** `count` microVMs of the default size in the pool; proportional memory and CPU of each VMM over some seconds. */
export async function idle(count: number): Promise<Row[]> {
  const { paths, engine, prepared, close } = await openEngine(count);
  try {
    engine.pool.begin()(prepared);
    const deadline = Date.now() + FILL_MS;
    while (engine.pool.ready < count) {
      if (Date.now() > deadline) throw new Error(`only ${engine.pool.ready} of ${count} microVMs came up`);
      await sleep(250);
    }
    await sleep(5000);
    const pids = await processesOf(paths, VMM);
    if (pids.length !== count) throw new Error(`${pids.length} VMMs for ${count} microVMs`);
    const before = await Promise.all(pids.map(ticks));
    await sleep(WATCH_MS);
    const after = await Promise.all(pids.map(ticks));
    const memory = await Promise.all(pids.map(proportional));
    const share = pids.map(
      (_, index) => (((after[index] ?? 0) - (before[index] ?? 0)) / TICKS_PER_SECOND / (WATCH_MS / 1000)) * 100,
    );
    const command = `PYRO_POOL_SIZE=${count}`;
    return [
      {
        name: `memory of an idle microVM, ${count} side by side`,
        command: `${command}; Pss in smaps_rollup`,
        unit: "MiB",
        samples: memory,
        target: 40,
      },
      {
        name: `share of a core of an idle microVM, ${count} side by side`,
        command: `${command}; /proc/PID/stat over 20 s`,
        unit: "%",
        samples: share,
        target: 0.5,
      },
    ];
  } finally {
    await close();
  }
}

/** A process's proportional memory, MiB, the unit of smaps. */
export async function proportional(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/smaps_rollup`, "utf8");
  return Number(/^Pss:\s+(\d+) kB/m.exec(text)?.[1]) / 1024;
}

async function ticks(pid: number): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}
