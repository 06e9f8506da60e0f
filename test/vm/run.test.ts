// `pyro run` as a user has it: what the command sees, what comes through, and the exit statuses.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { pathsFor } from "../../src/engine/paths.ts";
import { processesOf, pyro, runOk, sha256, sharedHome, startPyro, untilGone, VMM_OR_SANDBOX } from "./harness.ts";

test("git's version comes from inside a guest with its own kernel, and the sizes are those asked for", async () => {
  assert.match(await runOk(["debian:12", "--", "git", "--version"]), /^git version 2\./);
  const script = "uname -r; cat /etc/os-release; id -u; df -BM --output=size / | tail -1; nproc; free -m; pwd";
  const out = await runOk([
    "debian:12",
    "--mem-mib",
    "512",
    "--vcpu-count",
    "2",
    "--disk-mib",
    "4096",
    "--",
    "sh",
    "-c",
    script,
  ]);
  assert.match(out, /^6\.1\.0-\d+-cloud-amd64$/m);
  assert.match(out, /^VERSION_CODENAME=bookworm$/m);
  assert.match(out, /^0$/m);
  assert.match(out, /^2$/m);
  assert.match(out, /^\/workspace$/m);
  const disk = Number(/^\s*(\d+)M$/m.exec(out)?.[1]);
  assert.ok(disk > 3700 && disk <= 4096, `disk of ${disk} MiB`);
  const memory = Number(/^Mem:\s+(\d+)/m.exec(out)?.[1]);
  assert.ok(memory > 380 && memory <= 512, `memory of ${memory} MiB`);
});

test("stdin is piped in; stdout and stderr stay apart", async () => {
  assert.equal(await runOk(["--", "cat"], { input: "hi\n" }), "hi\n");
  const { status, stdout, stderr } = await pyro(["run", "--quiet", "--", "sh", "-c", "echo out; echo err >&2"]);
  assert.equal(status, 0);
  assert.equal(stdout.toString(), "out\n");
  assert.equal(stderr.toString(), "err\n");
  assert.equal(await runOk(["--no-stdin", "--", "cat"], { input: "unseen" }), "");
});

test("10 MB of random bytes pass unchanged both ways", async () => {
  const bytes = randomBytes(10_000_000);
  const { status, stdout } = await pyro(["run", "--quiet", "--", "cat"], { input: bytes });
  assert.equal(status, 0);
  assert.equal(stdout.length, bytes.length);
  assert.equal(sha256(stdout), sha256(bytes));
});

test("output comes as it is printed", async () => {
  const run = startPyro(["run", "--", "sh", "-c", "echo first; sleep 300"]);
  await run.untilOutput("first");
  run.child.kill("SIGTERM");
  await run.finished;
});

test("exit statuses: the command's own, 127, 126, 128+n, 125", async () => {
  const status = async (...args: string[]) => (await pyro(["run", ...args])).status;
  assert.equal(await status("--", "sh", "-c", "exit 7"), 7);
  assert.equal(await status("--", "no-such-program"), 127);
  assert.match(
    (await pyro(["run", "--quiet", "--", "no-such-program"])).stderr.toString(),
    /no-such-program.*not found/,
  );
  assert.equal(await status("--", "/etc/passwd"), 126);
  assert.equal(await status("--", "sh", "-c", "kill -TERM $$"), 143);
  assert.equal(await status("--", "sh", "-c", "kill -KILL $$"), 137);
  assert.equal(await status(), 125);
  assert.equal(await status("--mem-mib", "1", "--", "true"), 125);
  assert.equal(await status("no-such:environment", "--", "true"), 125);
  assert.equal(await status("--cwd", "/no/such", "--", "true"), 125);
  assert.equal(await status("--user", "nobody-here", "--", "true"), 125);
});

test("a timeout kills the whole tree, keeps what was printed and exits 124", async () => {
  const before = Date.now();
  const { status, stdout } = await pyro([
    "run",
    "--quiet",
    "--timeout-seconds",
    "2",
    "--",
    "sh",
    "-c",
    "echo partial; trap '' TERM; (trap '' TERM; sleep 1000) & sleep 1000",
  ]);
  assert.equal(status, 124);
  assert.equal(stdout.toString(), "partial\n");
  assert.ok(Date.now() - before < 60_000);
});

test("a command ends when its own process ends, whatever its children hold open", async () => {
  const out = await runOk(["--", "sh", "-c", "sleep 1000 & echo done"]);
  assert.equal(out, "done\n");
});

test("cwd, env, user and terminal are as asked", async () => {
  assert.equal(await runOk(["--cwd", "/usr/lib", "--", "pwd"]), "/usr/lib\n");
  assert.equal(await runOk(["--env", "A=1", "--env", "B=x=y z", "--", "sh", "-c", 'echo "$A $B"']), "1 x=y z\n");
  assert.equal(await runOk(["--user", "nobody", "--cwd", "/", "--", "id", "-un"]), "nobody\n");
  assert.equal(await runOk(["--user", "1234:2345", "--cwd", "/", "--", "sh", "-c", "id -u; id -g"]), "1234\n2345\n");
  assert.match(await runOk(["-t", "--", "sh", "-c", "test -t 0 && test -t 1 && tty"]), /^\/dev\/pts\/\d+\r\n$/);
});

test("--json is one document with everything in it", async () => {
  const { status, stdout } = await pyro(["run", "--json", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
  assert.equal(status, 3);
  const result = JSON.parse(stdout.toString()) as Record<string, unknown>;
  assert.equal(result.stdout, "out\n");
  assert.equal(result.stderr, "err\n");
  assert.equal(result.exit_code, 3);
  assert.equal(result.state, "exited");
  assert.equal(result.stdout_encoding, "utf-8");
  const wrong = await pyro(["run", "--json", "no-such:environment", "--", "true"]);
  assert.equal(wrong.status, 125);
  const { error } = JSON.parse(wrong.stdout.toString()) as { error: { code: string; hint: string } };
  assert.equal(error.code, "ENVIRONMENT_NOT_FOUND");
});

test("Ctrl-C reaches the command; a second one ends the run", async () => {
  const obeying = startPyro([
    "run",
    "--",
    "sh",
    "-c",
    "trap 'echo caught; exit 42' INT; echo ready; while :; do sleep 0.1; done",
  ]);
  await obeying.untilOutput("ready");
  obeying.child.kill("SIGINT");
  const first = await obeying.finished;
  assert.match(first.stdout.toString(), /caught/);
  assert.equal(first.status, 42);

  const stubborn = startPyro(["run", "--", "sh", "-c", "trap '' INT; echo ready; while :; do sleep 0.1; done"]);
  await stubborn.untilOutput("ready");
  stubborn.child.kill("SIGINT");
  await sleep(500);
  assert.equal(stubborn.child.exitCode, null);
  stubborn.child.kill("SIGINT");
  assert.equal((await stubborn.finished).status, 130);
});

test("a closed pipe ends the run", async () => {
  const run = startPyro(["run", "--quiet", "--", "sh", "-c", "while :; do echo y; done"]);
  await run.untilOutput("y\ny\n");
  run.child.stdout?.destroy();
  assert.equal((await run.finished).status, 141);
});

test("nothing runs on after the runs", async () => {
  const paths = pathsFor({ PYRO_HOME: sharedHome() }, process.getuid?.() ?? 0);
  await untilGone(() => processesOf(paths, VMM_OR_SANDBOX));
});
