// What a VMM may do, read from /proc while one runs: who it is, what it sees, what it can write.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ownHome, startPyro, VMM } from "./harness.ts";
import { checkConfined, checkDescriptors, checkFiles } from "./vmm.ts";

test("the VMM runs unprivileged, sandboxed, in its own namespaces", { timeout: 300_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const runs = [1, 2].map(() => startPyro(["run", "--", "sh", "-c", "echo ready; sleep 300"], { env: home.env }));
  for (const run of runs) await run.untilOutput("ready");
  const vmms = await home.processes(VMM);
  assert.equal(vmms.length, 2);
  const users = new Set<number>();
  for (const pid of vmms) {
    const user = await checkConfined(pid);
    if (process.getuid?.() === 0) assert.ok(user >= 1_900_000_000, `uid ${user}`);
    users.add(user);
    await checkDescriptors(pid);
    await checkFiles(pid, home.path);
  }
  if (process.getuid?.() === 0) assert.equal(users.size, 2, "two microVMs share a user");
  for (const run of runs) run.child.kill("SIGTERM");
  for (const run of runs) await run.finished;
});
