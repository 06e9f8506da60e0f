// Snapshots and resets on disk, without any microVM: what is torn is nothing, what was decided is finished, and records of an
// older pyro are read.
import assert from "node:assert/strict";
import { access, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { type Paths, pathsFor } from "../../../../src/engine/paths.ts";
import { unreadableRecord } from "../../../../src/engine/workspace/description.ts";
import { Ledger } from "../../../../src/engine/workspace/ledger.ts";
import type { WorkspaceContext } from "../../../../src/engine/workspace/life.ts";
import { cloneRecord } from "../../../../src/engine/workspace/lifecycle.ts";
import {
  findWorkspaces,
  layoutOf,
  makeWorkspaceDirectory,
  type StoredWorkspace,
  storedWorkspace,
  writeWorkspace,
} from "../../../../src/engine/workspace/record.ts";
import { finishReset } from "../../../../src/engine/workspace/reset.ts";
import { Snapshots } from "../../../../src/engine/workspace/snapshots.ts";
import { Workspaces } from "../../../../src/engine/workspace/workspaces.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import { newWorkspaceId } from "../../../../src/wire/ids.ts";

let home: string;
let paths: Paths;
let ledger: Ledger;

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "pyro-snapshots-"));
  paths = pathsFor({ PYRO_HOME: home }, 0);
  await findWorkspaces(paths);
  ledger = await stored();
});

afterEach(async () => await rm(home, { recursive: true, force: true }));

async function stored(change: Partial<StoredWorkspace> = {}): Promise<Ledger> {
  const id = newWorkspaceId();
  const directory = await makeWorkspaceDirectory(paths, id);
  const record = { ...unreadableRecord(id, ""), state: "stopped", failure: null, ...change } as StoredWorkspace;
  await writeWorkspace(directory, record, { durable: false });
  await writeFile(layoutOf(directory).disk, "now");
  return new Ledger(record, directory);
}

const disk = (text: string) => (to: string) => writeFile(to, text);
const names = async (snapshots: Snapshots) =>
  (await snapshots.list({ limit: 100 })).snapshots.map(({ snapshot_name }) => snapshot_name);
const isThere = (path: string) =>
  access(path).then(
    () => true,
    () => false,
  );

test("snapshots are found as they were made, in that order, behind a baseline that is always there", async () => {
  const snapshots = await Snapshots.open(ledger);
  assert.deepEqual(await names(snapshots), ["baseline"]);
  for (const name of ["z", "a", "m"]) {
    const made = await snapshots.create(name, undefined, disk(name));
    assert.deepEqual([made.snapshot_name, made.kind], [name, "named"]);
    assert.ok(made.bytes >= 512, String(made.bytes));
  }
  const found = await Snapshots.open(ledger);
  assert.deepEqual(await names(found), ["baseline", "z", "a", "m"]);
  assert.equal(found.count, 3);
  const page = await found.list({ limit: 2 });
  const rest = await found.list({ limit: 2, cursor: page.next_cursor ?? "" });
  assert.deepEqual(
    [...page.snapshots, ...rest.snapshots].map(({ snapshot_name }) => snapshot_name),
    ["baseline", "z", "a", "m"],
  );
  assert.equal(rest.next_cursor, null);
  await assert.rejects(found.list({ limit: 1, cursor: "x" }), { code: "CURSOR_INVALID" });
  await found.delete("a");
  await found.create("b", undefined, disk("b"));
  assert.deepEqual(await names(await Snapshots.open(ledger)), ["baseline", "z", "m", "b"]);
});

test("names are checked, and the baseline is a disk or nothing but a size", async () => {
  const snapshots = await Snapshots.open(ledger);
  await snapshots.create("before", "rq_aaaaaaaaaa", disk("1"));
  await assert.rejects(snapshots.create("before", "rq_bbbbbbbbbb", disk("2")), { code: "SNAPSHOT_EXISTS" });
  await assert.rejects(snapshots.create("before", undefined, disk("2")), { code: "SNAPSHOT_EXISTS" });
  // A call that is made again finds what it made.
  assert.equal((await snapshots.create("before", "rq_aaaaaaaaaa", disk("3"))).snapshot_name, "before");
  const source = snapshots.source("before");
  assert.ok(source !== "pristine");
  assert.equal(await readFile(source.diskPath, "utf8"), "1");
  assert.throws(
    () => snapshots.source("befor"),
    (thrown) => thrown instanceof PyroError && thrown.code === "SNAPSHOT_NOT_FOUND" && /before/.test(thrown.message),
  );
  assert.equal(snapshots.source("baseline"), "pristine");
  const seeded = await stored({ baseline: "disk" });
  assert.deepEqual((await Snapshots.open(seeded)).source("baseline"), {
    diskPath: layoutOf(seeded.directory).baseline,
  });
  await assert.rejects(snapshots.delete("after"), { code: "SNAPSHOT_NOT_FOUND" });
  await assert.rejects(snapshots.delete("../../x"), { code: "SNAPSHOT_NOT_FOUND" });
});

test("one that cannot be made leaves nothing, and its name is free", async () => {
  const snapshots = await Snapshots.open(ledger);
  const full = new PyroError("HOST_DISK_FULL", "no");
  const half = async (to: string) => {
    await writeFile(to, "half");
    throw full;
  };
  await assert.rejects(snapshots.create("a", undefined, half), full);
  assert.deepEqual(await readdir(layoutOf(ledger.directory).snapshots), []);
  await snapshots.create("a", undefined, disk("whole"));
});

