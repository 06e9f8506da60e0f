// Workspaces made and deleted, over and over, leave everything as it was: processes, files, memory, descriptors.
// PYRO_LAB_CYCLES says how often; `make soak` asks for 200.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Pyro } from "pyro-mcp";
import { countFrom } from "../seed.ts";
import { ownHome } from "../vm/harness.ts";
import { cgroupsOf, descriptorsOf, filesOf, processesAt, untilAtRest, untilNothingRuns } from "../vm/remains.ts";
import { checkLab, STEP_MS, statusOf } from "./lab.ts";

const CYCLES = countFrom("PYRO_LAB_CYCLES", 20);
const WARM_UP = 3;
/** Resident memory follows the most that was ever needed; a leak of a megabyte a cycle passes this in any row. */
const RSS_GROWTH_KIB = 16 * 1024;

test(`${CYCLES} workspaces made and deleted leave nothing behind`, {
  timeout: (5 + CYCLES) * STEP_MS,
}, async (context) => {
  checkLab();
  const home = await ownHome({ templates: true });
  {
    await using _stopped = home;
    await using pyro = new Pyro({ home: home.path });
    const cycle = async (number: number): Promise<void> => {
      const workspace = await pyro.createWorkspace();
      const { stdout } = await workspace.exec([
        "sh",
        "-c",
        `echo cycle ${number}; head -c 1000000 /dev/urandom > file`,
      ]);
      assert.equal(stdout, `cycle ${number}\n`);
      await workspace.delete();
    };
    const figures = async () => {
      await untilAtRest(home, () => ({ vms: 0, runs: 0, workspaces: 0 }));
      const programs = [];
      for (const { pid, kind } of (await processesAt(home)).filter(({ kind }) => kind !== "client")) {
        const rss = Number.parseInt((await statusOf(pid))("VmRSS"), 10);
        programs.push({ kind, descriptors: Object.fromEntries(await descriptorsOf(pid)), rss });
      }
      programs.sort((a, b) => a.kind.localeCompare(b.kind));
      return { programs, files: await filesOf(home), cgroups: await cgroupsOf(home) };
    };
    for (let number = 0; number < WARM_UP; number++) await cycle(number);
    const before = await figures();
    for (let number = 0; number < CYCLES; number++) await cycle(number);
    const after = await figures();
    for (const [index, { kind, descriptors, rss }] of after.programs.entries()) {
      const earlier = before.programs[index];
      context.diagnostic(`${kind}: ${earlier?.rss} KiB before, ${rss} after`);
      assert.deepEqual({ kind, descriptors }, { kind: earlier?.kind, descriptors: earlier?.descriptors });
      assert.ok(rss <= (earlier?.rss ?? 0) + RSS_GROWTH_KIB, `resident memory of the ${kind}`);
    }
    assert.deepEqual(after.files, before.files);
    assert.deepEqual(after.cgroups, before.cgroups);
  }
  await untilNothingRuns(home);
});
