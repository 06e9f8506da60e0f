// What may befall workspaces on their host: daemons killed or racing, a reboot, pids given to others, records that cannot
// be used, clients that vanish, a disk that is full. Each has a clear outcome, and no file is lost.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { codeOf, inNamespace } from "./faulty.ts";
import { type OwnHome, ownHome, PYRO, pyro, sharedHome, untilGone, VMM } from "./harness.ts";
import { processesAt, untilAtRest, untilNothingRuns } from "./remains.ts";
import { scratch, type Workspace, type WorkspaceRecord, Workspaces } from "./workspaces.ts";

const isRoot = process.getuid?.() === 0;
const BOOT_ID = ["cat", "/proc/sys/kernel/random/boot_id"];
/** Every process of a home, the daemon first: what is killed later must not be started again by it. */
const ORDER = ["daemon", "launcher", "sandbox", "vmm", "client", "other"];

interface Ground extends AsyncDisposable {
  readonly home: OwnHome;
  readonly all: Workspaces;
  /** Waits until these are there and nothing else. */
  atRest(vms: number, workspaces: number): Promise<void>;
}

/** A home of its own, which must be empty when the test is done with it. */
async function ground(): Promise<Ground> {
  const home = await ownHome({ templates: true });
  const all = new Workspaces(home.env);
  const atRest = async (vms: number, workspaces: number) =>
    await untilAtRest(home, () => ({ vms, runs: 0, workspaces }));
  return {
    home,
    all,
    atRest,
    [Symbol.asyncDispose]: async () => {
      await home[Symbol.asyncDispose]();
      await untilNothingRuns(home);
    },
  };
}

async function killEverything(home: OwnHome): Promise<number[]> {
  const processes = await processesAt(home);
  processes.sort((a, b) => ORDER.indexOf(a.kind) - ORDER.indexOf(b.kind));
  for (const { pid } of processes) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It died with what was killed before it.
    }
  }
  await untilGone(async () => (await processesAt(home)).map(({ pid }) => pid));
  return processes.map(({ pid }) => pid);
}

async function killDaemon(home: OwnHome): Promise<void> {
  for (const { pid, kind } of await processesAt(home)) if (kind === "daemon") process.kill(pid, "SIGKILL");
}

async function keep(workspace: Workspace): Promise<void> {
  await workspace.sh("echo kept >file; sync");
}

async function isKept(workspace: Workspace): Promise<void> {
  assert.equal(await workspace.ok(["cat", "file"]), "kept\n");
}

test("a daemon that is killed: the microVM runs on, and so does its command, whole in the log", {
  timeout: 300_000,
}, async () => {
  await using g = await ground();
  await using workspace = await g.all.create();
  const boot = await workspace.ok(BOOT_ID);
  await keep(workspace);
  const detached = await g.all.ask<{ process_id: string }>([
    ...["exec", workspace.id, "--detach", "--", "sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.5; done"],
  ]);
  const attached = workspace.startExec(["sh", "-c", "for i in 1 2 3 4 5 6; do echo line $i; sleep 0.5; done"]);
  await attached.untilOutput("line 2");
  await killDaemon(g.home);
  const { status, stdout, stderr } = await attached.finished;
  const whole = [1, 2, 3, 4, 5, 6].map((line) => `line ${line}\n`).join("");
  assert.equal(stdout.toString(), whole, stderr.toString());
  assert.equal(status, 0);
  await g.all.ask(["process", "wait", workspace.id, detached.process_id]);
  const logs = await workspace.logs();
  assert.deepEqual(
    logs.slice(-2).map((entry) => [entry.stdout, entry.exit_code]),
    [
      [whole, 0],
      [whole, 0],
    ],
  );
  assert.equal(await workspace.ok(BOOT_ID), boot, "it is the same microVM");
  await isKept(workspace);
  await g.atRest(1, 1);
});

