// A prune that fails midway: what lies ready on an image that has gone goes too.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { UNARY } from "../../../src/daemon/dispatch.ts";
import type { Engine } from "../../../src/engine/engine.ts";
import { pathsFor } from "../../../src/engine/paths.ts";
import { layout } from "../../../src/environments/layout.ts";
import { EnvironmentStore } from "../../../src/environments/store.ts";

test("microVMs that lie ready are given up although the prune fails behind its images", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "prune-"));
  t.after(() => rm(directory, { recursive: true }));
  const other = await mkdtemp("/dev/shm/prune-");
  t.after(() => rm(other, { recursive: true }));
  if ((await stat(other)).dev === (await stat(directory)).dev) return t.skip("/dev/shm is no file system of its own");
  const paths = pathsFor({ PYRO_HOME: directory }, 0);
  await mkdir(layout.image(paths, "ab".repeat(32)), { recursive: true });
  // Logs that lie on another file system cannot be moved away.
  await symlink(other, layout.logs(paths));
  await writeFile(layout.log(paths, "debian:12"), "log");
  let drained = 0;
  const engine = {
    environments: new EnvironmentStore(paths, "/nowhere", "/nowhere"),
    pool: { drain: async () => void drained++ },
  };
  const prune = (dry_run: boolean) =>
    UNARY["env.prune"](engine as unknown as Engine, { all: false, dry_run }, AbortSignal.timeout(10_000));

  assert.equal((await prune(true)).removed.length, 2);
  assert.equal(drained, 0);
  await assert.rejects(prune(false), /EXDEV/);
  assert.deepEqual(await readdir(layout.images(paths)), []);
  assert.equal(drained, 1);
  await rm(layout.logs(paths));
  assert.deepEqual((await prune(false)).removed, []);
  assert.equal(drained, 1);
});
