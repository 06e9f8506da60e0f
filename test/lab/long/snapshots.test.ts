// A workspace that is kept, broken, put back, stopped, started and cloned in real Firecracker.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Pyro, type Workspace } from "pyro-mcp";
import { ownHome } from "../../vm/harness.ts";
import { untilAtRest, untilNothingRuns } from "../../vm/remains.ts";
import { checkLab, STEP_MS } from "../lab.ts";

async function sh(workspace: Workspace, script: string): Promise<string> {
  return (await workspace.exec(["sh", "-c", script], { check: true })).stdout;
}

test("a workspace that was broken is put back, stopped and started, and cloned", { timeout: 5 * STEP_MS }, async () => {
  checkLab();
  const home = await ownHome({ templates: true });
  {
    await using _stopped = home;
    await using pyro = new Pyro({ home: home.path });
    const workspace = await pyro.createWorkspace({ diskMib: 1024 });
    const who = await sh(workspace, "cat /etc/machine-id; echo good >a; echo x >/tmp/x; cp /bin/true /usr/bin/tool");
    await workspace.snapshot.create("good");
    await sh(workspace, "rm -rf /workspace/* /usr/bin");
    const record = await workspace.reset("good");
    assert.deepEqual([record.driver, record.state, record.resetCount], ["firecracker", "started", 1]);
    assert.equal(await sh(workspace, "cat /etc/machine-id; ls -A /tmp; tool; cat a"), `${who}good\n`);
    assert.equal((await workspace.stop()).state, "stopped");
    const clone = await workspace.clone({ snapshotName: "good" });
    assert.equal(await sh(clone, "tool; cat a"), "good\n");
    await clone.delete();
    await workspace.start();
    assert.equal(await sh(workspace, "tool; cat a"), "good\n");
    await workspace.delete();
    await untilAtRest(home, () => ({ vms: 0, runs: 0, workspaces: 0 }));
  }
  await untilNothingRuns(home);
});
