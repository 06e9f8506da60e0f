// What goes wrong with Firecracker has a clear outcome and loses nothing: its API's socket is gone, a snapshot is damaged, or made by another version, or one that this version does not take.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFile, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { findProgram } from "../../../src/host/resources.ts";
import { flipByte } from "../../vm/faulty.ts";
import { type OwnHome, ownHome, pyro, untilGone, VMM } from "../../vm/harness.ts";
import { untilAtRest } from "../../vm/remains.ts";
import { scratch, type Workspace, Workspaces } from "../../vm/workspaces.ts";
import { checkLab, STEP_MS, vmmOf } from "../lab.ts";

let home: OwnHome;
let all: Workspaces;

before(async () => {
  checkLab();
  home = await ownHome({ templates: false });
  all = new Workspaces(home.env);
});

after(async () => {
  await home[Symbol.asyncDispose]();
});

async function kept(workspace: Workspace): Promise<void> {
  assert.equal(await workspace.ok(["cat", "/workspace/kept"]), "kept\n");
}

async function withFile(): Promise<Workspace> {
  const workspace = await all.create();
  await workspace.sh("echo kept > /workspace/kept; sync");
  return workspace;
}

test("the API's socket gone: what runs goes on, and it can be deleted", { timeout: 5 * STEP_MS }, async () => {
  await using workspace = await withFile();
  const pid = await vmmOf(home);
  await rm(`/proc/${pid}/root/api.sock`);
  await kept(workspace);
  // Nothing needs it to end a microVM.
  await all.ask(["update", workspace.id, "--ttl-seconds", "1"]);
  await workspace.untilState("stopped");
  await untilGone(() => home.processes(VMM));
  await kept(workspace);
});

test("the guest's sockets gone: told in time, and nothing lost", { timeout: 5 * STEP_MS }, async () => {
  await using workspace = await withFile();
  const pid = await vmmOf(home);
  await rm(`/proc/${pid}/root/v.sock`);
  // The daemon's connection was made before; another one has none, and cannot get any.
  await pyro(["daemon", "stop"], { env: home.env });
  // Another daemon is begun by whoever comes; on a busy machine it takes more than the first caller waits.
  for (let tries = 0; (await all.finish(["status", workspace.id])).status !== 0; tries++) assert.ok(tries < 5);
  const { status, stderr } = await workspace.exec(["true"]);
  assert.notEqual(status, 0);
  assert.match(stderr.toString(), /guest/);
  process.kill(pid, "SIGKILL");
  await workspace.untilState("stopped");
  await kept(workspace);
});

async function template(): Promise<string> {
  const keys = (await readdir(home.paths.templates)).filter((name) => !name.startsWith("."));
  for (const key of keys) {
    const { memory_bytes } = JSON.parse(await readFile(join(home.paths.templates, key, "template.json"), "utf8"));
    if (memory_bytes === 1024 * 2 ** 20) return join(home.paths.templates, key);
  }
  throw new Error(`no template of 1024 MiB in ${keys.join(", ")}`);
}

/** A workspace that is stopped, then started again with the template as `damage` leaves it. */
async function rebuilt(damage: (directory: string) => Promise<void>): Promise<void> {
  await using workspace = await withFile();
  await all.ask(["update", workspace.id, "--ttl-seconds", "1"]);
  await workspace.untilState("stopped");
  const directory = await template();
  const made = async () => (await stat(join(directory, "template.json"))).mtimeMs;
  const before = await made();
  await damage(directory);
  await kept(workspace);
  assert.notEqual(await made(), before, "the damaged template was kept");
  await all.ask(["update", workspace.id, "--ttl-seconds", "3600"]);
}

for (const part of ["state", "memory"] as const) {
  // Without a stop of the launcher in between: what it found good is looked at again when it was touched.
  test(`a snapshot with one byte of its ${part} changed is made again`, { timeout: 5 * STEP_MS }, async () => {
    await rebuilt((directory) => flipByte(join(directory, part)));
  });
}

test("a snapshot that Firecracker does not take is made again", { timeout: 5 * STEP_MS }, async () => {
  await rebuilt(async (directory) => {
    // As one of another version would be: whole, by its record, and of no use.
    const state = await readFile(join(directory, "state"));
    state.fill(0xff, 0, 16);
    await rm(join(directory, "state"));
    await writeFile(join(directory, "state"), state, { mode: 0o444 });
    const path = join(directory, "template.json");
    const record = JSON.parse(await readFile(path, "utf8"));
    record.state_sha256 = createHash("sha256").update(state).digest("hex");
    await writeFile(path, JSON.stringify(record));
  });
});

test("another Firecracker gets a template of its own, and takes the workspace's disk", {
  timeout: 6 * STEP_MS,
}, async () => {
  await using workspace = await withFile();
  await all.ask(["update", workspace.id, "--ttl-seconds", "1"]);
  await workspace.untilState("stopped");
  const before = await readdir(home.paths.templates);
  await using place = await scratch();
  const original = (await findProgram("firecracker")) ?? "";
  for (const name of ["firecracker", "jailer"]) await copyFile(join(dirname(original), name), join(place.path, name));
  await pyro(["daemon", "stop"], { env: home.env });
  const env = { PYRO_FIRECRACKER: join(place.path, "firecracker") };
  assert.equal(await workspace.ok(["cat", "/workspace/kept"], { env }), "kept\n");
  const now = await readdir(home.paths.templates);
  assert.equal(now.length, before.length + 1, "it went by the other one's template");
});

test("nothing is left of all that", { timeout: STEP_MS }, async () => {
  await untilAtRest(home, () => ({ vms: 0, runs: 0, workspaces: 0 }));
});
