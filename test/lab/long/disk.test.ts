// The disk of a stopped workspace on Firecracker, whose drives cannot be made read-only: what is looked at is a copy, in a jail
// of its own.
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Pyro } from "pyro-mcp";
import { ownHome, sha256 } from "../../vm/harness.ts";
import { untilAtRest } from "../../vm/remains.ts";
import { checkLab, STEP_MS, vmmOf } from "../lab.ts";

test("a disk that is clean and one that was lost are read, and stay as they were", {
  timeout: 8 * STEP_MS,
}, async () => {
  checkLab();
  await using home = await ownHome({ templates: true });
  await using pyro = new Pyro({ home: home.path });
  const workspace = await pyro.createWorkspace({ diskMib: 256, ttlSeconds: 1 });
  const untilStopped = async () => {
    while ((await workspace.status()).state !== "stopped") await sleep(500);
  };
  await workspace.exec(["sh", "-c", "rm /etc/issue; echo kept >/usr/local/kept; sync"]);
  await untilStopped();
  const disk = join(home.paths.workspaces, workspace.workspaceId, "disk.ext4");
  const digest = async () => sha256(await readFile(disk));
  const before = await digest();
  assert.equal((await workspace.disk.read("/usr/local/kept")).content, "kept\n");
  const { entries } = await workspace.disk.list("/etc");
  assert.ok(entries.length > 20 && !entries.some(({ path }) => path === "/etc/issue"));
  assert.equal(await digest(), before, "looking at it wrote to it");

  await workspace.update({ ttlSeconds: 3600 });
  await workspace.exec(["sh", "-c", "echo more >/usr/local/more; sync; echo lost >/usr/local/lost"]);
  process.kill(await vmmOf(home), "SIGKILL");
  await untilStopped();
  assert.equal((await workspace.disk.read("/usr/local/more")).content, "more\n");
  await untilAtRest(home, () => ({ vms: 0, runs: 0, workspaces: 1 }), STEP_MS);
  assert.deepEqual(await readdir(home.paths.inspections), []);
  assert.equal((await workspace.exec(["cat", "/usr/local/kept"])).stdout, "kept\n");
  await workspace.delete();
});
