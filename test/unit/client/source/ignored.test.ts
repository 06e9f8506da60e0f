// What is left out of a directory: by --exclude, by .pyroignore as git would read it, and by git itself, which must run no
// program of a repository's while it is asked.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { test } from "node:test";
import { countFrom, Seeded } from "../../../seed.ts";
import { bytesOf, fails, type Ground, ground, namesIn, open, sorted } from "./ground.ts";

const TURNS = countFrom("PYRO_IGNORE_TURNS", 12);

function fill(g: Ground, directory: string, files: readonly string[]): void {
  for (const file of files) {
    mkdirSync(dirname(g.path(directory, file)), { recursive: true });
    writeFileSync(g.path(directory, file), file.endsWith(".sh") ? "#!/bin/sh\n" : "x\n");
  }
}

async function sent(path: string, options: Parameters<typeof open>[1] = {}): Promise<string[]> {
  const names = namesIn(await bytesOf(await open(path, options)));
  return sorted(names.filter((name) => !name.endsWith("/")));
}

function git(directory: string, ...words: string[]): string {
  return execFileSync("git", ["-C", directory, "-c", "user.name=T", "-c", "user.email=t@example.org", ...words], {
    env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" },
    encoding: "utf8",
    stdio: ["ignore", "pipe", "pipe"],
  });
}

test("--exclude leaves out what a line of a .gitignore would, and is not walked into", async () => {
  using g = ground();
  fill(g, "t", [
    "a.log",
    "b.txt",
    "d/a.log",
    "d/keep.log",
    "build/x",
    "d/build/y",
    "#odd",
    "é",
    ".git/HEAD",
    "Caps.LOG",
  ]);
  assert.deepEqual(await sent(g.path("t"), { exclude: ["*.log", "!keep.log", "/build", "#odd"] }), [
    ".git/HEAD",
    "Caps.LOG",
    "\\303\\251",
    "b.txt",
    "d/build/y",
    "d/keep.log",
  ]);
  assert.deepEqual(await sent(g.path("t"), { exclude: ["build/", "*.log", "*.LOG", "é", ".git", "", "#o*"] }), [
    "b.txt",
  ]);
  // Were it walked into, its entries would be counted.
  fill(
    g,
    "t",
    Array.from({ length: 50 }, (_, file) => `node_modules/p/${file}`),
  );
  await open(g.path("t"), { exclude: ["node_modules"], maxEntries: 20 });
  await fails(open(g.path("t"), { maxEntries: 20 }), "LIMIT_EXCEEDED");
});

test(".pyroignore holds below its directory, the nearest wins, --exclude wins over all, and it is sent itself", async () => {
  using g = ground();
  fill(g, "t", [
    "keep/x.tmp",
    "x.tmp",
    "sub/x.tmp",
    "sub/y",
    "sub/z/y",
    "sub/[odd] dir!/y",
    "sub/[odd] dir!/w",
    "gone/in/f",
  ]);
  writeFileSync(g.path("t/.pyroignore"), "\ufeff# comment\r\n*.tmp\r\ngone/in\r\n");
  writeFileSync(g.path("t/keep/.pyroignore"), "!*.tmp\n");
  writeFileSync(g.path("t/sub/.pyroignore"), "/y\n\n");
  writeFileSync(g.path("t/sub/[odd] dir!/.pyroignore"), "w");
  mkdirSync(g.path("t/gone"), { recursive: true });
  writeFileSync(g.path("t/gone/.pyroignore"), "!in\n");
  const all = [
    ".pyroignore",
    "gone/.pyroignore",
    "gone/in/f",
    "keep/.pyroignore",
    "keep/x.tmp",
    "sub/.pyroignore",
    "sub/[odd] dir!/.pyroignore",
    "sub/[odd] dir!/y",
    "sub/z/y",
  ];
  assert.deepEqual(await sent(g.path("t")), all);
  assert.deepEqual(
    await sent(g.path("t"), { exclude: ["*.tmp", ".pyroignore"] }),
    all.filter((name) => !/tmp$|pyroignore$/.test(name)),
  );
});