test("a daemon that is asked to stop keeps workspaces, and what runs in them", { timeout: 300_000 }, async () => {
  await using g = await ground();
  await using workspace = await g.all.create();
  const boot = await workspace.ok(BOOT_ID);
  const { process_id } = await g.all.ask<{ process_id: string }>([
    ...["exec", workspace.id, "--detach", "--", "sh", "-c", "sleep 4; echo done"],
  ]);
  await pyro(["daemon", "stop"], { env: g.home.env });
  await untilGone(async () => (await processesAt(g.home)).filter(({ kind }) => kind === "daemon"));
  assert.equal((await g.home.processes(VMM)).length, 1, "its microVM runs on");
  await g.all.ask(["process", "wait", workspace.id, process_id]);
  const read = await g.all.ask<{ stdout: string }>(["process", "read", workspace.id, process_id]);
  assert.equal(read.stdout, "done\n");
  assert.equal(await workspace.ok(BOOT_ID), boot);
});

test("a reboot: everything killed and the sockets gone; it is stopped, its disk is whole, the next exec starts it", {
  timeout: 300_000,
}, async () => {
  await using g = await ground();
  await using tree = await scratch();
  await writeFile(join(tree.path, "seeded"), "from the host\n");
  await using workspace = await g.all.create(["--seed-path", tree.path, "--name", "survivor"]);
  await keep(workspace);
  const boot = await workspace.ok(BOOT_ID);
  const lost = workspace.startExec(["sh", "-c", "echo before; sleep 1000"]);
  await lost.untilOutput("before");
  lost.child.kill("SIGKILL");
  await lost.finished;
  await killEverything(g.home);
  await rm(g.home.paths.sockets, { recursive: true, force: true });

  const record = await g.all.status("survivor");
  assert.deepEqual([record.state, record.stop_reason], ["stopped", "lost"]);
  const last = (await workspace.logs()).at(-1);
  assert.deepEqual([last?.state, last?.exit_code, last?.signal, last?.stdout], ["exited", null, null, "before\n"]);
  assert.ok((last?.lost_reason ?? "") !== "", "it is said why its end is not known");
  assert.deepEqual(await g.home.processes(VMM), [], "looking at it started it");

  // A reboot would have taken the dead microVM's cgroup along; here the launcher that the next start brings sweeps it.
  await isKept(workspace);
  assert.equal(await workspace.ok(["cat", "seeded"]), "from the host\n");
  assert.notEqual(await workspace.ok(BOOT_ID), boot);
  assert.equal((await workspace.status()).state, "started");
  await g.atRest(1, 1);
});

test("stale sockets, and pids that belong to others by now", { timeout: 300_000 }, async (context) => {
  await using g = await ground();
  if (isRoot) await startReaped(g.home);
  await using workspace = await g.all.create();
  await keep(workspace);
  const pids = await killEverything(g.home);
  assert.ok((await readdir(g.home.paths.control)).length > 0, "there are no stale sockets to meet");
  // Whatever a record or a file may say, these are nobody of ours.
  const impostors = pids.flatMap((pid) => processWithPid(pid) ?? []);
  try {
    context.diagnostic(`${impostors.length} of ${pids.length} pids are those of impostors`);
    if (isRoot) assert.ok(impostors.length > 0, "no pid could be had again");
    await isKept(workspace);
    await killDaemon(g.home);
    await isKept(workspace);
    await workspace.delete();
    for (const impostor of impostors) {
      assert.deepEqual([impostor.exitCode, impostor.signalCode], [null, null], "somebody else's process was ended");
    }
    await g.atRest(0, 0);
  } finally {
    for (const impostor of impostors) impostor.kill("SIGKILL");
  }
});

/**
 * Starts a home's daemon below a process that reaps it and all that it starts, as an init does: where the tests' own init
 * does not, the pids of the dead stay taken. It ends when they have.
 */
