// The allow-list of host paths, with real directories and real links.
import assert from "node:assert/strict";
import { chown, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { PyroError } from "../../../src/errors/error.ts";
import { HostPaths } from "../../../src/tools/host-paths.ts";

async function ground(): Promise<AsyncDisposable & { at: string }> {
  const at = await realpath(await mkdtemp(join(tmpdir(), "pyro-paths-")));
  return { at, [Symbol.asyncDispose]: () => rm(at, { recursive: true, force: true }) };
}

async function refusal(check: Promise<string>): Promise<PyroError> {
  const thrown = await check.then(
    (real) => assert.fail(`allowed: ${real}`),
    (reason: unknown) => reason,
  );
  assert.ok(thrown instanceof PyroError);
  assert.equal(thrown.code, "HOST_PATH_FORBIDDEN");
  return thrown;
}

test("by default the work tree around the server is read and its .pyro/out written, nothing else", async () => {
  await using g = await ground();
  const tree = join(g.at, "tree");
  await mkdir(join(tree, ".git"), { recursive: true });
  await mkdir(join(tree, "src", "deep"), { recursive: true });
  await mkdir(join(g.at, "treeline"));
  await writeFile(join(g.at, "secret"), "x");
  const paths = await HostPaths.open({ cwd: join(tree, "src", "deep"), home: join(g.at, "home") });
  assert.equal(await paths.checkRead("."), join(tree, "src", "deep"));
  assert.equal(await paths.checkRead("../.."), tree);
  assert.equal(await paths.checkRead(join(tree, "not", "there")), join(tree, "not", "there"));
  assert.equal(await paths.checkRead(`${tree}/`), tree);
  const outside = await refusal(paths.checkRead(join(g.at, "secret")));
  assert.ok(outside.message.includes(`below ${tree}`), outside.message);
  await refusal(paths.checkRead("../../../secret"));
  await refusal(paths.checkRead(join(tree, "..", "treeline")));
  await refusal(paths.checkRead("/"));
  await refusal(paths.checkWrite(join(tree, "src", "x")));
  assert.equal(await paths.checkWrite(join(tree, ".pyro", "out", "a", "b")), join(tree, ".pyro", "out", "a", "b"));
  await refusal(paths.checkWrite(join(tree, ".pyro", "outside")));
});

test("a work tree of somebody else's is none, and neither is what is around it", async () => {
  await using g = await ground();
  const inner = join(g.at, "tree", "inner");
  await mkdir(join(inner, ".git"), { recursive: true });
  await mkdir(join(g.at, "tree", ".git"));
  const home = join(g.at, "home");
  const uid = process.geteuid?.() ?? 0;
  assert.deepEqual((await HostPaths.open({ cwd: inner, home, uid })).readable, [inner]);
  const stranger = await HostPaths.open({ cwd: inner, home, uid: uid + 1 });
  assert.deepEqual([stranger.readable, stranger.writable], [[], []]);
  if (uid !== 0) return;
  // The .git alone, as anybody may make one in /tmp; or the directory alone, in which anybody may change it.
  await chown(join(inner, ".git"), 12345, 12345);
  assert.deepEqual((await HostPaths.open({ cwd: inner, home })).readable, []);
  await chown(join(inner, ".git"), 0, 0);
  await chown(inner, 12345, 12345);
  assert.deepEqual((await HostPaths.open({ cwd: inner, home })).readable, []);
});

test("what is refused does not tell whether it exists", async () => {
  await using g = await ground();
  await mkdir(join(g.at, "tree", ".git"), { recursive: true });
  await writeFile(join(g.at, "there"), "x");
  await symlink(join(g.at, "there"), join(g.at, "tree", "to-there"));
  await symlink(join(g.at, "nowhere"), join(g.at, "tree", "to-nowhere"));
  const paths = await HostPaths.open({ cwd: join(g.at, "tree"), home: join(g.at, "home") });
  const alike = async (one: string, other: string) => {
    const [a, b] = [await refusal(paths.checkRead(one)), await refusal(paths.checkRead(other))];
    const neutral = (error: PyroError) => JSON.stringify(error.toData()).replaceAll(/nowhere|there/g, "X");
    assert.equal(neutral(a), neutral(b));
  };
  await alike(join(g.at, "there"), join(g.at, "nowhere"));
  await alike(join(g.at, "there", "below"), join(g.at, "nowhere", "below"));
  await alike("to-there", "to-nowhere");
});

test("links are resolved before, on both sides, and however they are chained", async () => {
  await using g = await ground();
  const tree = join(g.at, "tree");
  await mkdir(join(tree, ".git"), { recursive: true });
  await mkdir(join(g.at, "elsewhere", "sub"), { recursive: true });
  await symlink("../elsewhere", join(tree, "out-of-it"));
  await symlink("loop", join(tree, "loop"));
  await symlink("out-of-it/sub", join(tree, "chained"));
  await symlink("src/../.git", join(tree, "within"));
  await symlink(tree, join(g.at, "door"));
  await symlink(join(g.at, "elsewhere"), join(g.at, "other-door"));
  const plain = await HostPaths.open({ cwd: join(g.at, "door"), home: join(g.at, "home") });
  assert.equal(await plain.checkRead("."), tree);
  assert.equal(await plain.checkRead(join(g.at, "door", "file")), join(tree, "file"));
  assert.equal(await plain.checkRead("within"), join(tree, ".git"));
  for (const path of ["out-of-it", "out-of-it/sub", "out-of-it/new", "chained", "loop", "loop/x"]) {
    await refusal(plain.checkRead(path));
  }
  const wider = await HostPaths.open({
    cwd: tree,
    home: join(g.at, "home"),
    allowRead: [join(g.at, "other-door")],
    allowWrite: ["../elsewhere/sub"],
  });
  assert.equal(await wider.checkRead("chained"), join(g.at, "elsewhere", "sub"));
  assert.equal(await wider.checkWrite("chained/new"), join(g.at, "elsewhere", "sub", "new"));
  await refusal(wider.checkWrite("out-of-it/new"));
});

test("a repository cannot turn its output directory into a way out", async () => {
  await using g = await ground();
  await mkdir(join(g.at, "tree", ".git"), { recursive: true });
  await mkdir(join(g.at, "tree", ".pyro"));
  await mkdir(join(g.at, "home"));
  await symlink(join(g.at, "home"), join(g.at, "tree", ".pyro", "out"));
  const paths = await HostPaths.open({ cwd: join(g.at, "tree"), home: join(g.at, "home") });
  await refusal(paths.checkWrite(".pyro/out/.profile"));
  await refusal(paths.checkWrite(".pyro/out"));
});

test("without a work tree, or with one as large as the home directory, nothing is allowed", async () => {
  await using g = await ground();
  await mkdir(join(g.at, "plain"));
  const none = await HostPaths.open({ cwd: join(g.at, "plain"), home: join(g.at, "home") });
  assert.deepEqual([none.readable, none.writable], [[], []]);
  assert.match((await refusal(none.checkRead("."))).message, /may read no path of the host/);
  await mkdir(join(g.at, "home", "project"), { recursive: true });
  await symlink(join(g.at, "home"), join(g.at, "home-link"));
  for (const where of [join(g.at, "home"), g.at]) {
    await mkdir(join(where, ".git"));
    const cwd = join(g.at, "home", "project");
    const paths = await HostPaths.open({ cwd, home: join(g.at, "home-link") });
    assert.deepEqual([paths.readable, paths.writable], [[], []]);
    await rm(join(where, ".git"), { recursive: true });
  }
});

test("what is allowed beside it must be there when the server starts", async () => {
  await using g = await ground();
  await writeFile(join(g.at, "file"), "x");
  const open = (allowRead: string[], allowWrite: string[] = []) =>
    HostPaths.open({ cwd: g.at, home: join(g.at, "home"), allowRead, allowWrite });
  const invalid = (text: RegExp) => (thrown: unknown) =>
    thrown instanceof PyroError && thrown.code === "INVALID_INPUT" && text.test(thrown.message);
  await assert.rejects(open(["missing"]), invalid(/--allow-read: .*missing does not exist/));
  await assert.rejects(open([], ["file"]), invalid(/--allow-write: .*file is no directory/));
  await assert.rejects(open([""]), invalid(/--allow-read: an empty name/));
});
