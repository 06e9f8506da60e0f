import assert from "node:assert/strict";
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Paths, pathsFor } from "../../../../src/engine/paths.ts";
import { unreadableRecord } from "../../../../src/engine/workspace/description.ts";
import {
  findWorkspaces,
  makeWorkspaceDirectory,
  removeWorkspaceDirectory,
  type StoredWorkspace,
  WORKSPACE_SCHEMA_VERSION,
  writeWorkspace,
} from "../../../../src/engine/workspace/record.ts";
import { newWorkspaceId } from "../../../../src/wire/ids.ts";

async function withHome(work: (paths: Paths) => Promise<void>): Promise<void> {
  const home = await mkdtemp(join(tmpdir(), "pyro-records-"));
  try {
    const paths = pathsFor({ PYRO_HOME: home }, 0);
    assert.deepEqual(await findWorkspaces(paths), []);
    await work(paths);
  } finally {
    await rm(home, { recursive: true, force: true });
  }
}

async function stored(paths: Paths, change: object = {}): Promise<{ id: string; directory: string }> {
  const id = newWorkspaceId();
  const directory = await makeWorkspaceDirectory(paths, id);
  const record = { ...unreadableRecord(id, ""), state: "stopped", failure: null, ...change } as StoredWorkspace;
  await writeWorkspace(directory, record, { durable: true });
  return { id, directory };
}

test("a workspace is found as it was written", () =>
  withHome(async (paths) => {
    const { id, directory } = await stored(paths, { name: "a", labels: { k: "v" } });
    const [found, ...others] = await findWorkspaces(paths);
    assert.equal(others.length, 0);
    assert.equal(found?.workspaceId, id);
    assert.equal(found?.directory, directory);
    assert.equal(found?.unusable, undefined);
    assert.deepEqual([found?.record?.name, found?.record?.labels], ["a", { k: "v" }]);
  }));

test("a record of a newer version, and a damaged one, stand for workspaces that are not touched", () =>
  withHome(async (paths) => {
    const newer = await stored(paths, { schema_version: WORKSPACE_SCHEMA_VERSION + 1, something: "new" });
    const cut = await stored(paths);
    const odd = await stored(paths, { state: "burning" });
    const other = await stored(paths, { workspace_id: newWorkspaceId() });
    await writeFile(join(cut.directory, "workspace.json"), '{"schema_version": 1, "works');
    const lost = await stored(paths);
    await rm(join(lost.directory, "workspace.json"));
    await writeFile(join(lost.directory, "disk.ext4"), "files");
    const before = await readFile(join(newer.directory, "workspace.json"), "utf8");
    const found = new Map((await findWorkspaces(paths)).map((one) => [one.workspaceId, one]));
    assert.match(found.get(lost.id)?.unusable ?? "", /missing/);
    assert.match(found.get(newer.id)?.unusable ?? "", /newer pyro \(schema 2/);
    for (const { id } of [cut, odd, other]) assert.match(found.get(id)?.unusable ?? "", /damaged/);
    for (const one of found.values()) assert.equal(one.record, undefined);
    assert.equal(await readFile(join(newer.directory, "workspace.json"), "utf8"), before);
  }));

test("what was never finished, and what was deleted by half, is removed; what is nobody's stays", () =>
  withHome(async (paths) => {
    const unfinished = newWorkspaceId();
    await makeWorkspaceDirectory(paths, unfinished);
    await mkdir(join(paths.workspaces, `.deleted-${newWorkspaceId()}`, "commands"), { recursive: true });
    await mkdir(join(paths.workspaces, "mine"));
    assert.deepEqual(await findWorkspaces(paths), []);
    assert.deepEqual(await readdir(paths.workspaces), ["mine"]);
  }));

test("removing one leaves nothing, also when a part of it is gone already", () =>
  withHome(async (paths) => {
    const { id } = await stored(paths);
    const { id: kept } = await stored(paths);
    await removeWorkspaceDirectory(paths, id);
    await removeWorkspaceDirectory(paths, id);
    assert.deepEqual(await readdir(paths.workspaces), [kept]);
  }));