test("names of any bytes are compared as bytes", async () => {
  using g = ground();
  mkdirSync(g.path("t"));
  for (const bytes of [
    [0xff, 0x61],
    [0xff, 0x62],
    [0x61, 0x0a, 0x62],
  ]) {
    writeFileSync(Buffer.concat([Buffer.from(`${g.path("t")}/`), Buffer.from(bytes)]), "");
  }
  writeFileSync(Buffer.from(`${g.path("t")}/.pyroignore`), Buffer.from([0xff, 0x61, 0x0a]));
  assert.deepEqual(await sent(g.path("t")), [".pyroignore", "\\377b", "a\\nb"]);
  assert.deepEqual(await sent(g.path("t"), { exclude: ["*b"] }), [".pyroignore"]);
});

test("patterns and paths made to keep a matcher busy do not", async () => {
  using g = ground();
  fill(g, "t", [`${"x/".repeat(700)}y`, "a".repeat(255)]);
  const patterns = [
    `${"**/x/".repeat(50)}z`,
    `${"*a".repeat(100)}b`,
    `${"*?[a]".repeat(60)}[b]`,
    `a${" ".repeat(200_000)}b`,
  ];
  writeFileSync(g.path("t/.pyroignore"), patterns.join("\n"));
  const began = Date.now();
  assert.equal((await sent(g.path("t"), { exclude: patterns.slice(0, 3) })).length, 3);
  assert.ok(Date.now() - began < 10_000, `${Date.now() - began} ms`);
  writeFileSync(g.path("t/.pyroignore"), "#".repeat(2 << 20));
  await fails(open(g.path("t")), "SOURCE_UNREADABLE", /pyroignore is larger than 1024 KiB/);
});

