// What arrives in a workspace is what there was, file by file: by seed and by push, as a directory and as an archive.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { chmod, mkdir, rm, stat, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { ROOT } from "./harness.ts";
import {
  DESCRIBE,
  describeHere,
  makePnpmModules,
  makeRepository,
  makeSmallFiles,
  makeSparse,
  makeStrangeTree,
} from "./workspace-trees.ts";
import { scratch, type Workspace, Workspaces } from "./workspaces.ts";

const all = new Workspaces();
const MIB = 2 ** 20;

/** Of a directory of the guest. */
async function describeThere(workspace: Workspace, directory = "/workspace", ...args: string[]): Promise<string[]> {
  const output = await workspace.ok(["python3", "-c", DESCRIBE, ...args], { args: ["--cwd", directory] });
  return output.trimEnd().split("\n");
}

/** The first lines that differ say more than two long lists. */
function same(there: readonly string[], here: readonly string[], what: string): void {
  const [inThere, inHere] = [new Set(there), new Set(here)];
  const missing = here.filter((line) => !inThere.has(line)).slice(0, 10);
  const strange = there.filter((line) => !inHere.has(line)).slice(0, 10);
  if (missing.length + strange.length > 0)
    assert.fail(`${what}\nof the host only:\n  ${missing.join("\n  ")}\nof the guest only:\n  ${strange.join("\n  ")}`);
  assert.deepEqual(there, here, what);
}

test("a tree with everything unusual in it", { timeout: 400_000 }, async (context) => {
  await using tree = await scratch();
  makeStrangeTree(tree.path);
  const here = describeHere(tree.path);
  const tars = await scratch();
  await using _tars = tars;
  const tar = join(tars.path, "tree.tar");
  execFileSync("tar", ["-C", tree.path, "--format=posix", "--sparse", "-cf", tar, "."]);
  execFileSync("sh", ["-c", 'gzip -c tree.tar >tree.tar.gz && cp tree.tar.gz "tree .tgz"'], { cwd: tars.path });

  await context.test("as a seed", async () => {
    await using workspace = await all.create(["--seed-path", tree.path]);
    same(await describeThere(workspace), here, "seeded");
    assert.equal(workspace.record.seed.entry_count, here.length);
    const owners = (await describeThere(workspace, "/workspace", "owners")).filter((line) => !line.endsWith(" 0:0"));
    assert.deepEqual(owners, [], "owners that are not root");
    // Again over itself: nothing changes.
    await workspace.push(tree.path);
    same(await describeThere(workspace), here, "pushed over itself");
  });
  await context.test("pushed to a place below", async () => {
    await using workspace = await all.create();
    const { destination, entry_count } = await workspace.push(tree.path, ["--dest", "some/where"]);
    assert.deepEqual([destination, entry_count], ["/workspace/some/where", here.length]);
    same(await describeThere(workspace, "/workspace/some/where"), here, "pushed");
  });
  for (const name of ["tree.tar", "tree.tar.gz", "tree .tgz"]) {
    await context.test(`as ${name}`, async () => {
      await using workspace = await all.create(["--seed-path", join(tars.path, name)]);
      assert.equal(workspace.record.seed.mode, "tar");
      same(await describeThere(workspace), here, name);
      await workspace.push(join(tars.path, name), ["--dest", "again"]);
      same(await describeThere(workspace, "/workspace/again"), here, `${name}, pushed`);
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
  const of = (name: string) => there.find((line) => line.startsWith(`./${name} `));
  const here = describeHere(next.path);
  for (const name of ["same", "d", "d/inner", "e", "e/new", "link"]) {
    assert.equal(
      of(name),
      here.find((line) => line.startsWith(`./${name} `)),
      name,
    );
  }
  assert.equal(
    await workspace.ok(["cat", "only-old"]),
    "old",
    "what is not in a push stays, and links are not followed",
  );
  assert.equal(there.length, 7);

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

test("a sparse file of 2 GB stays sparse", { timeout: 300_000 }, async () => {
  await using tree = await scratch();
  const bytes = 2_000_000_000;
  await makeSparse(join(tree.path, "sparse"), bytes);
  assert.ok((await stat(join(tree.path, "sparse"))).blocks * 512 < MIB, "this host's temporary files are not sparse");
  const here = describeHere(tree.path);
  const blocks = async (workspace: Workspace, path: string) => Number(await workspace.ok(["stat", "-c", "%b", path]));
  await using workspace = await all.create(["--seed-path", tree.path]);
  same(await describeThere(workspace), here, "seeded");
  assert.ok((await blocks(workspace, "sparse")) * 512 < MIB, "it is not sparse in the guest");
  await workspace.push(tree.path, ["--dest", "pushed"]);
  same(await describeThere(workspace, "/workspace/pushed"), here, "pushed");
  assert.ok((await blocks(workspace, "pushed/sparse")) * 512 < MIB, "it is not sparse in the guest");
  assert.ok((await workspace.status()).disk_used_bytes < 200 * MIB, "it is not sparse on the host");
});

test("20,000 small files", { timeout: 600_000 }, async () => {
  await using tree = await scratch();
  makeSmallFiles(tree.path, 20_000);
  const here = describeHere(tree.path);
  await using workspace = await all.create(["--seed-path", tree.path]);
  same(await describeThere(workspace), here, "seeded");
  await workspace.push(tree.path, ["--dest", "pushed"]);
  same(await describeThere(workspace, "/workspace/pushed"), here, "pushed");
});

test("real trees: a package of npm, modules as pnpm lays them out, a git repository", {
  timeout: 900_000,
}, async (context) => {
  await context.test("the package typescript", async () => {
    const path = join(ROOT, "node_modules", "typescript");
    await using workspace = await all.create(["--seed-path", path]);
    same(await describeThere(workspace), describeHere(path), "seeded");
  });
  await context.test("pnpm's node_modules, with the store in the tree and outside", async () => {
    await using tree = await scratch();
    makePnpmModules(tree.path, join(tree.path, ".store"), 200);
    await using workspace = await all.create(["--seed-path", tree.path]);
    same(await describeThere(workspace), describeHere(tree.path), "seeded");
    assert.match(await workspace.sh("head -1 node_modules/.bin/package-10"), /cli\.js of 10/);
    await workspace.push(tree.path, ["--dest", "pushed"]);
    same(await describeThere(workspace, "/workspace/pushed"), describeHere(tree.path), "pushed");
    await rm(join(tree.path, ".store"), { recursive: true });
    // What is linked to within the tree still is; what was linked to the store alone is a file of its own now.
    await workspace.push(tree.path, ["--dest", "alone"]);
    same(await describeThere(workspace, "/workspace/alone"), describeHere(tree.path), "pushed without the store");
  });
  await context.test("a repository of 5,000 files is clean", async () => {
    await using tree = await scratch();
    makeRepository(tree.path, 5000);
    await using workspace = await all.create(["--seed-path", tree.path]);
    assert.equal(await workspace.ok(["git", "status", "--porcelain"]), "");
    assert.equal(await workspace.ok(["git", "fsck", "--no-progress"]), "");
    same(await describeThere(workspace, "/workspace/d7"), describeHere(join(tree.path, "d7")), "seeded");
    await writeFile(join(tree.path, "d7", "f700"), "changed\n");
    await workspace.push(tree.path);
    assert.equal(await workspace.ok(["git", "status", "--porcelain"]), " M d7/f700\n");
  });
});
