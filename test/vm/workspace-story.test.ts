// A workspace's whole life from the command line and from the SDK, in real microVMs: made of a git repository, used,
// pushed to, looked at, deleted. Then nothing of it is left on the host.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmod, mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { Pyro } from "pyro-mcp";
import { type OwnHome, ownHome, pyro } from "./harness.ts";
import { untilAtRest, untilNothingRuns } from "./remains.ts";
import { type LogEntry, scratch, Workspaces } from "./workspaces.ts";

const AUTHOR = ["-c", "user.name=A Person", "-c", "user.email=person@example.org"];

/** A repository with two commits, an executable, a link and a directory below. */
async function repository(path: string): Promise<void> {
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", path, ...AUTHOR, ...args], { env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null" } });
  git("init", "-q", "-b", "main");
  await mkdir(join(path, "src", "deep"), { recursive: true });
  await writeFile(join(path, "README"), "one\n");
  await writeFile(join(path, "run.sh"), "#!/bin/sh\necho ran in $PWD\n");
  await chmod(join(path, "run.sh"), 0o755);
  await symlink("../../README", join(path, "src", "deep", "link"));
  git("add", ".");
  git("commit", "-q", "-m", "First");
  await writeFile(join(path, "README"), "two\n");
  git("commit", "-q", "-a", "-m", "Second");
}

/** When all workspaces are deleted: the daemon, the launcher, and nothing else. */
async function nothingLeft(home: OwnHome): Promise<void> {
  await untilAtRest(home, () => ({ vms: 0, runs: 0, workspaces: 0 }));
}

test("the story from the command line", { timeout: 300_000 }, async () => {
  const home = await ownHome({ templates: true });
  {
    await using _home = home;
    const all = new Workspaces(home.env);
    await using tree = await scratch();
    await repository(tree.path);

    const made = await all.finish([
      "create",
      "--seed-path",
      tree.path,
      "--name",
      "story",
      "--label",
      "a=b",
      "--id-only",
    ]);
    assert.equal(made.status, 0, made.stderr.toString());
    assert.match(made.stdout.toString(), /^ws_[a-z2-7]{10}\n$/);
    const id = made.stdout.toString().trim();

    const seeded = await all.status("story");
    assert.equal(seeded.workspace_id, id, "a name stands for the id");
    assert.equal(seeded.state, "started");
    assert.deepEqual(seeded.labels, { a: "b" });
    assert.equal(seeded.seed.mode, "directory");
    assert.equal(seeded.seed.skipped_count, 0);
    assert.ok(seeded.seed.entry_count > 20 && seeded.disk_used_bytes > 0, JSON.stringify(seeded));

    const exec = async (...args: string[]) => await all.finish(["exec", "story", ...args]);
    const clean = await exec("--", "git", "status", "--porcelain");
    assert.deepEqual([clean.status, clean.stdout.toString(), clean.stderr.toString()], [0, "", ""]);
    assert.equal(
      (await exec("--", "git", "log", "--format=%s %an")).stdout.toString(),
      "Second A Person\nFirst A Person\n",
    );
    assert.equal((await exec("--", "./run.sh")).stdout.toString(), "ran in /workspace\n");
    assert.equal((await exec("--cwd", "src/deep", "--", "cat", "link")).stdout.toString(), "two\n");

    await writeFile(join(tree.path, "README"), "three\n");
    const pushed = await all.ask<{ entry_count: number }>(["sync", "push", "story", join(tree.path, "README")]);
    assert.equal(pushed.entry_count, 1);
    assert.equal((await exec("--", "git", "status", "--porcelain")).stdout.toString(), " M README\n");
    assert.equal((await exec("--", "cat", "README")).stdout.toString(), "three\n");

    // stdin, status, streams apart, environment, a file that stays.
    const counted = await all.finish(["exec", "story", "--", "wc", "-c"], { input: "12345" });
    assert.equal(counted.stdout.toString().trim(), "5");
    const failed = await exec(
      "--env",
      "WHO=me",
      "--",
      "sh",
      "-c",
      'echo "$WHO"; echo err >&2; echo kept >/root/file; exit 7',
    );
    assert.deepEqual([failed.status, failed.stdout.toString()], [7, "me\n"]);
    assert.match(failed.stderr.toString(), /^err\n/);
    assert.equal((await exec("--", "cat", "/root/file")).stdout.toString(), "kept\n");
    assert.equal((await exec("--", "/no/such")).status, 127);

    const { entries } = await all.ask<{ entries: LogEntry[] }>(["logs", "story"]);
    assert.deepEqual(
      entries.map(({ sequence, process_id }) => [sequence, process_id]),
      entries.map((_, index) => [index + 1, `proc_${index + 1}`]),
    );
    assert.equal(entries.length, 10);
    const seven = entries.find(({ exit_code }) => exit_code === 7);
    assert.deepEqual([seven?.stdout, seven?.stderr], ["me\n", "err\n"]);
    const after = await all.status(id);
    assert.equal(after.command_count, 10);
    assert.equal(after.last_command?.exit_code, 127);
    assert.deepEqual(
      (await all.list(["--label", "a=b"])).map(({ name }) => name),
      ["story"],
    );
    assert.deepEqual(await all.list(["--label", "a=c"]), []);

    assert.deepEqual(await all.delete("story"), { workspace_id: id, deleted: true });
    await all.refused(["status", id], "WORKSPACE_NOT_FOUND");
    await all.refused(["delete", "story"], "WORKSPACE_NOT_FOUND");
    await all.refused(["exec", "story", "--", "true"], "WORKSPACE_NOT_FOUND");
    assert.deepEqual(await all.list(), []);
    await nothingLeft(home);
  }
  await untilNothingRuns(home);
});

