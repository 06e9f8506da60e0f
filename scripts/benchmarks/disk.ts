// What looking at the disk of a stopped workspace costs, from the call to its answer.
import { setTimeout as sleep } from "node:timers/promises";
import { Pyro } from "pyro-mcp";
import { stop } from "./commands.ts";
import { type Row, sample } from "./samples.ts";

/** An inspector is kept for 5 s: each sample begins without one. */
const FORGOTTEN_MS = 6000;
const LOOK_MS = 200;

export async function disks(count: number): Promise<Row[]> {
  await stop();
  await using pyro = new Pyro();
  try {
    await using workspace = await pyro.createWorkspace({ ephemeral: true, ttlSeconds: 1 });
    while ((await workspace.status()).state !== "stopped") await sleep(LOOK_MS);
    const list = async () => {
      if ((await workspace.disk.list()).entries.length === 0) throw new Error("nothing was listed");
    };
    const first = await sample(count, async () => {
      await sleep(FORGOTTEN_MS);
      const began = performance.now();
      await list();
      return performance.now() - began;
    });
    const again = await sample(2 * count, async () => {
      await list();
      return undefined;
    });
    return [
      {
        name: "`disk list` of a stopped workspace",
        command: "workspace.disk.list()",
        unit: "ms",
        samples: first,
        target: 700,
      },
      { name: "`disk list` once more", command: "workspace.disk.list()", unit: "ms", samples: again },
    ];
  } finally {
    await stop();
  }
}
