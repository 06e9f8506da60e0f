// `make bench`: every figure that pyro promises, measured here and now, beside what it is compared with. Prints a table
// (or, with --json, one document) on stdout and what it is doing on stderr. --quick takes few samples.
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { brokered } from "./broker.ts";
import { others, runs, startUp } from "./commands.ts";
import { diffs } from "./diff.ts";
import { disks } from "./disk.ts";
import { files } from "./files.ts";
import { idle } from "./idle.ts";
import { lifecycle } from "./lifecycle.ts";
import { LINK, Machines } from "./machines.ts";
import { networks } from "./network.ts";
import { type Row, table } from "./samples.ts";
import { services } from "./services.ts";
import { shells } from "./shells.ts";
import { manyWorkspaces, workspaceLists, workspaces } from "./workspaces.ts";

const quick = process.argv.includes("--quick");
const json = process.argv.includes("--json");
const count = quick ? 3 : 15;
const many = quick ? 4 : 50;

/** A home of its own unless one is given, so that nothing else's state is measured. */
const scratch = process.env.PYRO_HOME ? undefined : mkdtempSync("/tmp/pb-");
if (scratch !== undefined) {
  chmodSync(scratch, 0o755);
  process.env.PYRO_HOME = scratch;
}

function say(text: string): void {
  process.stderr.write(`bench: ${text}\n`);
}

async function withMachines(poolSize: number, work: (machines: Machines) => Promise<Row[]>): Promise<Row[]> {
  const machines = await Machines.open(poolSize);
  try {
    return await work(machines);
  } finally {
    await machines.close();
  }
}

try {
  const rows: Row[] = [];
  const load = loadavg()[0] ?? 0;
  let how = "";
  say("the command and other sandboxes");
  rows.push(...(await startUp(count * 2)), ...(await others(count)));
  say("boots, restores and calls (the first time an environment is built: a minute)");
  rows.push(
    ...(await withMachines(0, async (machines) => {
      how = machines.how;
      return [
        await machines.coldBoot(quick ? 1 : 5),
        await machines.firstResult(count, false),
        ...(await machines.calls(count * 2)),
      ];
    })),
  );
  rows.push(...(await withMachines(2, async (machines) => [await machines.firstResult(count, true)])));
  say("whole runs");
  rows.push(...(await runs(count)));
  say("workspaces: making, filling and using them");
  rows.push(...(await workspaces(count)));
  const link = rows.find(({ name }) => name === LINK);
  rows.push(await shells(4 * count, link));
  rows.push(await workspaceLists(count, 100));
  say("services: starting and stopping");
  rows.push(...(await services(count)));
  say("snapshots, resets and starts");
  rows.push(...(await lifecycle(Math.min(count, 10))));
  say("files of a workspace");
  rows.push(...(await files(count)));
  say("what was changed in a workspace");
  rows.push(...(await diffs(count)));
  say("the network");
  rows.push(...(await networks(count)), ...(await brokered(count)));
  say("the disk of a stopped workspace");
  rows.push(...(await disks(count)));
  say(`${many} microVMs side by side, then ${many} workspaces`);
  rows.push(...(await idle(many)));
  rows.push(await manyWorkspaces(many));
  const host = `${cpus().length} CPUs (${cpus()[0]?.model.trim()}), ${Math.round(totalmem() / 2 ** 30)} GiB, ${how}, load ${load.toFixed(1)} at the start`;
  process.stdout.write(json ? `${JSON.stringify({ host, rows }, null, 2)}\n` : `${host}\n\n${table(rows)}\n`);
} finally {
  if (scratch !== undefined) rmSync(scratch, { recursive: true, force: true });
}
