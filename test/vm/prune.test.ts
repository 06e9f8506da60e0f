// Pruning beside what runs: an image goes when no microVM stands on it any more, and those that lie ready go with it.
import assert from "node:assert/strict";
import { cp, mkdtemp } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { OwnHome, pyro, runOk, sharedHome, startPyro, untilGone, VMM } from "./harness.ts";

interface Pruned {
  readonly removed: readonly { readonly kind: string; readonly name: string }[];
  readonly reclaimed_bytes: number;
}

test("an image that a run stands on stays, and goes with what lay ready when it is over", async () => {
  await runOk(["--", "true"]);
  // Environments of its own: those of the other tests must not go.
  const path = await mkdtemp(join(tmpdir(), "pyro-home-"));
  await cp(join(sharedHome(), "environments"), join(path, "environments"), { recursive: true });
  await using home = new OwnHome(path, 1);
  const prune = async () => {
    const { status, stdout, stderr } = await pyro(["env", "prune", "--all", "--json"], { env: home.env });
    assert.equal(status, 0, stderr.toString());
    return JSON.parse(stdout.toString()) as Pruned;
  };
  const images = ({ removed }: Pruned) => removed.filter(({ kind }) => kind === "image");
  const run = startPyro(["run", "--", "sh", "-c", "echo on; read line; git --version"], {
    env: home.env,
    keepStdin: true,
  });
  await run.untilOutput("on\n");
  assert.deepEqual(images(await prune()), []);
  run.child.stdin?.end("go\n");
  const { status, stdout } = await run.finished;
  assert.equal(status, 0);
  assert.match(stdout.toString(), /^on\ngit version /);

  const ready = async () => {
    const { stdout } = await pyro(["daemon", "status", "--json"], { env: home.env });
    return (JSON.parse(stdout.toString()) as { pool: { ready: number } }).pool.ready;
  };
  await untilGone(async () => ((await ready()) === 1 ? [] : ["nothing ready yet"]), 60_000);
  const pruned = await prune();
  assert.equal(images(pruned).length, 1, JSON.stringify(pruned));
  assert.ok(pruned.reclaimed_bytes > 50e6);
  assert.equal(await ready(), 0);
  await untilGone(() => home.processes(VMM));
  const { stdout: list } = await pyro(["env", "list", "--json"], { env: home.env });
  const { environments } = JSON.parse(list.toString()) as {
    environments: { environment: string; installed: boolean }[];
  };
  assert.equal(environments.find(({ environment }) => environment === "debian:12")?.installed, false);
});