test("random ignore files mean what they mean to git", async () => {
  const random = Seeded.fromEnvironment();
  const parts = [
    "a",
    "b",
    "c",
    "ab",
    "a.b",
    "*",
    "a*",
    "?",
    "[ab]",
    "**",
    "*.b",
    "ad",
    "?d",
    "deep",
    "**",
    "a**b",
    "[!a]",
  ].concat([
    "[a-b]d",
    "\\a",
    "[[:alpha:]]",
    "[]a]",
    "[^[:digit:]b]*",
    "b ",
    "c\\ ",
    "[a",
    "*[",
    "\\",
    "a\\*",
    "[\\]a]",
  ]);
  const line = () => {
    const path = Array.from({ length: 1 + random.below(3) }, () => random.pick(parts)).join("/");
    return `${random.chance(0.3) ? "!" : ""}${random.chance(0.3) ? "/" : ""}${path}${random.chance(0.3) ? "/" : ""}`;
  };
  for (let turn = 0; turn < TURNS; turn++) {
    using g = ground();
    const names = ["a", "b", "c", "ab", "a.b"];
    for (let file = 0; file < 25; file++) {
      const folders = Array.from({ length: random.below(3) }, () => random.pick(names));
      fill(
        g,
        "t",
        [
          [...folders.map((name) => `${name}d`), random.pick(names)].join("/"),
          `${folders.join("/")}/deep/a`.replace(/^\//, ""),
        ].filter((path) => !clashes(g, path)),
      );
    }
    const lines: string[] = [];
    for (const directory of ["", "ad/", "ad/bd/", "deep/"]) {
      if (directory !== "" && !existsSync(g.path("t", directory))) continue;
      const text = `${Array.from({ length: 1 + random.below(4) }, line).join("\n")}\n`;
      lines.push(`${directory}: ${JSON.stringify(text)}`);
      writeFileSync(g.path("t", directory, ".gitignore"), text);
      writeFileSync(g.path("t", directory, ".pyroignore"), text);
    }
    git(g.path("t"), "init", "--quiet");
    const expected = git(g.path("t"), "ls-files", "--others", "--exclude-standard")
      .split("\n")
      .filter((name) => name !== "");
    const ours = (await sent(g.path("t"))).filter((name) => !name.startsWith(".git/"));
    assert.deepEqual(ours, sorted(expected), `PYRO_SEED=${random.seed}, turn ${turn}: ${lines.join("; ")}`);
    const byGit = (await sent(g.path("t"), { gitignore: true, exclude: [] })).filter(
      (name) => !name.startsWith(".git/"),
    );
    assert.deepEqual(
      byGit.filter((name) => ours.includes(name)),
      ours,
      `PYRO_SEED=${random.seed}, turn ${turn}`,
    );
  }
});

/** A file where a directory is to be, or the other way round. */
function clashes(g: Ground, path: string): boolean {
  const folders = path.split("/");
  return (
    existsSync(g.path("t", path)) ||
    folders.some(
      (_, index) =>
        index > 0 &&
        existsSync(`${g.path("t", folders.slice(0, index).join("/"))}`) &&
        !existsSync(`${g.path("t", folders.slice(0, index).join("/"))}/.`),
    )
  );
}

test("--gitignore leaves out what git ignores and nothing that it tracks, from the top and from below", async () => {
  using g = ground();
  fill(g, "t", ["src/a.c", "src/a.o", "out/kept", "out/lost", "src/deep/b.o", "src/line\nbreak.o", "top.o", "mine"]);
  writeFileSync(Buffer.concat([Buffer.from(`${g.path("t/src")}/`), Buffer.from([0xff, 0x2e, 0x6f])]), "");
  git(g.path("t"), "init", "--quiet");
  writeFileSync(g.path("t/.gitignore"), "*.o\nout/\n");
  writeFileSync(g.path("t/.git/info/exclude"), "mine\n");
  git(g.path("t"), "add", "--force", "--", "out/kept", "src/a.c");
  const top = (await sent(g.path("t"), { gitignore: true })).filter((name) => !name.startsWith(".git/"));
  assert.deepEqual(top, [".gitignore", "out/kept", "src/a.c"]);
  assert.deepEqual(await sent(g.path("t/src"), { gitignore: true }), ["a.c"]);
  assert.ok((await sent(g.path("t"), { gitignore: true })).includes(".git/HEAD"));
  // A repository inside has patterns of its own.
  fill(g, "t", ["sub/x.log", "sub/y", "sub/z.o"]);
  git(g.path("t/sub"), "init", "--quiet");
  writeFileSync(g.path("t/sub/.gitignore"), "*.log\n");
  assert.deepEqual(
    (await sent(g.path("t"), { gitignore: true })).filter((name) => /^sub\/[^.]/.test(name)),
    ["sub/y", "sub/z.o"],
  );
});

test("--gitignore where it means nothing is refused", async () => {
  using g = ground();
  fill(g, "plain", ["x"]);
  await fails(open(g.path("plain"), { gitignore: true }), "INVALID_INPUT", /plain is in no work tree of git/);
  await fails(open(g.path("plain/x"), { gitignore: true }), "INVALID_INPUT", /plain\/x is no directory/);
  await fails(open(g.path("plain/x"), { exclude: ["x"] }), "INVALID_INPUT", /^exclude: /);
  fill(g, "t", ["build/x", "a"]);
  git(g.path("t"), "init", "--quiet");
  writeFileSync(g.path("t/.gitignore"), "build/\n");
  await fails(open(g.path("t/build"), { gitignore: true }), "INVALID_INPUT", /git ignores \S*build itself/);
  await fails(open(g.path("t/.git"), { gitignore: true }), "INVALID_INPUT");
});

test("a hostile repository runs nothing while git is asked", async () => {
  using g = ground();
  fill(g, "t", ["a", "skipped/b", "ignored.o"]);
  git(g.path("t"), "init", "--quiet");
  writeFileSync(g.path("t/.gitignore"), "*.o\n");
  writeFileSync(g.path("t/skipped/.gitignore"), "*.x\n");
  git(g.path("t"), "add", "--all");
  git(g.path("t"), "commit", "--quiet", "--message=x");
  git(g.path("t"), "update-index", "--skip-worktree", "skipped/.gitignore");
  // Git reads an ignore file only where something is to be ignored.
  fill(g, "t", ["skipped/c.x"]);
  const trap = g.path("trap.sh");
  writeFileSync(trap, `#!/bin/sh\necho "$0 $*" >> '${g.path("ran")}'\nexit 1\n`);
  chmodSync(trap, 0o755);
  const blob = git(g.path("t"), "rev-parse", ":skipped/.gitignore").trim();
  const set = (key: string, value: string) => git(g.path("t"), "config", key, value);
  // Hooks of every name, and every setting that names a program.
  mkdirSync(g.path("hooks"));
  for (const hook of [
    "post-index-change",
    "reference-transaction",
    "fsmonitor-watchman",
    "post-checkout",
    "pre-auto-gc",
  ]) {
    symlinkSync(trap, g.path("hooks", hook));
  }
  for (const key of [
    "core.fsmonitor",
    "core.sshCommand",
    "core.askPass",
    "core.pager",
    "pager.ls-files",
    "core.editor",
    "core.gitProxy",
    "core.alternateRefsCommand",
    "credential.helper",
    "diff.external",
    "filter.x.clean",
    "filter.x.smudge",
    "filter.x.process",
    "gpg.program",
    "uploadpack.packObjectsHook",
    "remote.r.uploadpack",
    "interactive.diffFilter",
    "alias.ls-files",
    "sequence.editor",
    "trace2.normalTarget",
  ]) {
    set(key, trap);
  }
  set("core.hooksPath", g.path("hooks"));
  set("core.untrackedCache", "true");
  writeFileSync(g.path("t/.git/info/attributes"), "* filter=x diff=x\n");
  // Whoever believes it fetches a missing .gitignore from there: by a program.
  set("extensions.partialClone", "r");
  set("core.repositoryformatversion", "1");
  set("remote.r.promisor", "true");
  set("remote.r.url", `ext::${trap} %S`);
  set("protocol.ext.allow", "always");
  set("protocol.allow", "always");
  rmSync(g.path("t/skipped/.gitignore"));
  rmSync(g.path("t/.git/objects", blob.slice(0, 2), blob.slice(2)));
  rmSync(g.path("ran"), { force: true });

  const names = await sent(g.path("t"), { gitignore: true });
  assert.ok(names.includes("a") && !names.includes("ignored.o"));
  assert.ok(
    !existsSync(g.path("ran")),
    existsSync(g.path("ran")) ? execFileSync("cat", [g.path("ran")]).toString() : "",
  );

  // The traps are real ones: asked plainly, git runs them.
  const plainly = (...words: string[]) => {
    rmSync(g.path("ran"), { force: true });
    try {
      git(g.path("t"), ...words, "ls-files", "--others", "--ignored", "--exclude-standard", "--directory");
    } catch {
      // Git fails, as the trap did not do what it asked for.
    }
    return existsSync(g.path("ran")) ? execFileSync("cat", [g.path("ran")]).toString() : "";
  };
  assert.match(plainly(), /trap\.sh/);
  assert.match(plainly("-c", "core.fsmonitor=false"), /trap\.sh/);
});

test("another repository that the environment names is not the one that is asked", async () => {
  using g = ground();
  fill(g, "t", ["a", "b.o"]);
  git(g.path("t"), "init", "--quiet");
  writeFileSync(g.path("t/.gitignore"), "*.o\n");
  git(g.at, "init", "--quiet", "other");
  process.env.GIT_DIR = g.path("other/.git");
  process.env.GIT_WORK_TREE = g.path("other");
  try {
    const names = (await sent(g.path("t"), { gitignore: true })).filter((name) => !name.startsWith(".git/"));
    assert.deepEqual(names, [".gitignore", "a"]);
  } finally {
    delete process.env.GIT_DIR;
    delete process.env.GIT_WORK_TREE;
  }
});
