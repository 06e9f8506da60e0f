// What arrives in a workspace is what there was, file by file: by seed and by push, as a directory and as an archive.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { chmod, mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { compareTrees, DESCRIBE_SCRIPT, type Description, describeTree } from "../trees/describe.ts";
import { makeTree } from "../trees/make.ts";
import { ROOT } from "./harness.ts";
import { scratch, type Workspace, Workspaces } from "./workspaces.ts";

const all = new Workspaces();
const MIB = 2 ** 20;
/** Differences that are told of two trees; the rest is counted. */
const TOLD = 20;

/** Of a directory of the guest. */
async function describeThere(workspace: Workspace, directory = "/workspace"): Promise<Description> {
  return JSON.parse(await workspace.ok(["python3", "-", directory], { input: DESCRIBE_SCRIPT })) as Description;
}

function same(expected: Description, actual: Description, what: string): void {
  const different = compareTrees(expected, actual);
  if (different.length === 0) return;
  assert.fail(`${what}: ${different.length} differences\n${different.slice(0, TOLD).join("\n")}`);
}

/** A directory that makeTree can make; it goes with the block. */
async function treeOf(...made: Parameters<typeof makeTree> extends [string, ...infer Rest] ? Rest : never) {
  const outer = await scratch();
  const path = join(outer.path, "tree");
  makeTree(path, ...made);
  return { path, beside: outer.path, [Symbol.asyncDispose]: () => outer[Symbol.asyncDispose]() };
}

test("a tree with everything unusual in it", { timeout: 600_000 }, async (context) => {
  await using tree = await treeOf("odd");
  const here = describeTree(tree.path);
  const count = Object.keys(here).length;
  execFileSync("tar", ["-C", tree.path, "--format=posix", "--sparse", "-cf", join(tree.beside, "tree.tar"), "."]);
  execFileSync("sh", ["-c", 'gzip -c tree.tar >tree.tar.gz && cp tree.tar.gz "tree .tgz"'], { cwd: tree.beside });

  await context.test("as a seed", async () => {
    await using workspace = await all.create(["--seed-path", tree.path]);
    same(here, await describeThere(workspace), "seeded");
    assert.equal(workspace.record.seed.entry_count, count);
    assert.equal(await workspace.sh("find . ! -user root -o ! -group root"), "", "owners that are not root");
    // Again over itself: nothing changes.
    await workspace.push(tree.path);
    same(here, await describeThere(workspace), "pushed over itself");
  });
  await context.test("pushed to a place below", async () => {
    await using workspace = await all.create();
    const { destination, entry_count } = await workspace.push(tree.path, ["--dest", "some/where"]);
    assert.deepEqual([destination, entry_count], ["/workspace/some/where", count]);
    same(here, await describeThere(workspace, "/workspace/some/where"), "pushed");
  });
  for (const name of ["tree.tar", "tree.tar.gz", "tree .tgz"]) {
    await context.test(`as ${name}`, async () => {
      const path = join(tree.beside, name);
      await using workspace = await all.create(["--seed-path", path]);
      assert.equal(workspace.record.seed.mode, "tar");
      same(here, await describeThere(workspace), "seeded");
      await workspace.push(path, ["--dest", "again"]);
      same(here, await describeThere(workspace, "/workspace/again"), "pushed");
    });
  }
});

test("a push replaces and adds, and a single file is pushed as one", { timeout: 240_000 }, async () => {
  await using old = await scratch();
  await using next = await scratch();
  for (const [path, content] of [
    ["same", "old"],
    ["only-old", "old"],
    ["d/inner", "old"],
  ] as const) {
    await mkdir(join(old.path, "d"), { recursive: true });
    await writeFile(join(old.path, path), content);
  }
  await symlink("only-old", join(old.path, "link"));
  await mkdir(join(next.path, "d"));
  await mkdir(join(next.path, "e"));
  for (const path of ["same", "d/inner", "e/new", "link"]) await writeFile(join(next.path, path), "new");
  await chmod(join(next.path, "same"), 0o755);
  await chmod(join(next.path, "d"), 0o700);

  await using workspace = await all.create(["--seed-path", old.path]);
  // What has it open keeps the file that it opened.
  const held = workspace.startExec(["sh", "-c", "exec 3<same; echo open; read line; cat <&3"], { keepStdin: true });
  await held.untilOutput("open");
  const { entry_count } = await workspace.push(next.path);
  assert.equal(entry_count, 6);
  held.child.stdin?.end("go\n");
  assert.equal((await held.finished).stdout.toString(), "open\nold");

  const there = await describeThere(workspace);
  const here = describeTree(next.path);
  const beside = ["only-old"].map((name) => Buffer.from(name).toString("hex"));
  for (const name of beside) {
    assert.ok(there[name] !== undefined, "what is not in a push stays");
    delete (there as Record<string, unknown>)[name];
  }
  same(here, there, "pushed");
  assert.equal(await workspace.ok(["cat", "only-old"]), "old", "a link is replaced, not followed");

  const single = await workspace.push(join(next.path, "e", "new"), ["--dest", "/workspace/f"]);
  assert.deepEqual([single.mode, single.entry_count, single.bytes_written], ["file", 1, 3]);
  assert.equal(await workspace.ok(["cat", "f/new"]), "new");
});