async function startReaped(home: OwnHome): Promise<void> {
  const becomeSubreaper = "syscall(157, 36, 1, 0, 0, 0) == 0 or die $!;";
  const script = `$| = 1; ${becomeSubreaper} system(@ARGV) == 0 or die; print "ready\\n"; 1 while wait() != -1;`;
  const command = ["-e", script, process.execPath, PYRO, "env", "list"];
  const reaper = spawn("perl", command, { env: { ...process.env, ...home.env }, stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  await new Promise<void>((resolve, reject) => {
    reaper.stdout.on("data", (chunk: Buffer) => {
      said += chunk;
      if (said.endsWith("ready\n")) resolve();
    });
    reaper.once("exit", () => reject(new Error(`the reaper ended too early: ${said}`)));
  });
  reaper.stdout.destroy();
  reaper.unref();
}

/** A process that has this pid, where the kernel lets us choose; undefined when somebody else was faster. */
function processWithPid(pid: number): ReturnType<typeof spawn> | undefined {
  for (let attempt = 0; attempt < 100; attempt++) {
    try {
      writeFileSync("/proc/sys/kernel/ns_last_pid", String(pid - 1));
    } catch {
      return undefined;
    }
    const child = spawn("sleep", ["1000"], { stdio: "ignore" });
    if (child.pid === pid) return child;
    child.kill("SIGKILL");
  }
  return undefined;
}

test("many daemons start at once for one state directory: one serves it", { timeout: 300_000 }, async () => {
  await using g = await ground();
  await using workspace = await g.all.create();
  const boot = await workspace.ok(BOOT_ID);
  for (let round = 0; round < 3; round++) {
    await killDaemon(g.home);
    const answers = await Promise.all(Array.from({ length: 6 }, () => workspace.status()));
    for (const { state } of answers) assert.equal(state, "started");
    await untilGone(async () => (await processesAt(g.home)).filter(({ kind }) => kind === "daemon").slice(1));
    assert.equal(await workspace.ok(BOOT_ID), boot);
  }
  await g.atRest(1, 1);
});

test("a client that vanishes: its exec goes on and is in the log, its create is removed", {
  timeout: 300_000,
}, async () => {
  await using g = await ground();
  {
    await using workspace = await g.all.create();
    const run = workspace.startExec(["sh", "-c", "echo begin; sleep 2; echo end; exit 3"]);
    await run.untilOutput("begin");
    run.child.kill("SIGKILL");
    await run.finished;
    const { process_id } = (await workspace.status()).last_command ?? { process_id: "" };
    const waited = await g.all.finish(["process", "wait", workspace.id, process_id]);
    assert.equal(waited.status, 3, "its exit status is the command's");
    const last = (await workspace.logs()).at(-1);
    assert.deepEqual([last?.stdout, last?.exit_code], ["begin\nend\n", 3]);
  }
  await using tree = await scratch();
  noise(tree.path, "400M");
  const create = g.all.start(["create", "--seed-path", tree.path, "--name", "unfinished"]);
  const creating = await untilListed(g.all, "unfinished");
  assert.equal(creating.state, "creating");
  await g.all.refused(["exec", "unfinished", "--", "true"], "WORKSPACE_STATE");
  await sleep(500);
  create.child.kill("SIGKILL");
  await create.finished;
  await g.atRest(0, 0);
  assert.deepEqual(await g.all.list(), []);
  // One that is being created can be deleted too, and its client is told.
  const another = g.all.start(["create", "--seed-path", tree.path, "--name", "deleted", "--json"]);
  const { workspace_id } = await untilListed(g.all, "deleted");
  await g.all.delete(workspace_id);
  const { status, stdout } = await another.finished;
  assert.equal(status, 1);
  assert.match(codeOf(stdout), /^(WORKSPACE_NOT_FOUND|CANCELLED)$/);
  await g.atRest(0, 0);
});

/** A file that cannot be compressed in a directory. */
function noise(directory: string, size: string): void {
  execFileSync("sh", ["-c", `head -c ${size} /dev/urandom >noise`], { cwd: directory });
}

async function untilListed(all: Workspaces, name: string): Promise<WorkspaceRecord> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const found = (await all.list()).find((one) => one.name === name);
    if (found !== undefined) return found;
    if (Date.now() > deadline) throw new Error(`no workspace ${name} came up`);
  }
}