test("the story from the SDK", { timeout: 300_000 }, async () => {
  const home = await ownHome({ templates: true });
  {
    await using _home = home;
    // The daemon takes its settings from who starts it.
    await pyro(["env", "list"], { env: home.env });
    await using client = new Pyro({ home: home.path });
    await using tree = await scratch();
    await repository(tree.path);

    const workspace = await client.createWorkspace({ seedPath: tree.path, env: { WHO: "sdk" } });
    const { workspaceId, created } = workspace;
    assert.deepEqual([created?.state, created?.seed.mode, created?.seed.seedPath], ["started", "directory", tree.path]);

    const clean = await workspace.exec(["git", "status", "--porcelain"]);
    assert.deepEqual([clean.exitCode, clean.stdout, clean.stderr], [0, "", ""]);
    await writeFile(join(tree.path, "new file"), "new\n");
    const pushed = await workspace.syncPush(tree.path);
    assert.equal(pushed.mode, "directory");
    const changed = await workspace.exec('git status --porcelain; echo "$WHO"; exit 3');
    assert.deepEqual([changed.exitCode, changed.stdout], [3, '?? "new file"\nsdk\n']);

    const running = workspace.exec("read line; echo got $line");
    await running.write("this\n");
    assert.equal((await running).stdout, "got this\n");

    const detached = await workspace.exec({ command: "sleep 1; echo late", detach: true });
    assert.equal(detached.state, "running");
    const ended = await workspace.process.wait(detached.processId);
    assert.deepEqual([ended.state, ended.exitCode], ["exited", 0]);
    const read = await workspace.process.read(detached.processId);
    assert.equal(read.stdout, "late\n");

    const { entries } = await workspace.logs();
    assert.deepEqual(
      entries.map(({ exitCode }) => exitCode),
      [0, 3, 0, 0],
    );
    assert.equal((await workspace.status()).commandCount, 4);
    assert.equal(await readFile(join(tree.path, "README"), "utf8"), "two\n", "the host's tree is as it was");

    const listed = await client.listWorkspaces();
    assert.deepEqual(
      listed.workspaces.map((one) => one.workspaceId),
      [workspaceId],
    );
    {
      await using ephemeral = await client.createWorkspace({ ephemeral: true });
      assert.equal((await ephemeral.exec("echo here")).stdout, "here\n");
    }
    assert.equal((await workspace.delete()).deleted, true);
    await assert.rejects(workspace.status(), { code: "WORKSPACE_NOT_FOUND" });
    assert.deepEqual((await client.listWorkspaces()).workspaces, []);
    await nothingLeft(home);
  }
  await untilNothingRuns(home);
});