test("what is left out, and what cannot be sent", { timeout: 240_000 }, async () => {
  await using tree = await scratch();
  const at = (name: string) => join(tree.path, name);
  execFileSync("git", ["init", "-q", tree.path]);
  mkdirSync(at("build"));
  for (const name of ["kept", "secret", "a.log", "build/out", "b.tmp", "c.ignored"]) await writeFile(at(name), name);
  await writeFile(at(".pyroignore"), "secret\n*.log\n");
  await writeFile(at(".gitignore"), "*.ignored\n");
  execFileSync("mkfifo", [at("pipe")]);
  const server = createServer().listen(at("socket"));
  try {
    await using workspace = await all.create(["--seed-path", tree.path, "--exclude", "build/", "--gitignore"]);
    const names = (await workspace.sh("find . -path ./.git -prune -o ! -type d -print | sort")).trim().split("\n");
    assert.deepEqual(names, ["./.gitignore", "./.pyroignore", "./b.tmp", "./kept"]);
    const { skipped, skipped_count } = workspace.record.seed;
    assert.deepEqual(skipped.map(({ path }) => path).sort(), ["pipe", "socket"]);
    assert.equal(skipped_count, 2);
    for (const { reason } of skipped) assert.notEqual(reason, "");
  } finally {
    server.close();
  }
});

/** Seeds a workspace with a tree and pushes it to another place in it: both are the same as the host's. */
async function bothWays(path: string): Promise<Workspace> {
  const here = describeTree(path);
  const workspace = await all.create(["--seed-path", path]);
  same(here, await describeThere(workspace), "seeded");
  await workspace.push(path, ["--dest", "pushed/there"]);
  same(here, await describeThere(workspace, "/workspace/pushed/there"), "pushed");
  return workspace;
}

test("a sparse file of 2 GiB stays sparse", { timeout: 300_000 }, async () => {
  await using tree = await treeOf("sparse");
  await using workspace = await bothWays(tree.path);
  assert.ok((await workspace.status()).disk_used_bytes < 200 * MIB, "it is not sparse on the host");
});

test("20,000 small files", { timeout: 600_000 }, async () => {
  await using tree = await treeOf("many");
  await using _workspace = await bothWays(tree.path);
});

test("the unpacked package typescript", { timeout: 400_000 }, async () => {
  await using _workspace = await bothWays(join(ROOT, "node_modules", "typescript"));
});

test("node_modules as pnpm lays them out, with its store and without", { timeout: 400_000 }, async () => {
  await using tree = await treeOf("pnpm");
  await using workspace = await bothWays(tree.path);
  // Files that are linked to nothing else within the tree any more are files of their own.
  await rm(join(tree.path, ".store"), { recursive: true });
  await workspace.push(tree.path, ["--dest", "alone"]);
  same(describeTree(tree.path), await describeThere(workspace, "/workspace/alone"), "pushed without the store");
});

test("a git repository of 5,000 files is clean", { timeout: 600_000 }, async () => {
  await using tree = await treeOf("git");
  const here = describeTree(tree.path);
  await using workspace = await all.create(["--seed-path", tree.path]);
  same(here, await describeThere(workspace), "seeded");
  assert.equal(await workspace.ok(["git", "status", "--porcelain"]), "");
  assert.equal(await workspace.ok(["git", "fsck", "--no-progress"]), "");
  await writeFile(join(tree.path, "d0", "s0", "f0.txt"), "changed\n");
  await workspace.push(tree.path);
  assert.equal(await workspace.ok(["git", "status", "--porcelain"]), " M d0/s0/f0.txt\n");
});