test("records that cannot be used: shown as failed, not touched, and deletable", {
  timeout: 300_000,
}, async (context) => {
  await using g = await ground();
  const record = (id: string) => join(g.home.paths.workspaces, id, "workspace.json");
  const spoiled = async (text: string): Promise<Workspace> => {
    const workspace = await g.all.create();
    await pyro(["daemon", "stop"], { env: g.home.env });
    await writeFile(record(workspace.id), text);
    return workspace;
  };
  const isFailed = async (workspace: Workspace, says: RegExp) => {
    const { state, failure } = await workspace.status();
    assert.equal(state, "failed");
    assert.match(failure?.message ?? "", says);
    await g.all.refused(["exec", workspace.id, "--", "true"], "WORKSPACE_FAILED");
    await g.all.refused(["sync", "push", workspace.id, "/etc/hostname"], "WORKSPACE_FAILED");
    assert.ok((await g.all.list()).some(({ workspace_id }) => workspace_id === workspace.id));
  };
  await context.test("of a newer version", async () => {
    const workspace = await g.all.create();
    await pyro(["daemon", "stop"], { env: g.home.env });
    const present = JSON.parse(await readFile(record(workspace.id), "utf8")) as Record<string, unknown>;
    const newer = JSON.stringify({ ...present, schema_version: 99, something_new: true });
    await writeFile(record(workspace.id), newer);
    await isFailed(workspace, /newer/);
    assert.equal(await readFile(record(workspace.id), "utf8"), newer, "it was written to");
    assert.ok((await readdir(join(g.home.paths.workspaces, workspace.id))).includes("disk.ext4"), "its disk is gone");
    assert.equal((await workspace.delete()).deleted, true);
  });
  for (const [name, text] of [
    ["that are no JSON", "{ not json"],
    ["that are something else", "[1, 2]"],
    ["that are empty", ""],
    ["of another workspace", '{"schema_version":1,"workspace_id":"ws_aaaaaaaaaa"}'],
  ] as const) {
    await context.test(name, async () => {
      const workspace = await spoiled(text);
      await isFailed(workspace, /damaged/);
      assert.equal(await readFile(record(workspace.id), "utf8"), text, "it was written to");
      assert.equal((await workspace.delete()).deleted, true);
    });
  }
  await context.test("that are missing", async () => {
    const workspace = await g.all.create();
    await pyro(["daemon", "stop"], { env: g.home.env });
    await rm(record(workspace.id));
    await isFailed(workspace, /missing/);
    assert.equal((await workspace.delete()).deleted, true);
  });
  await context.test("that are no files, and strangers beside workspaces", async () => {
    const workspace = await g.all.create();
    await keep(workspace);
    await pyro(["daemon", "stop"], { env: g.home.env });
    const at = (...names: string[]) => join(g.home.paths.workspaces, ...names);
    await mkdir(at("ws_bbbbbbbbbb", "workspace.json"), { recursive: true });
    await mkdir(at("ws_cccccccccc"));
    execFileSync("mkfifo", [at("ws_cccccccccc", "workspace.json")]);
    await writeFile(at("ws_dddddddddd"), "a file\n");
    await writeFile(at("notes"), "somebody's\n");
    // Nothing of these keeps the daemon from its work, and the good one is as it was.
    await isKept(workspace);
    for (const id of ["ws_bbbbbbbbbb", "ws_cccccccccc", "ws_dddddddddd"]) {
      const shown = (await g.all.list()).find(({ workspace_id }) => workspace_id === id);
      if (shown !== undefined) {
        assert.equal(shown.state, "failed");
        await g.all.delete(id);
      }
    }
    assert.equal(await readFile(at("notes"), "utf8"), "somebody's\n");
    await rm(at("notes"));
    await rm(at("ws_dddddddddd"), { force: true });
    await workspace.delete();
  });
  await g.atRest(0, 0);
});

