// Daemons that are killed with services running, starting and ending, and a microVM that is lost under them: everything is
// there afterwards, or says what became of it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type OwnHome, ownHome, startPyro } from "./harness.ts";
import { pushPrograms, Services, server } from "./services.ts";
import { Workspaces } from "./workspaces.ts";

async function killDaemon(home: OwnHome): Promise<void> {
  process.kill(await home.pid(), "SIGKILL");
}

test("a daemon killed with services running, starting and ending", { timeout: 300_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const all = new Workspaces(home.env);
  await using workspace = await all.create();
  const services = new Services(all, workspace.id);
  await pushPrograms(workspace);

  const counting = "n=0; while :; do n=$((n + 1)); echo $n; sleep 0.02; done";
  await services.start("counts", [], ["sh", "-c", counting]);
  const web = await services.start("web", ["--ready-tcp", "localhost:8000"], server(8000));
  const followed = startPyro(["workspace", "service", "logs", workspace.id, "counts", "--tail", "all", "--follow"], {
    env: home.env,
  });
  // Its client waits on, over the death of the daemon; so does the end of the other.
  const slow = services.starting("slow", ["--json", "--ready-tcp", "localhost:8001"], server(8001, 4));
  const never = services.starting(
    "never",
    ["--json", "--ready-file", "never", "--ready-timeout-seconds", "6"],
    ["sh", "-c", "echo waiting; exec sleep 1000"],
  );
  await services.start("deaf", [], ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]);
  const stopping = startPyro(["workspace", "service", "stop", workspace.id, "deaf", "--grace-seconds", "4", "--json"], {
    env: home.env,
  });
  for (let left = 100; left > 0 && (await services.list()).length < 5; left--) await sleep(50);
  await sleep(500);
  await killDaemon(home);

  const started = await slow.finished;
  assert.equal(started.status, 0, `${started.stdout}${started.stderr}`);
  assert.equal((JSON.parse(started.stdout.toString()) as { state: string }).state, "running");
  const failed = await never.finished;
  assert.equal(failed.status, 1, `${failed.stdout}${failed.stderr}`);
  assert.match(failed.stdout.toString(), /"SERVICE_FAILED".*not ready within 6 s/);
  const stopped = await stopping.finished;
  assert.equal(stopped.status, 0, `${stopped.stdout}${stopped.stderr}`);

  const states = Object.fromEntries((await services.list()).map(({ service_name, state }) => [service_name, state]));
  assert.deepEqual(states, { counts: "running", deaf: "stopped", never: "failed", slow: "running", web: "running" });
  assert.deepEqual(await services.status("web"), web, "nothing of it has changed");
  assert.equal(await workspace.ok(["python3", "client.py", "8000", "/"]), "hello\n");

  // And once more, with nobody waiting.
  await killDaemon(home);
  await sleep(300);
  assert.equal((await services.stop("counts")).state, "stopped");
  const { stdout, status } = await followed.finished;
  assert.equal(status, 0);
  const log = await services.log("counts");
  for (const text of [log, stdout.toString()]) {
    const numbers = text.trimEnd().split("\n").map(Number);
    assert.ok(numbers.length > 50);
    assert.deepEqual(
      numbers,
      numbers.map((_, index) => index + 1),
      "nothing is lost, nothing comes twice",
    );
  }
  assert.equal(stdout.toString(), log);
  assert.equal((await services.stop("slow")).exit_code, 0);

  // The microVM goes under what is left.
  const [vmm = 0] = await home.processes(/qemu/);
  process.kill(vmm, "SIGKILL");
  await workspace.untilState("stopped");
  const lost = await services.status("web");
  assert.deepEqual([lost.state, lost.stop_reason, lost.exit_code], ["stopped", "workspace_lost", null]);
  assert.match(await services.log("web"), /^starting\nlistening\n/);
  const again = await services.start("web", ["--ready-tcp", "localhost:8000"], server(8000));
  assert.equal(again.state, "running");
  const counts = await workspace.status();
  assert.deepEqual([counts.service_count, counts.running_service_count], [5, 1]);
});
