// bin/pyro as a process: its Node, closed outputs, signals, and terminals that are given back.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ToClient } from "../../../src/wire/protocol.ts";
import { Conversation, type Handler, listen, temporaryHome } from "../client/fake-daemon.ts";

const BIN = join(import.meta.dirname, "..", "..", "..", "bin");
const PYRO = join(BIN, "pyro");

function shell(line: string, env: NodeJS.ProcessEnv = process.env) {
  const { stdout, stderr, status } = spawnSync("bash", ["-c", line], { encoding: "utf8", env, timeout: 30_000 });
  return { stdout, stderr, status };
}

test("it is found through links, from anywhere, and by a Node of any age", async () => {
  const directory = await mkdtemp(join(tmpdir(), "pyro-command-"));
  try {
    await symlink(PYRO, join(directory, "one"));
    await symlink("one", join(directory, "two"));
    const expected = shell(`${PYRO} --version`);
    assert.equal(expected.status, 0);
    assert.deepEqual(shell("./two --version", { ...process.env }).status, 127);
    assert.deepEqual(shell(`cd ${directory} && ./two --version`), expected);
    assert.deepEqual(shell(`cd / && PATH=${directory}:$PATH two --version`), expected);
    assert.deepEqual(shell(`node ${PYRO}.js --version`), expected);
  } finally {
    await rm(directory, { recursive: true });
  }
});

test("it is one process: the shell's child is the Node that runs", async () => {
  await using home = await temporaryHome();
  const child = spawn(PYRO, ["mcp", "serve"], { env: { ...process.env, PYRO_HOME: home.directory }, stdio: "pipe" });
  const { promise, resolve } = Promise.withResolvers<void>();
  child.stdout.once("data", () => resolve());
  const initialize = { protocolVersion: "2025-11-25", capabilities: {}, clientInfo: { name: "test", version: "0" } };
  child.stdin.write(`${JSON.stringify({ jsonrpc: "2.0", id: 1, method: "initialize", params: initialize })}\n`);
  await promise;
  child.kill("SIGTERM");
  assert.deepEqual(await once(child, "exit"), [null, "SIGTERM"]);
});

test("an output that takes nothing is no success and no stack", () => {
  for (const closed of [">/dev/full", ">&-"]) {
    for (const command of [
      "--version",
      "--help",
      "daemon status --json",
      "completion fish",
      "mcp config codex --quiet",
    ]) {
      const { stderr, status } = shell(`${PYRO} ${command} ${closed}`);
      assert.equal(status, 1, `${command} ${closed}`);
      assert.match(stderr, /^pyro: stdout takes no output: ENOSPC[^\n]*\n {6}Open it[^\n]*\n$/, `${command} ${closed}`);
    }
  }
  assert.deepEqual(shell(`${PYRO} env lst 2>&-`), { stdout: "", stderr: "", status: 2 });
  assert.deepEqual(shell(`${PYRO} env lst >&- 2>&-`), { stdout: "", stderr: "", status: 2 });
  assert.deepEqual(shell(`${PYRO} run --json >&- 2>&-`), { stdout: "", stderr: "", status: 125 });
});

test("a reader who does not read ends it quietly", () => {
  const { stdout, stderr } = shell(`set -o pipefail; ${PYRO} --help | true; echo "$?"; ${PYRO} --json env lst | true`);
  assert.equal(stderr, "");
  // As a rule the reader has gone by then; if not, the help was written.
  assert.match(stdout, /^(141|0)\n$/);
});

/** A run that prints a word and never ends. */
const endless: Handler = async (request, response) => {
  const talk = await Conversation.open(request, response);
  talk.json(ToClient.Event, { type: "started", vm_id: talk.head.vm_id, process_id: "proc_1" });
  talk.output("stdout", 5, "ready");
  while ((await talk.next()) !== undefined);
};

test("a terminal is given back however the run ends", { timeout: 30_000 }, async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, endless);
  const file = join(home.directory, "pid");
  for (const [signals, status] of [
    [["SIGTERM", "SIGTERM"], 143],
    [["SIGINT", "SIGINT", "SIGINT"], 130],
  ] as const) {
    // script(1) makes a terminal; stty says in what state it was left.
    const run = `sh -c 'echo $$ >${file}; exec ${PYRO} run -t -- x'`;
    const line = `stty sane; ${run}; echo " status $?"; stty -a`;
    const child = spawn("script", ["-qec", line, "/dev/null"], {
      env: { ...process.env, PYRO_HOME: home.directory, SHELL: "/bin/sh" },
      stdio: ["pipe", "pipe", "inherit"],
    });
    const closed = once(child, "close");
    let seen = "";
    const ready = Promise.withResolvers<void>();
    child.stdout.on("data", (chunk: Buffer) => {
      seen += chunk;
      if (seen.includes("ready")) ready.resolve();
    });
    await ready.promise;
    const during = readFileSync(file, "utf8").trim();
    for (const signal of signals) {
      process.kill(Number(during), signal);
      await sleep(100);
    }
    await closed;
    assert.match(seen, new RegExp(`status ${status}`));
    assert.match(seen, /\sicanon/);
    assert.doesNotMatch(seen, /-icanon|-echo\s/);
  }
});
