// The pool of microVMs that lie ready: filled after a run, taken from by the next, and never a second use of anything.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { FreshStarts } from "../../src/engine/fresh.ts";
import { Pool } from "../../src/engine/pool.ts";
import { type OwnHome, ownHome, pyro, runOk, startPyro, untilGone, VMM } from "./harness.ts";
import { MachineRoom } from "./machines.ts";

interface Status {
  readonly pid: number;
  readonly pool: { readonly size: number; readonly ready: number };
}

async function status(home: OwnHome): Promise<Status> {
  return JSON.parse((await pyro(["daemon", "status", "--json"], { env: home.env })).stdout.toString()) as Status;
}

async function untilReady(home: OwnHome, count: number): Promise<void> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const { pool } = await status(home);
    if (pool.ready === count) return;
    assert.ok(Date.now() < deadline, `${pool.ready} of ${count} are ready`);
    await sleep(200);
  }
}

const LOOK = `cat /etc/machine-id; hostname; cat /proc/sys/kernel/random/boot_id; head -c 32 /dev/urandom | sha256sum
date +%s.%N; ls -A /workspace /tmp | tr '\\n' ' '; echo; ls /sys/fs/cgroup/pyro | grep -c proc_; ps -e --no-headers | wc -l`;

test("runs take from it, each a machine of its own, and it is filled again", async () => {
  await using home = await ownHome({ templates: true, poolSize: 2 });
  await runOk(["--", "true"], { env: home.env });
  await untilReady(home, 2);
  const vms = () => readdir(home.paths.vms);
  const before = new Set(await vms());
  const seen: string[] = [];
  for (let round = 0; round < 3; round++) {
    const started = Date.now() / 1000;
    const lines = (await runOk(["--", "sh", "-c", LOOK], { env: home.env })).split("\n");
    const ended = Date.now() / 1000;
    seen.push(...lines.slice(0, 4));
    const clock = Number(lines[4]);
    assert.ok(clock > started - 1 && clock < ended + 1, `clock ${clock}, host ${started} to ${ended}`);
    assert.equal(lines[5]?.trim(), "/tmp:  /workspace:", "nothing lies in a fresh workspace");
    assert.equal(lines[6], "1", "no process group but the command's");
  }
  assert.equal(new Set(seen).size, seen.length, `shared: ${seen.join("\n")}`);
  await untilReady(home, 2);
  for (const name of await vms()) assert.ok(!before.has(name), `${name} was used and is still there`);
  assert.equal((await readdir(home.paths.pool)).length, 2);
});

test("it follows the size last used, and lies in nobody's way at the end", async () => {
  await using home = await ownHome({ templates: true, poolSize: 1 });
  await runOk(["--", "true"], { env: home.env });
  await untilReady(home, 1);
  const memory = async (mib: number) =>
    Number(
      await runOk(["--mem-mib", String(mib), "--", "sh", "-c", "free -m | awk '/Mem/ {print $2}'"], { env: home.env }),
    );
  const [former] = await readdir(home.paths.vms);
  assert.ok((await memory(512)) < 512);
  // What is ready at first may be the one of the other size, which is about to go.
  await untilGone(async () => (await readdir(home.paths.vms)).filter((name) => name === former));
  await untilReady(home, 1);
  assert.equal((await home.processes(VMM)).length, 1, "one of the size last used, and no other");
  const large = await memory(512);
  assert.ok(large > 400 && large < 512, `${large} MiB`);
  await pyro(["daemon", "stop"], { env: home.env });
  await untilGone(() => home.processes(/./));
  assert.deepEqual(await readdir(home.path).then((names) => names.filter((name) => name === "pool")), []);
});

