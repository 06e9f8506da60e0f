// The disk of a stopped workspace when something fails: lost with its host or damaged it does no harm, an inspector that
// is killed has a clear end, and nothing of it is left.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { open, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import type { OutputOf } from "../../../src/operations/table.ts";
import { ownHome } from "../harness.ts";
import { processesAt, untilAtRest } from "../remains.ts";
import { scratch, Workspaces } from "../workspaces.ts";

type Exported = OutputOf<"workspace.disk_export">;

const isRoot = process.getuid?.() === 0;
const NEEDS_ROOT = "mounting the image takes root";
const sh = promisify(execFile);

test("lost with its host, damaged, or its inspector killed: each has a clear end, and nothing is left", {
  timeout: 500_000,
}, async (context) => {
  if (!isRoot) return context.skip(NEEDS_ROOT);
  await using home = await ownHome({ templates: true });
  await using out = await scratch();
  const all = new Workspaces(home.env);
  await using workspace = await all.create();
  const image = join(out.path, "image.ext4");
  const nothingLeft = async (names: readonly string[] = []) => {
    await untilAtRest(home, () => ({ vms: 0, runs: 0, workspaces: 1 }));
    assert.deepEqual(await readdir(home.paths.inspections), []);
    assert.deepEqual(await readdir(out.path), names);
  };
  const kill = async (kind: string) => {
    for (const found of await processesAt(home)) if (found.kind === kind) process.kill(found.pid, "SIGKILL");
  };

  // In the middle of writing.
  // With less to be exported than a whole system has.
  await workspace.sh("echo kept >/usr/local/kept; rm -r /etc/issue /usr/share; sync");
  await workspace.sh(
    "(while :; do echo more >>/usr/local/log; cp -r /etc /usr/local/etc$((n += 1)); done) >/dev/null 2>&1 & sleep 3",
  );
  await kill("vmm");
  assert.deepEqual((await workspace.untilState("stopped")).stop_reason, "lost");
  const read = await all.finish(["disk", "read", workspace.id, "/usr/local/kept", "--content-only"]);
  assert.equal(read.stdout.toString(), "kept\n", read.stderr.toString());
  const exported = await all.ask<Exported>(["disk", "export", workspace.id, "--output", image]);
  assert.ok(exported.entry_count > 2000);
  await sh("sh", ["-c", `PATH=$PATH:/sbin:/usr/sbin; e2fsck -fn '${image}'`]);
  const looked = `mount -o loop,ro '${image}' /mnt && cat /mnt/usr/local/kept && test ! -e /mnt/etc/issue`;
  await sh("sh", ["-c", `unshare -m sh -c "${looked}"`]);
  await nothingLeft(["image.ext4"]);
  await rm(image);

  // Its inspector, then its daemon, are killed in the middle of an export.
  for (const [kind, code] of [
    ["vmm", "MICROVM_LOST"],
    ["daemon", "DAEMON_UNREACHABLE"],
  ] as const) {
    const exporting = all.start(["disk", "export", workspace.id, "--json", "--output", image]);
    while (!(await fillingIn(home.paths.inspections))) {
      assert.equal(exporting.child.exitCode, null, "it ended before it copied");
      await sleep(50);
    }
    await kill(kind);
    const { status, stdout } = await exporting.finished;
    assert.notEqual(status, 0);
    assert.match(stdout.toString(), new RegExp(code), stdout.toString());
    await all.status(workspace.id);
    await nothingLeft();
  }
  assert.equal(await workspace.ok(["cat", "/usr/local/kept"]), "kept\n");

  // Damaged: what holds the file system together, then what holds its files.
  await all.ask(["stop", workspace.id]);
  const path = join(home.paths.workspaces, workspace.id, "disk.ext4");
  const whole = join(home.path, "whole");
  await sh("sh", ["-c", `cp --sparse=always '${path}' '${whole}'`]);
  for (const [from, bytes] of [
    [0, 4096],
    [4096, 64 << 20],
  ] as const) {
    const file = await open(path, "r+");
    for (let at = 0; at < bytes; at += 1 << 20) {
      await file.write(randomBytes(Math.min(1 << 20, bytes - at)), 0, undefined, from + at);
    }
    await file.close();
    const told = await all.refused(["disk", "list", workspace.id, "/usr/local"], "DISK_DAMAGED");
    assert.match(told.message, /cannot be (mounted|read)/);
    await sh("sh", ["-c", `cp --sparse=always '${whole}' '${path}'`]);
  }
  await all.ask(["disk", "read", workspace.id, "/usr/local/kept"]);
  await all.ask(["reset", workspace.id]);
  // Who looked at the disk that was is not asked about the one that is.
  await all.refused(["disk", "read", workspace.id, "/usr/local/kept"], "FILE_NOT_FOUND");
  await all.ask(["start", workspace.id]);
  assert.deepEqual(await readdir(home.paths.inspections), []);
  await all.refused(["disk", "list", workspace.id], "WORKSPACE_STATE");
});

/** An export is under way as soon as its image takes more than an empty one does. */
async function fillingIn(directory: string): Promise<boolean> {
  for (const name of await readdir(directory).catch(() => [])) {
    if (!name.startsWith("work-")) continue;
    for (const file of await readdir(join(directory, name)).catch(() => [])) {
      const image = await open(join(directory, name, file)).catch(() => undefined);
      const blocks = (await image?.stat())?.blocks ?? 0;
      await image?.close();
      if (blocks * 512 > 12 << 20) return true;
    }
  }
  return false;
}
