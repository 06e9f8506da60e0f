// The examples, run as somebody who copies them runs them. Each leaves nothing.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT, startProgram } from "./harness.ts";
import { scratch, Workspaces } from "./workspaces.ts";

const all = new Workspaces();
const PYRO_COMMAND = join(ROOT, "bin", "pyro");

async function nothingLeft(label: string): Promise<void> {
  assert.deepEqual(await all.list(["--label", `example=${label}`]), []);
}

test("examples/cli.sh works on the repository it is called in", { timeout: 240_000 }, async () => {
  await using tree = await scratch();
  const git = (...args: string[]) => execFileSync("git", ["-C", tree.path, ...args], { env: GIT_ENV });
  git("init", "-q");
  await writeFile(join(tree.path, "code.py"), "print(6 * 7)\n");
  await writeFile(join(tree.path, ".gitignore"), "secret.txt\n");
  await writeFile(join(tree.path, "secret.txt"), "not to be sent\n");
  git("add", ".");
  git("commit", "-q", "-m", "First");
  const script = join(ROOT, "examples", "cli.sh");
  const command = ["sh", "-c", "git status --short; ls secret.txt; python3 code.py"];
  const { status, stdout, stderr } = await startProgram("env", ["-C", tree.path, script, ...command], {
    env: { PYRO: PYRO_COMMAND },
  }).finished;
  assert.equal(status, 0, `${stdout}${stderr}`);
  const lines = stdout.toString().split("\n");
  const [first, pushed = "", changed = "", ...second] = lines;
  assert.match(`${pushed}\n${changed}`, /^Pushed .* 1 entry.*\nChanged at /);
  assert.deepEqual([first, ...second.slice(0, 2)], ["42", "?? CHANGED.md", "42"]);
  assert.match(stderr.toString(), /secret\.txt/, "what git ignores is not there");
  assert.match(stdout.toString(), /What was run:\n(.*\n)*.*code\.py/);
  assert.equal(
    execFileSync("git", ["-C", tree.path, "status", "--short"]).toString(),
    "",
    "the host's tree is as it was",
  );
  await nothingLeft("cli");
});

test("examples/cli.sh deletes its workspace when it is interrupted", { timeout: 240_000 }, async () => {
  await using tree = await scratch();
  execFileSync("git", ["init", "-q", tree.path]);
  const script = join(ROOT, "examples", "cli.sh");
  const run = startProgram("env", ["-C", tree.path, script, "sh", "-c", "echo ready; sleep 1000"], {
    env: { PYRO: PYRO_COMMAND },
  });
  await run.untilOutput("ready");
  // As a terminal would: to the script and to what it runs.
  for (const pid of [run.child.pid ?? 0, ...childrenOf(run.child.pid ?? 0)]) process.kill(pid, "SIGINT");
  const { status } = await run.finished;
  assert.equal(status, 130);
  await nothingLeft("cli");
});

test("examples/sdk.ts mends what fails", { timeout: 240_000 }, async () => {
  const { status, stdout, stderr } = await startProgram(process.execPath, [join(ROOT, "examples", "sdk.ts")]).finished;
  assert.equal(status, 0, `${stdout}${stderr}`);
  assert.equal(
    stdout.toString(),
    [
      "before: exit status 1, AssertionError: -1",
      "pushed 2 entries to /workspace",
      "passed",
      "after: exit status 0",
      "in a REPL: 42",
      "1. python3 -B check.py: 1",
      "2. sh -lc python3 -B check.py: 0",
      "1 of 2 commands failed; 1 file was modified",
      "",
    ].join("\n"),
  );
  await nothingLeft("sdk");
});

test("examples/service.ts serves, and says what it cannot", { timeout: 240_000 }, async () => {
  const program = startProgram(process.execPath, [join(ROOT, "examples", "service.ts")]);
  const { status, stdout, stderr } = await program.finished;
  assert.equal(status, 0, `${stdout}${stderr}`);
  assert.equal(
    stdout.toString(),
    [
      "The service web has failed: it exited with 2 before it was ready.",
      "  [Errno 2] No such file or directory",
      "web is running",
      "it says hello",
      "web is stopped: requested",
      "GET /greeting HTTP/1.0",
      "",
    ].join("\n"),
  );
  await nothingLeft("service");
});

