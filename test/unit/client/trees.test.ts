// The trees that tests send, and their description: the same from Node as from the script that runs in guests, and one
// that sees every difference.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  linkSync,
  mkdtempSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { compareTrees, DESCRIBE_SCRIPT, type Description, describeTree } from "../../trees/describe.ts";
import { makeTree } from "../../trees/make.ts";

function ground(): Disposable & { at: string } {
  const at = mkdtempSync(join(tmpdir(), "pyro-trees-"));
  return { at, [Symbol.dispose]: () => rmSync(at, { recursive: true, force: true }) };
}

function byPython(directory: string): Description {
  const said = execFileSync("python3", ["-", directory], { input: DESCRIBE_SCRIPT, maxBuffer: 64 << 20 });
  return JSON.parse(said.toString()) as Description;
}

test("the odd tree is odd, and both describe it alike", () => {
  using g = ground();
  makeTree(join(g.at, "odd"), "odd");
  const described = describeTree(join(g.at, "odd"));
  assert.deepEqual(byPython(join(g.at, "odd")), described);
  const entries = Object.values(described);
  const count = (match: (entry: (typeof entries)[number]) => boolean) => entries.filter(match).length;
  assert.ok(entries.length > 150, `${entries.length} entries`);
  assert.equal(
    count(({ same_as }) => same_as !== undefined),
    7,
  );
  assert.equal(
    count(({ size = 0, allocated = 0 }) => size > 2 ** 20 && allocated < size / 2),
    2,
  );
  assert.ok(count(({ mode }) => (mode & 0o7000) !== 0) >= 6);
  assert.ok(count(({ mtime_ns }) => mtime_ns.startsWith("-")) >= 6);
  assert.equal(
    count(({ mtime_ns }) => mtime_ns === "1700000000999999999"),
    3,
  );
  assert.ok(Object.keys(described).some((path) => path.length > 2 * 2800));
  assert.ok(Object.keys(described).some((path) => Buffer.from(path, "hex").toString("utf8").includes("\ufffd")));
});

test("the large trees are what they say", () => {
  using g = ground();
  for (const kind of ["many", "pnpm", "git"] as const) makeTree(join(g.at, kind), kind, { files: 200 });
  makeTree(join(g.at, "again"), "many", { files: 200 });
  makeTree(join(g.at, "sparse"), "sparse");
  const many = Object.values(describeTree(join(g.at, "many")));
  assert.equal(many.filter(({ type }) => type === "file").length, 200);
  const contents = (kind: string) => Object.values(describeTree(join(g.at, kind))).map(({ content }) => content);
  assert.deepEqual(contents("many").sort(), contents("again").sort());
  const status = execFileSync("git", ["-C", join(g.at, "git"), "status", "--porcelain"], { encoding: "utf8" });
  assert.equal(status, "");
  execFileSync("node", ["-e", "require('p0/lib/0.js')"], { cwd: join(g.at, "pnpm") });
  const disk = statSync(join(g.at, "sparse", "disk.img"));
  assert.equal(disk.size, 2 ** 31);
  assert.ok(disk.blocks * 512 < 2 ** 20);
});

test("every difference is told", () => {
  using g = ground();
  const make = (name: string) => {
    const at = join(g.at, name);
    makeTree(at, "many", { files: 3 });
    const file = join(at, "d0", "s0", "f0.txt");
    writeFileSync(join(at, "holes"), "x");
    execFileSync("truncate", ["-s", "8M", join(at, "holes")]);
    symlinkSync("a", join(at, "link"));
    linkSync(file, join(at, "hard"));
    for (const one of [file, join(at, "holes"), join(at, "d0", "s0"), join(at, "d0")]) utimesSync(one, 1, 1);
    execFileSync("touch", [
      "-h",
      "-d",
      "@1",
      join(at, "link"),
      ...["f1.txt", "f2.txt"].map((f) => join(at, "d0", "s0", f)),
    ]);
    return at;
  };
  const before = describeTree(make("a"));
  assert.deepEqual(compareTrees(before, describeTree(make("b"))), []);
  const changes: [RegExp, (at: string) => void][] = [
    [/"hard": mode is/, (at) => chmodSync(join(at, "hard"), 0o600)],
    [/"hard": mtime_ns is 2000000000, not 1000000000/, (at) => utimesSync(join(at, "hard"), 2, 2)],
    [/f1.txt": content is/, (at) => writeFileSync(join(at, "d0", "s0", "f1.txt"), "y")],
    [/"new" is only in what there is/, (at) => writeFileSync(join(at, "new"), "")],
    [/"link" is only in what was expected/, (at) => unlinkSync(join(at, "link"))],
    [
      /"holes": 8\d* bytes are allocated/,
      (at) => {
        copyFileSync(join(at, "holes"), join(at, "full"));
        execFileSync("cp", ["--sparse=never", "--no-preserve=all", join(at, "full"), join(at, "holes")]);
      },
    ],
    [
      /"link": target is 62, not 61/,
      (at) => {
        unlinkSync(join(at, "link"));
        symlinkSync("b", join(at, "link"));
      },
    ],
    [
      /"hard": same_as is nothing, not/,
      (at) => {
        copyFileSync(join(at, "hard"), join(at, "own"));
        unlinkSync(join(at, "hard"));
        copyFileSync(join(at, "own"), join(at, "hard"));
      },
    ],
    [
      /"d0": type is link, not directory/,
      (at) => {
        rmSync(join(at, "d0"), { recursive: true });
        symlinkSync("x", join(at, "d0"));
      },
    ],
  ];
  for (const [index, [expected, change]] of changes.entries()) {
    const at = make(`c${index}`);
    change(at);
    assert.match(compareTrees(before, describeTree(at)).join("\n"), expected);
  }
});