test("a disk of the host that is full while a workspace is created", { timeout: 300_000 }, async (context) => {
  if (!isRoot) return context.skip("mounting in a namespace takes root");
  await using home = await ownHome({ templates: true });
  await using tree = await scratch();
  noise(tree.path, "120M");
  const script = `
    mount -t tmpfs -o size=400m,mode=0700 tmpfs "$PYRO_HOME"
    ln -s "$SHARED/environments" "$PYRO_HOME/environments"
    ln -s "$SHARED/cache" "$PYRO_HOME/cache"
    pyro workspace create --name before --json
    head -c 400m /dev/zero >"$PYRO_HOME/ballast" 2>/dev/null || true
    pyro workspace create --json || true
    truncate -s 300m "$PYRO_HOME/ballast"
    pyro workspace create --seed-path "$TREE" --json || true
    rm "$PYRO_HOME/ballast"
    pyro workspace list --json
    ls -A "$PYRO_HOME/workspaces" | wc -l
    pyro workspace exec before -- echo fine
    pyro workspace create --json
    pyro workspace delete --all --yes >/dev/null
    ls -A "$PYRO_HOME/workspaces" | wc -l
    pyro daemon stop >/dev/null`;
  const { status, stdout, stderr } = await inNamespace(home, script, { SHARED: sharedHome(), TREE: tree.path });
  assert.equal(status, 0, `${stdout}${stderr}`);
  const lines = stdout.toString().trimEnd().split("\n");
  const [before = "", full = "", low = "", list = "", count, fine, after = "", none] = lines;
  assert.equal((JSON.parse(before) as WorkspaceRecord).state, "started");
  assert.equal(codeOf(full), "HOST_DISK_FULL", full);
  assert.equal(codeOf(low), "HOST_DISK_FULL", low);
  assert.deepEqual(
    (JSON.parse(list) as { workspaces: WorkspaceRecord[] }).workspaces.map(({ name }) => name),
    ["before"],
  );
  assert.equal(count?.trim(), "1", "of those that failed something is left");
  assert.equal(fine, "fine");
  assert.equal((JSON.parse(after) as WorkspaceRecord).state, "started");
  assert.equal(none?.trim(), "0");
  await untilNothingRuns(home);
});

test("a disk of the host that a workspace fills: it stands still, and goes on when there is room", {
  timeout: 300_000,
}, async (context) => {
  if (!isRoot) return context.skip("mounting in a namespace takes root");
  await using home = await ownHome({ templates: true });
  const script = `
    mount -t tmpfs -o size=400m,mode=0700 tmpfs "$PYRO_HOME"
    ln -s "$SHARED/environments" "$PYRO_HOME/environments"
    ln -s "$SHARED/cache" "$PYRO_HOME/cache"
    pyro workspace create --name full --quiet >/dev/null
    pyro workspace exec full -- sh -c 'echo kept >file; sync'
    head -c 250m /dev/zero >"$PYRO_HOME/ballast"
    pyro workspace exec full --detach --quiet -- sh -c 'dd if=/dev/zero of=big bs=1M count=200 conv=fsync 2>/dev/null && echo whole' >/dev/null
    tries=0
    until answer=$(pyro workspace exec full --json -- true 2>/dev/null); [ $? = 125 ] || [ $tries -gt 20 ]; do tries=$((tries+1)); sleep 1; done
    printf '%s\\n' "$answer"
    rm "$PYRO_HOME/ballast"
    pyro workspace process wait full proc_2 --json
    pyro workspace process read full proc_2 --json
    pyro workspace exec full -- cat file
    pyro workspace delete full >/dev/null
    pyro daemon stop >/dev/null`;
  const { status, stdout, stderr } = await inNamespace(home, script, { SHARED: sharedHome() });
  assert.equal(status, 0, `${stdout}${stderr}`);
  const [told = "", waited = "", read = "", kept] = stdout.toString().trimEnd().split("\n");
  assert.equal(codeOf(told), "HOST_DISK_FULL", told);
  assert.equal((JSON.parse(waited) as { exit_code: number }).exit_code, 0, waited);
  assert.equal((JSON.parse(read) as { stdout: string }).stdout, "whole\n", read);
  assert.equal(kept, "kept");
  await untilNothingRuns(home);
});

