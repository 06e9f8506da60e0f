// Real faults inside the guest, and of what holds its microVM: each ends in a code, and the next call works.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Qmp } from "../../src/drivers/qemu/qmp.ts";
import { codeOf, nothingRuns, within, worksAgain } from "./faulty.ts";
import { type OwnHome, ownHome, startPyro } from "./harness.ts";

/** No fault may take longer than this to be told, ms. */
const BOUND_MS = 60_000;

/** Runs a command that ends its own machine, and returns what the caller was told. */
async function lost(home: OwnHome, argv: string[]): Promise<void> {
  const begun = Date.now();
  const { status, stdout } = await startPyro(["run", "--json", "--", ...argv], { env: home.env }).finished;
  assert.equal(status, 125, stdout.toString());
  assert.equal(codeOf(stdout), "MICROVM_LOST");
  assert.ok(Date.now() - begun < BOUND_MS);
  await worksAgain(home);
}

// Signals do not reach process 1 of a machine, but root can write to its memory.
const OVERWRITE = `
with open("/proc/1/maps") as maps:
  text = [line.split()[0].split("-") for line in maps if " r-xp " in line and "vdso" not in line]
with open("/proc/1/mem", "r+b", 0) as memory:
  for first, last in text:
    memory.seek(int(first, 16))
    memory.write(b"\\xcc" * (int(last, 16) - int(first, 16)))
import time
time.sleep(300)
`;

test("a guest that ends itself: MICROVM_LOST, at once", { timeout: 400_000 }, async (context) => {
  await using home = await ownHome({ templates: true });
  await context.test("guestd overwritten", () => lost(home, ["python3", "-c", OVERWRITE]));
  await context.test("the kernel crashed", () => lost(home, ["sh", "-c", "echo c >/proc/sysrq-trigger; sleep 300"]));
  await context.test("rebooted", () => lost(home, ["sh", "-c", "echo b >/proc/sysrq-trigger; sleep 300"]));
  await context.test("powered off over the monitor", async () => {
    const run = startPyro(["run", "--verbose", "--", "sh", "-c", "echo up; sleep 300"], { env: home.env });
    await run.untilOutput("up");
    // All there are: which of them is the command's is not told.
    for (const name of await readdir(home.paths.vms)) {
      if (name.includes(".")) continue;
      const qmp = await Qmp.open(join(home.paths.vms, name, "qmp.sock"));
      await qmp.execute("quit");
      qmp.close();
    }
    const { status, stderr } = await within(run.finished, BOUND_MS);
    assert.equal(status, 125);
    assert.match(stderr.toString(), /"code":"MICROVM_LOST"/);
    await worksAgain(home);
  });
  await context.test("signals to process 1 end nothing", async () => {
    const script = "for s in KILL SEGV ABRT TERM STOP INT; do kill -$s 1; done; sleep 1; echo alive";
    const { status, stdout } = await startPyro(["run", "--", "sh", "-c", script], { env: home.env }).finished;
    assert.equal(status, 0);
    assert.equal(stdout.toString(), "alive\n");
  });
  await nothingRuns(home);
});

test("the launcher killed: MICROVM_LOST for what ran, nothing for what comes", {
  timeout: 300_000,
}, async (context) => {
  await using home = await ownHome({ templates: true });
  await worksAgain(home);
  const killLauncher = async () => {
    const [launcher] = await home.processes(/pyro-launch/);
    assert.ok(launcher !== undefined, "no launcher runs");
    process.kill(launcher, "SIGKILL");
  };
  await context.test("while idle", async () => {
    await killLauncher();
    await worksAgain(home);
  });
  await context.test("twice, with the daemon", async () => {
    const daemon = await home.pid();
    await killLauncher();
    process.kill(daemon, "SIGKILL");
    await worksAgain(home);
  });
  await context.test("under two commands", async () => {
    const runs = [1, 2].map(() =>
      startPyro(["run", "--verbose", "--", "sh", "-c", "echo up; sleep 300"], { env: home.env }),
    );
    for (const run of runs) await run.untilOutput("up");
    await killLauncher();
    for (const run of runs) {
      const { status, stderr } = await within(run.finished, BOUND_MS);
      assert.equal(status, 125);
      assert.match(stderr.toString(), /"code":"MICROVM_LOST"/);
    }
    await worksAgain(home);
  });
  await nothingRuns(home);
});
