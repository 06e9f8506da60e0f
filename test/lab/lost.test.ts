// Firecracker killed under a command: the command is lost, the workspace is not.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ownHome, untilGone, VMM } from "../vm/harness.ts";
import { Workspaces } from "../vm/workspaces.ts";
import { checkLab, STEP_MS, vmmOf } from "./lab.ts";

test("Firecracker killed under a command: it is lost, the workspace is not", { timeout: 5 * STEP_MS }, async () => {
  checkLab();
  await using home = await ownHome({ templates: true });
  await using workspace = await new Workspaces(home.env).create();
  await workspace.sh("echo kept > /workspace/kept; sync");
  const command = workspace.startExec(["sh", "-c", "echo begun; sleep 300"]);
  await command.untilOutput("begun");
  process.kill(await vmmOf(home), "SIGKILL");
  const { status } = await command.finished;
  assert.notEqual(status, 0);
  const { state, stop_reason } = await workspace.untilState("stopped");
  assert.deepEqual([state, stop_reason], ["stopped", "lost"]);
  await untilGone(() => home.processes(VMM));
  assert.equal(await workspace.ok(["cat", "/workspace/kept"]), "kept\n");
});