test("a torn one is nothing and goes; a damaged one is not listed, in the way, and can be deleted", async () => {
  const { snapshots: place } = layoutOf(ledger.directory);
  await mkdir(join(place, "torn"), { recursive: true });
  await writeFile(join(place, "torn", "disk.ext4"), "half");
  const made = await Snapshots.open(ledger);
  assert.equal(made.foundTorn, true);
  await made.create("cut", undefined, disk("x"));
  await made.create("bare", undefined, disk("x"));
  await writeFile(join(place, "cut", "snapshot.json"), '{"schema_ver');
  await rm(join(place, "bare", "disk.ext4"));
  const snapshots = await Snapshots.open(ledger);
  assert.equal(snapshots.foundTorn, false);
  assert.deepEqual(await names(snapshots), ["baseline"]);
  assert.deepEqual((await readdir(place)).sort(), ["bare", "cut"]);
  for (const name of ["cut", "bare"]) {
    await assert.rejects(snapshots.create(name, undefined, disk("y")), /damaged/);
    await snapshots.delete(name);
    await snapshots.create(name, undefined, disk("y"));
  }
});

test("a reset that was decided is finished, however far it came", async () => {
  for (const [hasNext, state, stopReason] of [
    [true, "started", null],
    [false, "started", null],
    [true, "stopped", "stopped"],
    [true, "failed", null],
  ] as const) {
    const resetting = { snapshot_name: "a", request_id: "rq_aaaaaaaaaa" };
    const one = await stored({ state, stop_reason: stopReason, resetting, reset_count: 2 });
    const layout = layoutOf(one.directory);
    await mkdir(join(layout.commands, "00000001"));
    await mkdir(join(layout.services, "x"), { recursive: true });
    if (hasNext) await writeFile(layout.nextDisk, "then");
    const change = await finishReset(one);
    assert.equal(await readFile(layout.disk, "utf8"), hasNext ? "then" : "now");
    assert.equal(await isThere(layout.nextDisk), false);
    assert.deepEqual(await readdir(layout.commands), []);
    assert.equal(await isThere(layout.services), false);
    assert.deepEqual(
      [change.resetting, change.reset_count, change.last_reset_request, change.state, change.stop_reason],
      [null, 3, "rq_aaaaaaaaaa", "stopped", stopReason ?? "lost"],
    );
  }
});

test("the next daemon ends the microVM, finishes the reset, and clears away what was half made", async () => {
  const resetting = { snapshot_name: "baseline", request_id: null };
  const decided = await stored({ state: "started", machine_id: "m1", resetting });
  await writeFile(layoutOf(decided.directory).nextDisk, "then");
  const begun = await stored();
  await writeFile(layoutOf(begun.directory).nextDisk, "half");
  await writeFile(join(begun.directory, "workspace.json.0123456789ab.tmp"), "{");
  // Asked to stop, and gone before the daemon could say so.
  const stopping = await stored({ state: "started", machine_id: "m2", stop_reason: "stopped" });
  const killed: string[] = [];
  const calls = { killVm: async ({ vmId }: { vmId: string }) => void killed.push(vmId) };
  const workspaces = new Workspaces({
    paths,
    preparation: { hold: () => () => {} },
    launcher: { call: async (method: (made: unknown, options: unknown) => Promise<unknown>) => method(calls, {}) },
  } as unknown as WorkspaceContext);
  const of = decided.record.workspace_id;
  await workspaces.adopt(new Map([["m1", { running: true, labels: { workspace: of } }]]) as never);
  assert.deepEqual(killed, ["m1"]);
  const reset = await workspaces.get(of).describe();
  assert.deepEqual([reset.state, reset.stop_reason, reset.reset_count], ["stopped", "lost", 1]);
  assert.equal(await readFile(layoutOf(decided.directory).disk, "utf8"), "then");
  assert.deepEqual(
    (await readdir(begun.directory)).filter((name) => /next|tmp/.test(name)),
    [],
  );
  assert.equal(await readFile(layoutOf(begun.directory).disk, "utf8"), "now");
  const stopped = await workspaces.get(stopping.record.workspace_id).describe();
  assert.deepEqual([stopped.state, stopped.stop_reason], ["stopped", "stopped"]);
});

test("a record of an older pyro is read, with nothing reset", async () => {
  const { reset_count, last_reset_at, last_reset_request, resetting, ...older } = ledger.record;
  assert.deepEqual([reset_count, last_reset_at, last_reset_request, resetting], [0, null, null, null]);
  assert.deepEqual(storedWorkspace.parse(older), ledger.record);
});

test("a clone has the settings of the other and nothing of its own", () => {
  const image = { digest: "sha256:1", env: { A: "b" } };
  const identity = { hostname: "pyro-1", machineId: "0".repeat(32) };
  const of = { ...ledger.record, name: "a", labels: { k: "v" }, env: { X: "y" }, image, identity, reset_count: 3 };
  const clone = cloneRecord({ ...of, baseline: "disk" }, newWorkspaceId(), null);
  assert.deepEqual(
    [clone.name, clone.labels, clone.env, clone.image, clone.baseline, clone.reset_count, clone.state],
    [null, { k: "v" }, { X: "y" }, image, "disk", 0, "creating"],
  );
  assert.notEqual(clone.identity?.hostname, identity.hostname);
  assert.notEqual(clone.identity?.machineId, identity.machineId);
  assert.deepEqual(storedWorkspace.parse(clone), clone);
});