test("one that dies while it lies there is replaced, and no run meets it", async () => {
  await using home = await ownHome({ templates: true, poolSize: 1 });
  await runOk(["--", "true"], { env: home.env });
  await untilReady(home, 1);
  const [pid] = await home.processes(VMM);
  assert.ok(pid !== undefined);
  process.kill(pid, "SIGKILL");
  assert.equal(await runOk(["--", "echo", "on"], { env: home.env }), "on\n");
  await untilReady(home, 1);
});

test("one that does not answer any more is thrown away, and the run starts afresh", async () => {
  await using home = await ownHome({ templates: true, poolSize: 1 });
  await runOk(["--", "true"], { env: home.env });
  await untilReady(home, 1);
  const [pid] = await home.processes(VMM);
  assert.ok(pid !== undefined);
  process.kill(pid, "SIGSTOP");
  assert.equal(await runOk(["--", "echo", "on"], { env: home.env }), "on\n");
});

test("a daemon that is killed: the next one takes its run up, ends what lay ready, and fills anew", async () => {
  await using home = await ownHome({ templates: true, poolSize: 1 });
  await runOk(["--", "true"], { env: home.env });
  await untilReady(home, 1);
  const script = "for i in 1 2 3 4 5 6; do echo $i; sleep 1; done";
  const run = startPyro(["run", "--", "sh", "-c", script], { env: home.env });
  await run.untilOutput("2\n");
  await untilReady(home, 1);
  process.kill((await status(home)).pid, "SIGKILL");
  const finished = await run.finished;
  assert.equal(finished.status, 0, finished.stderr.toString());
  assert.equal(finished.stdout.toString(), "1\n2\n3\n4\n5\n6\n");
  await untilGone(() => home.processes(VMM));
  await runOk(["--", "true"], { env: home.env });
  await untilReady(home, 1);
  assert.equal((await home.processes(VMM)).length, 1);
});

test("a host that gets short of memory has them back, and it fills no more until it has room", async () => {
  await using room = await MachineRoom.open();
  const prepared = await room.prepared();
  // The host's memory itself cannot be made short here without harm to everything else on it.
  let availableMib = 4096;
  const pool = new Pool(new FreshStarts(), await room.scratch("pool"), 1, async () => ({
    totalMib: 8192,
    availableMib,
  }));
  await pool.open();
  const ready = async (count: number) => {
    const deadline = Date.now() + 30_000;
    while (pool.ready !== count) {
      assert.ok(Date.now() < deadline, `${pool.ready} are ready, not ${count}`);
      await sleep(100);
    }
  };
  try {
    pool.begin()(prepared);
    await ready(1);
    availableMib = 700;
    await ready(0);
    await untilGone(async () => (await room.launcher.vms()).filter((vm) => vm.running));
    pool.begin()(prepared);
    await sleep(2000);
    assert.equal(pool.ready, 0);
    availableMib = 4096;
    pool.begin()(prepared);
    await ready(1);
  } finally {
    await pool.close();
  }
});

test("giving it up while one is being filled leaves none, however far that was", async () => {
  await using room = await MachineRoom.open();
  const prepared = await room.prepared();
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<void>();
  const memory = async () => {
    asked.resolve();
    await answer.promise;
    return { totalMib: 8192, availableMib: 4096 };
  };
  const pool = new Pool(new FreshStarts(), await room.scratch("pool"), 1, memory);
  await pool.open();
  const running = async () => (await room.launcher.vms()).filter((vm) => vm.running);
  try {
    pool.begin()(prepared);
    await asked.promise;
    assert.equal(pool.holdsMemory, true);
    const early = pool.drain();
    answer.resolve();
    await early;
    assert.equal(pool.holdsMemory, false);
    assert.deepEqual(await running(), []);

    pool.begin()(prepared);
    await untilGone(async () => ((await running()).length > 0 ? [] : ["nothing starts"]));
    await pool.drain();
    assert.equal(pool.holdsMemory, false);
    assert.deepEqual(await running(), []);
    assert.deepEqual(await readdir(join(room.directory, "pool")), []);
  } finally {
    await pool.close();
  }
});
