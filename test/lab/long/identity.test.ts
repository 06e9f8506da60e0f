// Ten workspaces at once of one snapshot are ten machines: nothing that should be their own is shared.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Pyro } from "pyro-mcp";
import { ownHome, VMM } from "../../vm/harness.ts";
import { checkLab, STEP_MS } from "../lab.ts";

const COUNT = 10;
const FACTS = [
  "cat /etc/machine-id",
  "hostname",
  "cat /proc/sys/kernel/random/boot_id",
  "head -c 32 /dev/urandom | sha256sum",
  "python3 -c 'import os, random; print(os.getrandom(16).hex()); print(random.random())'",
  "cat /proc/sys/kernel/random/uuid",
].join("; ");
const LINES = 7;

test(`${COUNT} workspaces at once of one snapshot`, { timeout: COUNT * STEP_MS }, async () => {
  checkLab();
  await using home = await ownHome({ templates: true });
  await using pyro = new Pyro({ home: home.path });
  // With as little memory as will do: the lab has 8 GiB.
  const create = () => pyro.createWorkspace({ memMib: 384, diskMib: 1024 });
  const first = await create();
  const workspaces = [first, ...(await Promise.all(Array.from({ length: COUNT - 1 }, create)))];
  assert.equal((await home.processes(VMM)).length, COUNT);
  const lines: string[] = [];
  // One after another: ten Pythons at once on the lab's two processors leave no guest time to answer.
  for (const workspace of workspaces) {
    const { stdout } = await workspace.exec(["sh", "-c", FACTS]);
    const own = stdout.trimEnd().split("\n");
    assert.equal(own.length, LINES, stdout);
    lines.push(...own);
  }
  assert.equal(new Set(lines).size, COUNT * LINES, lines.join("\n"));
  await Promise.all(workspaces.map((workspace) => workspace.delete()));
});
