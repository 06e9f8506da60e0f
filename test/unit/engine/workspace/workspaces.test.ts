// All workspaces of a home without any microVM: creations that fail or meet, deletions, and what a new daemon finds.
import assert from "node:assert/strict";
import { access, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { type Paths, pathsFor } from "../../../../src/engine/paths.ts";
import { unreadableRecord } from "../../../../src/engine/workspace/description.ts";
import type { WorkspaceContext } from "../../../../src/engine/workspace/life.ts";
import {
  makeWorkspaceDirectory,
  type StoredWorkspace,
  writeWorkspace,
} from "../../../../src/engine/workspace/record.ts";
import { Workspaces } from "../../../../src/engine/workspace/workspaces.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import { parseInput } from "../../../../src/operations/check.ts";
import { OPERATIONS, type ParsedInputOf } from "../../../../src/operations/table.ts";
import { newWorkspaceId } from "../../../../src/wire/ids.ts";

let home: string;
let paths: Paths;
let prepare: (signal: AbortSignal) => Promise<never>;
let prepared: number;
const killed: string[] = [];
const held: string[] = [];

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "pyro-workspaces-"));
  paths = pathsFor({ PYRO_HOME: home }, 0);
  prepared = 0;
  killed.length = 0;
  held.length = 0;
  prepare = async () => {
    throw new PyroError("REGISTRY_UNREACHABLE", "no");
  };
});

afterEach(async () => await rm(home, { recursive: true, force: true }));

function context(): WorkspaceContext {
  const calls = {
    killVm: async ({ vmId }: { vmId: string }) => void killed.push(vmId),
  };
  return {
    paths,
    preparation: {
      prepare: async (_shape: unknown, _progress: unknown, signal: AbortSignal) => {
        prepared++;
        return await prepare(signal);
      },
      hold: (digest: string) => {
        held.push(digest);
        return () => held.splice(held.indexOf(digest), 1);
      },
    },
    machines: { begin: () => () => {} },
    launcher: { call: async (method: (made: unknown, options: unknown) => Promise<unknown>) => method(calls, {}) },
  } as unknown as WorkspaceContext;
}

async function opened(known = new Map()): Promise<Workspaces> {
  const workspaces = new Workspaces(context());
  await workspaces.adopt(known);
  return workspaces;
}

function create(workspaces: Workspaces, workspaceId: string, signal = new AbortController().signal, more: object = {}) {
  const input = parseInput(OPERATIONS["workspace.create"], more) as ParsedInputOf<"workspace.create">;
  const request = { workspaceId, input, upload: undefined, progress: () => {}, prepared: () => {}, signal };
  return workspaces.create(request);
}

async function stored(change: object = {}): Promise<string> {
  await mkdir(paths.workspaces, { recursive: true });
  const id = newWorkspaceId();
  const directory = await makeWorkspaceDirectory(paths, id);
  const record = { ...unreadableRecord(id, ""), state: "stopped", failure: null, ...change } as StoredWorkspace;
  await writeWorkspace(directory, record, { durable: false });
  return id;
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

test("calls with one id meet: one is made at a time, and nothing of those that fail is left", {
  timeout: 10_000,
}, async () => {
  const workspaces = await opened();
  const id = newWorkspaceId();
  const calls = await Promise.allSettled([1, 2, 3].map(() => create(workspaces, id, undefined, { name: "n" })));
  for (const call of calls) assert.equal(call.status === "rejected" && call.reason.code, "REGISTRY_UNREACHABLE");
  assert.equal(prepared, 3);
  assert.deepEqual(await readdir(paths.workspaces), []);
});

test("a daemon that stops gives up what is being created, and waits until nothing of it is left", {
  timeout: 10_000,
}, async () => {
  const workspaces = await opened();
  prepare = untilAborted;
  const creation = create(workspaces, newWorkspaceId());
  const refused = assert.rejects(creation, { code: "CANCELLED" });
  while (prepared === 0) await new Promise(setImmediate);
  await workspaces.release();
  assert.deepEqual(await readdir(paths.workspaces), []);
  await refused;
  await assert.rejects(create(workspaces, newWorkspaceId()), { code: "CANCELLED" });
});

test("updates at once are both there", async () => {
  const id = await stored({ labels: { a: "1" } });
  const workspaces = await opened();
  const update = (labels: object) =>
    workspaces.update(
      parseInput(OPERATIONS["workspace.update"], {
        workspace_id: id,
        labels,
      }) as ParsedInputOf<"workspace.update">,
    );
  await Promise.all([update({ b: "2" }), update({ c: "3" })]);
  assert.deepEqual(workspaces.get(id).labels, { a: "1", b: "2", c: "3" });
  assert.deepEqual((await opened()).get(id).labels, { a: "1", b: "2", c: "3" });
});

test("one that cannot be taken up hides no other, keeps its image, and its microVM ends with it", async () => {
  const broken = await stored({ image: { digest: "d".repeat(64), env: {} } });
  await rm(join(paths.workspaces, broken, "commands"), { recursive: true });
  const sound = await stored();
  const known = new Map([["vm_of_it", { running: true, labels: { workspace: broken } }]]);
  const workspaces = await opened(known);
  assert.equal(workspaces.get(sound).state, "stopped");
  assert.match(workspaces.get(broken).failure?.message ?? "", /cannot be taken up/);
  assert.ok(held.includes("d".repeat(64)));
  assert.equal(known.size, 0);
  await workspaces.delete(broken);
  assert.deepEqual(killed, ["vm_of_it"]);
  await assert.rejects(access(join(paths.workspaces, broken)));
});

test("a microVM that is labelled as another's is not taken up by a record that names it", async () => {
  const id = await stored({ state: "started", machine_id: "vm_x" });
  const known = new Map([["vm_x", { running: true, labels: { workspace: newWorkspaceId() } }]]);
  const workspaces = await opened(known);
  assert.equal(workspaces.get(id).state, "stopped");
  assert.equal(known.size, 1);
});

test("a deletion that fails is told, and can be asked for again", async () => {
  const id = await stored();
  const workspaces = await opened();
  const away = paths.workspaces;
  Object.assign(paths, { workspaces: join(home, "elsewhere") });
  await assert.rejects(workspaces.delete(id));
  assert.equal(workspaces.get(id).failure?.stage, "delete");
  Object.assign(paths, { workspaces: away });
  await workspaces.delete(id);
  assert.throws(() => workspaces.get(id), { code: "WORKSPACE_NOT_FOUND" });
  await assert.rejects(access(join(away, id)));
});

test("a page of a hundred is made in little time", async (context) => {
  for (let at = 0; at < 100; at++) await stored({ created_at: new Date(at).toISOString() });
  const workspaces = await opened();
  const input = parseInput(OPERATIONS["workspace.list"], {}) as ParsedInputOf<"workspace.list">;
  const times: number[] = [];
  for (let at = 0; at < 20; at++) {
    const from = performance.now();
    assert.equal((await workspaces.list(input)).workspaces.length, 100);
    times.push(performance.now() - from);
  }
  times.sort((a, b) => a - b);
  context.diagnostic(`list of 100: median ${times[10]?.toFixed(2)} ms, most ${times[19]?.toFixed(2)} ms`);
});