test("idleness stops a workspace, and use starts it", { timeout: 300_000 }, async (context: TestContext) => {
  await using g = await ground();
  await using workspace = await g.all.create(["--ttl-seconds", "2"]);
  await keep(workspace);
  await context.test("a command that runs is no idleness", async () => {
    assert.equal(await workspace.sh("sleep 4; echo done"), "done\n");
    assert.equal((await workspace.status()).stop_reason, null);
  });
  await context.test("nothing for so long stops it", async () => {
    const stopped = await workspace.untilState("stopped");
    assert.deepEqual([stopped.stop_reason, stopped.expires_at], ["idle", null]);
    await g.atRest(0, 1);
  });
  await context.test("looking at it does not start it", async () => {
    await workspace.logs();
    await g.all.list();
    assert.equal((await workspace.status()).state, "stopped");
  });
  await context.test("the next command does, and the files are there", async () => {
    await isKept(workspace);
    const { state, stop_reason } = await workspace.status();
    assert.deepEqual([state, stop_reason], ["started", null]);
  });
  await context.test("as does a push", async () => {
    await workspace.untilState("stopped");
    await using tree = await scratch();
    await writeFile(join(tree.path, "pushed"), "new\n");
    assert.equal((await workspace.push(join(tree.path, "pushed"))).entry_count, 1);
    assert.equal(await workspace.ok(["cat", "pushed"]), "new\n");
  });
  await context.test("a longer time can be given, and none", async () => {
    const { expires_at } = await g.all.ask<WorkspaceRecord>(["update", workspace.id, "--ttl-seconds", "0"]);
    assert.equal(expires_at, null);
    await isKept(workspace);
    await sleep(3000);
    assert.equal((await workspace.status()).state, "started");
  });
  await context.test("one that a dead daemon left idle is stopped by the next", async () => {
    await g.all.ask(["update", workspace.id, "--ttl-seconds", "3"]);
    await isKept(workspace);
    await killDaemon(g.home);
    await sleep(3500);
    await workspace.untilState("stopped", 15_000);
    await isKept(workspace);
  });
});

test("a workspace can be deleted in every state, and while it is in use", { timeout: 300_000 }, async () => {
  await using g = await ground();
  // Started, with a command under way: whoever waits for it is told.
  const busy = await g.all.create(["--name", "busy"]);
  const run = busy.startExec(["sh", "-c", "echo ready; sleep 1000"], { args: ["--json"] });
  await untilRuns(busy);
  const both = await Promise.all([g.all.finish(["delete", "busy"]), g.all.finish(["delete", busy.id])]);
  assert.ok(
    both.some(({ status }) => status === 0),
    both.map(({ stderr }) => stderr.toString()).join(""),
  );
  const { status, stdout } = await run.finished;
  assert.equal(status, 125);
  assert.equal(codeOf(stdout), "WORKSPACE_NOT_FOUND");
  await g.atRest(0, 0);
  // Its name is free again.
  const stopped = await g.all.create(["--name", "busy", "--ttl-seconds", "1"]);
  await stopped.untilState("stopped");
  await stopped.delete();
  // Lost, and not yet started again.
  const lost = await g.all.create();
  await keep(lost);
  for (const { pid, kind } of await processesAt(g.home)) if (kind === "vmm") process.kill(pid, "SIGKILL");
  assert.equal((await lost.untilState("stopped")).stop_reason, "lost");
  await isKept(lost);
  for (const { pid, kind } of await processesAt(g.home)) if (kind === "launcher") process.kill(pid, "SIGKILL");
  await lost.untilState("stopped");
  await lost.delete();
  await g.atRest(0, 0);
});

async function untilRuns(workspace: Workspace): Promise<void> {
  const deadline = Date.now() + 60_000;
  while ((await workspace.status()).last_command?.state !== "running") {
    if (Date.now() > deadline) throw new Error("the command does not start");
    await sleep(100);
  }
}
