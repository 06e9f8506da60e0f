// A workspace that is broken and put back, stopped and started, cloned: from the SDK and over MCP, with what must be there
// afterwards and what must not.
import assert from "node:assert/strict";
import { cp, mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { type ErrorCode, Pyro, PyroError, type Workspace } from "pyro-mcp";
import { pathsFor } from "../../src/engine/paths.ts";
import { unpackedPackage } from "../debian-package.ts";
import { countFrom } from "../seed.ts";
import { within } from "./faulty.ts";
import { PYRO, ROOT, sharedHome } from "./harness.ts";

/** Snapshots under heavy writing that are taken and looked at. */
const ROUNDS = countFrom("PYRO_SNAPSHOT_ROUNDS", 2);
const paths = pathsFor({ PYRO_HOME: sharedHome() }, process.getuid?.() ?? 0);

function withCode(code: ErrorCode, pattern = /./) {
  return (thrown: unknown): boolean => {
    assert.ok(thrown instanceof PyroError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    assert.match(thrown.message, pattern);
    return true;
  };
}

async function sh(workspace: Workspace, script: string): Promise<string> {
  return (await workspace.exec(["sh", "-c", script], { check: true })).stdout;
}

/** What is on the host of a workspace, beside what was run in it. */
async function filesOf(workspace: Workspace): Promise<string[]> {
  return (await readdir(join(paths.workspaces, workspace.workspaceId))).sort();
}

const INSTALL = 'printf "#!/bin/sh\\necho tool $1\\n" >/usr/bin/tool && chmod +x /usr/bin/tool';

test("a workspace that was broken is put back to a snapshot, and to what it was created as", {
  timeout: 300_000,
}, async () => {
  await using pyro = new Pyro();
  const seed = await mkdtemp(join(tmpdir(), "pyro-seed-"));
  try {
    await writeFile(join(seed, "notes.txt"), "as seeded\n");
    await using workspace = await pyro.createWorkspace({
      seedPath: seed,
      labels: { kept: "yes" },
      env: { KEPT: "too" },
      ephemeral: true,
    });
    const before = await workspace.status();
    const identity = await sh(workspace, "hostname; cat /etc/machine-id");
    await sh(workspace, `${INSTALL}; echo mine >notes.txt; echo x >/tmp/x; cp notes.txt /root/notes`);
    const snapshot = await workspace.snapshot.create("installed");
    assert.deepEqual([snapshot.snapshotName, snapshot.kind], ["installed", "named"]);
    assert.ok(snapshot.bytes > 2 ** 20, String(snapshot.bytes));
    await assert.rejects(workspace.snapshot.create("installed"), withCode("SNAPSHOT_EXISTS"));
    await assert.rejects(workspace.snapshot.create("baseline"), withCode("INVALID_INPUT", /baseline/));
    await assert.rejects(workspace.snapshot.delete("baseline"), withCode("INVALID_INPUT", /baseline/));
    await assert.rejects(workspace.reset("instaled"), withCode("SNAPSHOT_NOT_FOUND", /installed/));

    await workspace.service.start({ serviceName: "web", command: ["sleep", "1000"] });
    await workspace.shell.open();
    const running = workspace.exec(["sh", "-c", "echo here; exec sleep 1000"]);
    for await (const _chunk of running) break;
    await sh(workspace, "rm -rf /usr/bin /workspace/* /root/notes /etc/passwd");
    await assert.rejects(sh(workspace, "true"), () => true);

    const [record] = await Promise.all([
      workspace.reset("installed"),
      assert.rejects(within(Promise.resolve(running), 60_000), withCode("MICROVM_LOST", /was reset/)),
    ]);
    assert.deepEqual(
      [record.state, record.resetCount, record.snapshotCount, record.commandCount, record.lastCommand],
      ["started", 1, 1, 0, null],
    );
    assert.deepEqual([record.serviceCount, record.shellCount], [0, 0]);
    assert.ok(Date.parse(record.lastResetAt ?? "") >= Date.parse(snapshot.createdAt));
    for (const key of ["workspaceId", "labels", "seed", "createdAt", "environmentDigest"] as const) {
      assert.deepEqual(record[key], before[key], key);
    }
    assert.equal(await sh(workspace, "tool x; cat notes.txt /root/notes"), "tool x\nmine\nmine\n".replace(" x", ""));
    assert.equal(await sh(workspace, 'echo "$KEPT"; ls -A /tmp; hostname; cat /etc/machine-id'), `too\n${identity}`);
    assert.deepEqual([...(await workspace.service.list()).services, ...(await workspace.shell.list()).shells], []);
    // The history begins anew.
    const [first, ...more] = (await workspace.logs()).entries;
    assert.deepEqual([first?.processId, more.length], ["proc_1", 1]);

    const seeded = await workspace.reset();
    assert.equal(seeded.resetCount, 2);
    assert.equal(await sh(workspace, "cat notes.txt; ls /usr/bin/tool /root/notes 2>&1 | wc -l"), "as seeded\n2\n");
    const { snapshots } = await workspace.snapshot.list();
    assert.deepEqual(
      snapshots.map(({ snapshotName, kind, bytes }) => [snapshotName, kind, bytes > 0]),
      [
        ["baseline", "baseline", true],
        ["installed", "named", true],
      ],
    );

    // Resets and snapshots at once come one after the other, and each is whole.
    await Promise.all([
      workspace.reset("installed"),
      workspace.snapshot.create("second"),
      workspace.reset("baseline"),
      workspace.snapshot.create("third"),
    ]);
    assert.equal((await workspace.status()).resetCount, 4);
    await workspace.reset("third");
    assert.equal(await sh(workspace, "cat notes.txt"), "as seeded\n");
    await workspace.reset("second");
    assert.equal(await sh(workspace, "cat notes.txt; tool"), "mine\ntool\n");
    for (const name of ["installed", "second", "third"]) await workspace.snapshot.delete(name);
    assert.equal((await workspace.status()).snapshotCount, 0);
    await assert.rejects(workspace.snapshot.delete("second"), withCode("SNAPSHOT_NOT_FOUND"));
    assert.deepEqual(
      (await filesOf(workspace)).filter((name) => !/^(commands|services|shells|snapshots)$/.test(name)),
      ["baseline.ext4", "disk.ext4", "workspace.json"],
    );
    assert.deepEqual(await readdir(join(paths.workspaces, workspace.workspaceId, "snapshots")), []);
  } finally {
    await rm(seed, { recursive: true, force: true });
  }
});

test("a workspace that is stopped keeps its disk, and starts only when it is asked to", {
  timeout: 240_000,
}, async () => {
  await using pyro = new Pyro();
  await using workspace = await pyro.createWorkspace({ ephemeral: true });
  // Nothing of this was synced by those who wrote it.
  await sh(workspace, `${INSTALL}; head -c 5000000 /dev/urandom >big; sha256sum big >sum; echo x >/tmp/x`);
  const web = await workspace.service.start({ serviceName: "web", command: ["sleep", "1000"] });
  const running = workspace.exec(["sh", "-c", "echo here; exec sleep 1000"]);
  for await (const _chunk of running) break;
  const [stopped] = await Promise.all([
    workspace.stop(),
    assert.rejects(within(Promise.resolve(running), 60_000), withCode("MICROVM_LOST", /was stopped/)),
  ]);
  assert.deepEqual([stopped.state, stopped.stopReason, stopped.runningServiceCount], ["stopped", "stopped", 0]);
  assert.deepEqual([(await web.status()).state, (await web.status()).stopReason], ["stopped", "workspace_stopped"]);
  assert.equal((await workspace.stop()).state, "stopped");
  await assert.rejects(workspace.exec(["true"]).then(), withCode("WORKSPACE_STATE", /was stopped/));
  await assert.rejects(workspace.file.read("sum"), withCode("WORKSPACE_STATE"));

  // Its disk can be kept, copied and put back as it lies there.
  await workspace.snapshot.create("asleep");
  await using clone = await workspace.clone({ ephemeral: true });
  assert.equal((await workspace.status()).state, "stopped");
  assert.equal(await sh(clone, "sha256sum -c sum; tool; ls -A /tmp"), "big: OK\ntool\n");
  const cold = await workspace.reset();
  assert.deepEqual([cold.state, cold.stopReason, cold.commandCount], ["stopped", "stopped", 0]);
  await workspace.reset("asleep");

  const both = await Promise.all([workspace.start(), workspace.start()]);
  assert.deepEqual(
    both.map(({ state, stopReason }) => [state, stopReason]),
    Array(2).fill(["started", null]),
  );
  assert.equal((await workspace.start()).state, "started");
  assert.equal(await sh(workspace, "sha256sum -c sum; tool; ls -A /tmp"), "big: OK\ntool\n");

  // Whatever is going on, a deletion wins.
  const going: Promise<unknown>[] = [workspace.stop(), workspace.reset()];
  going.push(workspace.snapshot.create("late"), workspace.clone());
  const settled = Promise.allSettled(going);
  await workspace.delete();
  for (const one of await within(settled, 60_000)) {
    if (one.status === "rejected") withCode("WORKSPACE_NOT_FOUND")(one.reason);
  }
  await assert.rejects(workspace.start(), withCode("WORKSPACE_NOT_FOUND"));
  for (const { workspaceId } of (await pyro.listWorkspaces()).workspaces) {
    if (workspaceId !== clone.workspaceId) await pyro.deleteWorkspace({ workspaceId });
  }
});

/** A tree with Python's sqlite3, which the default environment lacks. */
async function sqlite(): Promise<string> {
  const tree = join(ROOT, "dist", "test-tools", "python-sqlite");
  const wanted: readonly [string, RegExp][] = [
    ["libpython3.11-stdlib", /^usr\/lib\/python3\.11\/(sqlite3\/.*|lib-dynload\/_sqlite3\..*)$/],
    ["libsqlite3-0", /^usr\/lib\/x86_64-linux-gnu\//],
  ];
  for (const [name, files] of wanted) {
    const unpacked = await unpackedPackage(name);
    for (const path of await readdir(unpacked, { recursive: true })) {
      if (files.test(path))
        await cp(join(unpacked, path), join(tree, path), { recursive: true, verbatimSymlinks: true });
    }
  }
  return tree;
}

/** Writes into a database and a repository as fast as it can, and says when it is well under way. */
const WRITER = `
import sqlite3, subprocess, threading
def commits():
    subprocess.run("git init -q repo && cd repo && git config user.email a@b && git config user.name a", shell=True, check=True)
    n = 0
    while True:
        with open("repo/f%d" % (n % 7), "w") as f: f.write("x%d\\n" % n * 500)
        subprocess.run("git add -A && git commit -qm %d" % n, shell=True, cwd="repo", check=True)
        n += 1
        if n == 1: print("commits", flush=True)
threading.Thread(target=commits, daemon=True).start()
base = sqlite3.connect("base.db")
base.execute("create table t (n integer, text text)")
n = 0
while True:
    with base: base.executemany("insert into t values (?, ?)", [(n, "y" * 200)] * 20)
    n += 1
    if n == 20: print("rows", flush=True)
`;
const CHECK = `
import sqlite3
base = sqlite3.connect("base.db")
print(base.execute("pragma integrity_check").fetchone()[0])
rows = base.execute("select n, count(*) from t group by n order by n").fetchall()
print("rows" if [n for n, _ in rows] == list(range(len(rows))) and all(c == 20 for _, c in rows) and len(rows) >= 20 else rows[-3:])
`;

test(`${ROUNDS} snapshots under heavy writing: database and repository are whole`, {
  timeout: 120_000 + ROUNDS * 60_000,
}, async () => {
  await using pyro = new Pyro();
  await using workspace = await pyro.createWorkspace({ ephemeral: true });
  await workspace.syncPush(await sqlite());
  await sh(workspace, "cp -a /workspace/usr/. /usr/ && rm -rf /workspace/usr");
  await workspace.snapshot.create("prepared");
  for (let round = 0; round < ROUNDS; round++) {
    const writer = workspace.exec(["python3", "-c", WRITER]);
    let printed = "";
    for await (const { data } of writer) {
      printed += Buffer.from(data).toString();
      if (/rows/.test(printed) && /commits/.test(printed)) break;
    }
    const lost = assert.rejects(writer.then(), withCode("MICROVM_LOST"));
    await workspace.snapshot.create("midway");
    // It goes on: what follows is not in the snapshot.
    const counting =
      'import sqlite3; print(sqlite3.connect("base.db").execute("select count(*) from t").fetchone()[0])';
    const counted = async () => Number(await sh(workspace, `python3 -c '${counting}'`));
    const then = await counted();
    for (const end = Date.now() + 30_000; (await counted()) <= then; ) assert.ok(Date.now() < end, "it stands still");
    await workspace.reset("midway");
    await lost;
    assert.equal(await sh(workspace, `python3 -c '${CHECK}'`), "ok\nrows\n");
    assert.match(
      await sh(workspace, "cd repo && git fsck --full --strict 2>&1 && git log --oneline | wc -l"),
      /\d+\n$/,
    );
    await workspace.snapshot.delete("midway");
    await workspace.reset("prepared");
  }
});

test("a clone goes its own way", { timeout: 240_000 }, async () => {
  await using pyro = new Pyro();
  const seed = await mkdtemp(join(tmpdir(), "pyro-seed-"));
  try {
    await writeFile(join(seed, "a"), "seeded\n");
    await using workspace = await pyro.createWorkspace({ seedPath: seed, labels: { a: "b" }, ephemeral: true });
    await workspace.snapshot.create("first");
    await sh(workspace, `${INSTALL}; echo now >a`);
    const name = `clone-${process.pid}`;
    await using clone = await workspace.clone({ name, ephemeral: true });
    assert.deepEqual([clone.created?.name, clone.created?.state, clone.created?.labels], [name, "started", { a: "b" }]);
    await assert.rejects(workspace.clone({ name }), withCode("WORKSPACE_NAME_TAKEN"));
    assert.equal(await sh(clone, "tool; cat a"), "tool\nnow\n");
    const who = "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id";
    assert.notEqual(await sh(clone, who), await sh(workspace, who));
    await sh(clone, "echo other >a");
    assert.equal(await sh(workspace, "cat a"), "now\n");
    assert.equal((await clone.status()).snapshotCount, 0);
    await using older = await workspace.clone({ snapshotName: "first", ephemeral: true });
    assert.equal(await sh(older, "cat a; ls /usr/bin/tool 2>/dev/null | wc -l"), "seeded\n0\n");
    await assert.rejects(workspace.clone({ snapshotName: "nothing" }), withCode("SNAPSHOT_NOT_FOUND"));
    // It has the baseline of the other, and keeps it when the other goes.
    await workspace.delete();
    await clone.reset();
    assert.equal(await sh(clone, "cat a"), "seeded\n");
  } finally {
    await rm(seed, { recursive: true, force: true });
  }
});

test("an agent keeps, breaks and resets", { timeout: 240_000 }, async () => {
  const client = new Client({ name: "test", version: "1" });
  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: sharedHome(), PYRO_POOL_SIZE: "0" };
  const args = [PYRO, "mcp", "serve", "--profile", "workspace-full"];
  await client.connect(new StdioClientTransport({ command: process.execPath, args, env, stderr: "inherit" }));
  const call = async (name: string, given: Record<string, unknown>) => {
    const { isError, content, structuredContent } = await client.callTool({ name, arguments: given });
    assert.notEqual(isError, true, JSON.stringify(content));
    return structuredContent as Record<string, unknown>;
  };
  const { workspace_id } = await call("workspace_create", { seed: "empty" });
  try {
    const exec = async (command: string) => (await call("workspace_exec", { workspace_id, command })).stdout;
    await exec("echo good >a");
    const kept = await call("snapshot_create", { workspace_id, snapshot_name: "good" });
    assert.equal(kept.kind, "named");
    await exec("rm -rf /usr/bin; echo bad >a");
    assert.equal((await call("workspace_reset", { workspace_id, snapshot_name: "good" })).state, "started");
    assert.equal(await exec("cat a"), "good\n");
    assert.equal((await call("workspace_stop", { workspace_id })).state, "stopped");
    const refused = await client.callTool({
      name: "workspace_exec",
      arguments: { workspace_id, command: ["true"] },
    });
    assert.equal(refused.isError, true);
    const [text] = refused.content as { text: string }[];
    assert.match(text?.text ?? "", /WORKSPACE_STATE.*workspace_start/);
    assert.equal((await call("workspace_start", { workspace_id })).state, "started");
    const clone = await call("workspace_clone", { workspace_id, snapshot_name: "good" });
    await call("workspace_delete", { workspace_id: clone.workspace_id });
    const { snapshots } = await call("snapshot_list", { workspace_id });
    assert.equal((snapshots as unknown[]).length, 2);
    await call("snapshot_delete", { workspace_id, snapshot_name: "good" });
    assert.equal((await call("workspace_reset", { workspace_id })).reset_count, 2);
  } finally {
    await call("workspace_delete", { workspace_id });
    await client.close();
  }
});
