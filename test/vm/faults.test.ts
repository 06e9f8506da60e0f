// Real faults under `pyro run`: what is missing, killed or silent gives a code or keeps its promise, and leaves nothing.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type OwnHome,
  ownHome,
  PYRO,
  pyro,
  startProgram,
  startPyro,
  untilGone,
  VMM,
  VMM_OR_SANDBOX,
} from "./harness.ts";

interface Failed {
  readonly error: { readonly code: string; readonly hint: string; readonly retryable: boolean };
}

function codeOf(stdout: Buffer): string {
  return (JSON.parse(stdout.toString()) as Failed).error.code;
}

async function vmm(home: OwnHome): Promise<number> {
  const [pid] = await home.processes(VMM);
  assert.ok(pid !== undefined, "no VMM runs");
  return pid;
}

async function nothingRuns(home: OwnHome): Promise<void> {
  await untilGone(() => home.processes(VMM_OR_SANDBOX));
  await untilGone(() => readdir(home.paths.runs));
  await untilGone(() => readdir(home.paths.vms));
}

test("QEMU missing: HOST_TOOL_MISSING with the package's name", { timeout: 120_000 }, async (context) => {
  if (process.getuid?.() !== 0) return context.skip("hiding a system program takes root");
  await using home = await ownHome({ templates: true });
  // In a mount namespace of its own the program is something that cannot be executed.
  const hide = 'mount --bind /dev/null "$(command -v qemu-system-x86_64)" && exec "$0" "$@"';
  const args = ["-m", "sh", "-c", hide, process.execPath, PYRO, "run", "--json", "--", "true"];
  const { status, stdout } = await startProgram("unshare", args, { env: home.env }).finished;
  assert.equal(status, 125);
  assert.equal(codeOf(stdout), "HOST_TOOL_MISSING");
  assert.match(stdout.toString(), /qemu-system-x86/);
  await nothingRuns(home);
});

test("QEMU killed under a command: MICROVM_LOST, at once", { timeout: 120_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const run = startPyro(["run", "--json", "--", "sh", "-c", "sleep 300"], { env: home.env });
  await untilVmm(home);
  await sleep(3000);
  process.kill(await vmm(home), "SIGKILL");
  const { status, stdout } = await run.finished;
  assert.equal(status, 125);
  assert.equal(codeOf(stdout), "MICROVM_LOST");
  await nothingRuns(home);
});

test("the daemon killed under a command: the client goes on, the command runs once, no byte is lost", {
  timeout: 240_000,
}, async () => {
  await using home = await ownHome({ templates: true });
  const script =
    "echo started >>/workspace/log; i=0; while [ $i -lt 60 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; cat; wc -l </workspace/log";
  const run = startPyro(["run", "--", "sh", "-c", script], { env: home.env, keepStdin: true });
  run.child.stdin?.write("before\n");
  await run.untilOutput("line 5\n");
  process.kill(await home.pid(), "SIGKILL");
  await run.untilOutput("line 30\n");
  process.kill(await home.pid(), "SIGKILL");
  run.child.stdin?.end("after\n");
  const { status, stdout, stderr } = await run.finished;
  const lines = Array.from({ length: 60 }, (_, index) => `line ${index}\n`).join("");
  assert.equal(stdout.toString(), `${lines}before\nafter\n1\n`, stderr.toString());
  assert.equal(status, 0);
  await nothingRuns(home);
});

test("two first calls at once share one daemon and one template", { timeout: 240_000 }, async () => {
  await using home = await ownHome({ templates: false });
  const [one, two] = await Promise.all([
    pyro(["run", "--", "echo", "one"], { env: home.env }),
    pyro(["run", "--", "echo", "two"], { env: home.env }),
  ]);
  assert.equal(one.stdout.toString(), "one\n", one.stderr.toString());
  assert.equal(two.stdout.toString(), "two\n", two.stderr.toString());
  const templates = (await readdir(home.paths.templates)).filter((name) => !name.startsWith("."));
  assert.equal(templates.length, 1);
  await nothingRuns(home);
});

test("a guest that never answers: GUEST_UNRESPONSIVE, and it is ended", { timeout: 240_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const run = startPyro(["run", "--json", "--", "sh", "-c", "sleep 300"], { env: home.env });
  await untilVmm(home);
  await sleep(3000);
  process.kill(await vmm(home), "SIGSTOP");
  const { status, stdout } = await run.finished;
  assert.equal(status, 125);
  assert.equal(codeOf(stdout), "GUEST_UNRESPONSIVE");
  await nothingRuns(home);
});

test("a client that is killed takes its run with it, once nobody claims it", { timeout: 240_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const run = startPyro(["run", "--", "sh", "-c", "echo ready; sleep 1000"], { env: home.env });
  await run.untilOutput("ready");
  run.child.kill("SIGKILL");
  await run.finished;
  await untilGone(() => home.processes(VMM_OR_SANDBOX), 90_000);
  await nothingRuns(home);
});

async function untilVmm(home: OwnHome): Promise<void> {
  const deadline = Date.now() + 60_000;
  while ((await home.processes(VMM)).length === 0) {
    if (Date.now() > deadline) throw new Error("no VMM appeared");
    await sleep(50);
  }
}
