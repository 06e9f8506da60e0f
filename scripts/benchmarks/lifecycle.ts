// What it costs to keep a workspace, to put it back, and to start it again, from the call to its answer.
import { Pyro } from "pyro-mcp";
import { stop } from "./commands.ts";
import type { Row } from "./samples.ts";

/** Written to the workspace before each is measured, MB. */
const WRITTEN_MB = 100;

export async function lifecycle(count: number): Promise<Row[]> {
  await stop();
  await using pyro = new Pyro();
  try {
    await using workspace = await pyro.createWorkspace({ ephemeral: true });
    const snapshots: number[] = [];
    const resets: number[] = [];
    const starts: number[] = [];
    for (let round = -1; round < count; round++) {
      await workspace.exec(`head -c ${WRITTEN_MB}M /dev/urandom >big && sync`, { check: true });
      const began = performance.now();
      await workspace.snapshot.create("kept");
      const kept = performance.now();
      await workspace.reset();
      const reset = performance.now();
      await workspace.stop();
      const stopped = performance.now();
      await workspace.start();
      await workspace.exec(["true"], { check: true });
      const started = performance.now();
      await workspace.snapshot.delete("kept");
      if (round < 0) continue;
      snapshots.push(kept - began);
      resets.push(reset - kept);
      starts.push(started - stopped);
    }
    const written = `${WRITTEN_MB} MB written`;
    return [
      {
        name: `a snapshot, ${written}`,
        command: "workspace.snapshot.create(name)",
        unit: "ms",
        samples: snapshots,
        target: 400,
      },
      { name: `a reset, ${written}`, command: "workspace.reset()", unit: "ms", samples: resets, target: 600 },
      {
        name: "a start, to the end of the first command",
        command: 'workspace.start(); workspace.exec(["true"])',
        unit: "ms",
        samples: starts,
        target: 700,
      },
    ];
  } finally {
    await stop();
  }
}