test("examples/snapshots.ts goes back, and two ways", { timeout: 240_000 }, async () => {
  const program = startProgram(process.execPath, [join(ROOT, "examples", "snapshots.ts")]);
  const { status, stdout, stderr } = await program.finished;
  assert.equal(status, 0, `${stdout}${stderr}`);
  assert.equal(
    stdout.toString(),
    [
      "good is a named snapshot",
      "after the accident: broken",
      "after reset number 1: 100 lines",
      "here: 150 lines, in the clone: 100 lines",
      "it is stopped",
      "started again: 150 lines",
      "baseline (baseline)",
      "good (named)",
      "as it was created: broken",
      "",
    ].join("\n"),
  );
  await nothingLeft("snapshots");
});

test("examples/secrets.ts uses a token and shows none", { timeout: 240_000 }, async () => {
  const program = startProgram(process.execPath, [join(ROOT, "examples", "secrets.ts")]);
  const { status, stdout, stderr } = await program.finished;
  assert.equal(status, 0, `${stdout}${stderr}`);
  assert.equal(
    stdout.toString(),
    [
      "using [redacted:TOKEN]; redacted: true",
      "0",
      "[redacted:TOKEN]",
      "true",
      "There is no secret TOKENS here. Did you mean TOKEN?",
      "",
    ].join("\n"),
  );
  await nothingLeft("secrets");
});

test("examples/ai-sdk.ts has a model of the AI SDK use a workspace", { timeout: 240_000 }, async () => {
  const program = startProgram(process.execPath, [join(ROOT, "examples", "ai-sdk.ts")]);
  const { status, stdout, stderr } = await program.finished;
  assert.equal(status, 0, `${stdout}${stderr}`);
  const [created, counted, missed = "", ...rest] = stdout.toString().trimEnd().split("\n");
  assert.deepEqual([created, counted], ['workspace_create: "started"', 'workspace_exec: "3 numbers\\n"']);
  assert.match(missed, /^workspace_file_read failed: PyroError: FILE_NOT_FOUND: /);
  assert.deepEqual(rest, [
    'workspace_file_read: "1\\n2\\n3\\n"',
    "workspace_delete: true",
    "Counted to three, and tidied up.",
  ]);
  await nothingLeft("ai-sdk");
});

test("examples/mcp-client.mjs does what an agent does", { timeout: 240_000 }, async () => {
  const program = startProgram(process.execPath, [join(ROOT, "examples", "mcp-client.mjs")], {
    env: { PYRO: PYRO_COMMAND },
  });
  const { status, stdout, stderr } = await program.finished;
  assert.equal(status, 0, `${stdout}${stderr}`);
  const [tools = "", ...rest] = stdout.toString().trimEnd().split("\n");
  for (const tool of ["workspace_create", "workspace_exec", "workspace_sync_push", "workspace_delete"])
    assert.ok(tools.split(/[ ,]+/).includes(tool), tools);
  assert.deepEqual(rest, ["HELLO", "HELLO AGAIN"]);
  await nothingLeft("mcp");
});

const GIT_ENV = {
  ...process.env,
  GIT_CONFIG_GLOBAL: "/dev/null",
  GIT_AUTHOR_NAME: "a",
  GIT_AUTHOR_EMAIL: "a@example.org",
  GIT_COMMITTER_NAME: "a",
  GIT_COMMITTER_EMAIL: "a@example.org",
};

/** Pids below a process. */
function childrenOf(pid: number): number[] {
  const listed = execFileSync("ps", ["-e", "-o", "pid=,ppid="]).toString().trim().split("\n");
  const parents = listed.map((line) => line.trim().split(/\s+/).map(Number));
  const below = (of: number): number[] =>
    parents.filter(([, parent]) => parent === of).flatMap(([child = 0]) => [child, ...below(child)]);
  return below(pid);
}
