// Makes trees of files for the tests of what is sent into a workspace: one with everything odd that a file system can
// hold, and some that are large, each in the way that real ones are.
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { Seeded } from "../seed.ts";

/**
 * odd: every kind of name, mode, link, time and hole, in some hundred entries.
 * many: small files in directories, 20,000 unless told.
 * sparse: a file of 2 GiB with data in its middle and nothing else.
 * pnpm: packages in a store with hard links, and node_modules of symbolic links with ".." in them.
 * git: a repository with a history, 5,000 files unless told; its work tree is clean.
 */
export type TreeKind = "odd" | "many" | "sparse" | "pnpm" | "git";

export interface TreeOptions {
  readonly seed?: number;
  /** How many files, for the kinds that have many. */
  readonly files?: number;
}

/** Makes `directory`, which must not be there yet, and fills it. The same seed makes the same content. */
export function makeTree(directory: string, kind: TreeKind, { seed = 1, files }: TreeOptions = {}): void {
  mkdirSync(directory, { recursive: true });
  const random = new Seeded(seed);
  switch (kind) {
    case "odd":
      makeOdd(directory, random);
      break;
    case "many":
      makeMany(directory, random, files ?? 20_000);
      break;
    case "sparse":
      makeSparse(join(directory, "disk.img"), 2 ** 31, random);
      break;
    case "pnpm":
      makePnpm(directory, random, files ?? 2000);
      break;
    case "git":
      makeMany(directory, random, files ?? 5000);
      commitAll(directory);
  }
}

/** Names that somebody's program gets wrong, each as its bytes. */
const NAMES: readonly Buffer[] = [
  "with space",
  " ",
  "ends with space ",
  "line\nbreak",
  "ends with line\n",
  "tab\tcarriage\rreturn",
  "bell\x07escape\x1b[31m",
  "-",
  "-rf",
  "--checkpoint-action=exec=false",
  "@list",
  "back\\slash",
  "back\\nslash",
  "\\101",
  "'quotes\"",
  "*",
  "?[a-z]",
  "#comment",
  "!negated",
  "$(false)`false`",
  "~",
  "c:colon",
  "...",
  "..hidden",
  "é",
  "e\u0301",
  "日本語",
  "😀",
  "con",
  "GNUSparseFile.0",
  "PaxHeaders",
]
  .map((name) => Buffer.from(name))
  .concat(
    Buffer.from([0xff, 0xfe, 0x20, 0x80]),
    Buffer.from([0x61, 0xc3]),
    Buffer.from([0xed, 0xa0, 0x80]),
    Buffer.alloc(255, "n"),
    Buffer.alloc(254, 0xe9),
    Buffer.alloc(100, "h"),
    Buffer.alloc(101, "h"),
  );

const MODES = [0o400, 0o444, 0o600, 0o644, 0o664, 0o755, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o501];

/** Seconds since 1970 that a file system with large inodes keeps: from 1910 to 2400. */
const TIMES = [
  "-1893456000.123456789",
  "-1.5",
  "0",
  "0.000000001",
  "1700000000.999999999",
  "4294967296.1",
  "13569465600.5",
];

function makeOdd(directory: string, random: Seeded): void {
  const at = (...parts: string[]) => join(directory, ...parts);
  for (const folder of [
    "names",
    "modes",
    "links",
    "links/deeper/still",
    "times",
    "empty",
    "empty/nested/empty",
    "sizes",
  ]) {
    mkdirSync(at(folder), { recursive: true });
  }
  for (const name of NAMES) {
    writeFileSync(Buffer.concat([Buffer.from(`${at("names")}/`), name]), name);
    mkdirSync(Buffer.concat([Buffer.from(`${at("empty")}/`), name]));
  }
  for (const mode of MODES) {
    const name = at("modes", `f${mode.toString(8)}`);
    writeFileSync(name, "#!/bin/sh\n");
    chmodSync(name, mode);
  }
  for (const size of [0, 1, 511, 512, 513, 10_239, 10_240, 65_536, 1_048_577]) {
    writeFileSync(at("sizes", String(size)), random.bytes(size));
  }
  makeLinks(at);
  makeDeep(directory);
  makeSparse(at("sizes", "sparse"), 64 << 20, random);
  const sparse = at("sizes", "only a hole");
  writeFileSync(sparse, "");
  truncateSync(sparse, 8 << 20);
  for (const [index, time] of TIMES.entries()) {
    writeFileSync(at("times", `t${index}`), time);
    symlinkSync(`t${index}`, at("times", `l${index}`));
    mkdirSync(at("times", `d${index}`));
    execFileSync("touch", [
      "-h",
      "-d",
      `@${time}`,
      "--",
      at("times", `t${index}`),
      at("times", `l${index}`),
      at("times", `d${index}`),
    ]);
  }
  // Last, and the innermost first: what is made in a directory changes its time, and some take no more.
  for (const [mode, name] of [
    [0o700, "private"],
    [0o1777, "sticky"],
    [0o2775, "group"],
    [0o555, "fixed"],
  ] as const) {
    mkdirSync(at("modes", name));
    writeFileSync(at("modes", name, "inside"), name);
    utimesSync(at("modes", name), 1_600_000_000.25, 1_600_000_000.25);
    chmodSync(at("modes", name), mode);
  }
  utimesSync(at("names"), 1_000_000_000, 1_000_000_000);
}

function makeLinks(at: (...parts: string[]) => string): void {
  writeFileSync(at("links", "target"), "target");
  writeFileSync(at("links", "deeper", "other"), "other");
  symlinkSync("target", at("links", "same directory"));
  symlinkSync("../target", at("links", "deeper", "up"));
  symlinkSync("../../../links/deeper/../target", at("links", "deeper", "still", "about"));
  symlinkSync("deeper/still", at("links", "to a directory"));
  symlinkSync("deeper/still/", at("links", "to a directory, with a slash"));
  symlinkSync("nowhere", at("links", "dangling"));
  symlinkSync("../../../../../../nowhere", at("links", "dangling outside"));
  symlinkSync("/etc/hostname", at("links", "absolute"));
  symlinkSync("itself", at("links", "itself"));
  symlinkSync("line\nbreak", at("links", "to a line"));
  symlinkSync(Buffer.from([0xff, 0x20, 0xfe]), at("links", "to bytes"));
  symlinkSync("x/".repeat(1000), at("links", "far"));
  linkSync(at("links", "target"), at("links", "deeper", "hard"));
  linkSync(at("links", "target"), at("hard, and first of its name"));
  linkSync(at("modes", "f4755"), at("links", "hard setuid"));
  linkSync(at("links", "dangling"), at("links", "hard dangling"));
}

/** A path of some 3,000 bytes. */
function makeDeep(directory: string): void {
  let deep = directory;
  for (let level = 0; level < 12; level++) deep = join(deep, `${level}-`.padEnd(240, "d"));
  mkdirSync(deep, { recursive: true });
  writeFileSync(join(deep, "bottom"), "bottom");
}

/** Data at the beginning, in the middle across a block's border, and none at the end. */
function makeSparse(path: string, size: number, random: Seeded): void {
  const file = openSync(path, "w");
  writeSync(file, random.bytes(5000), 0, 5000, 0);
  writeSync(file, random.bytes(100_000), 0, 100_000, Math.floor(size / 2) - 777);
  closeSync(file);
  truncateSync(path, size);
}

function makeMany(directory: string, random: Seeded, files: number): void {
  for (let made = 0; made < files; made++) {
    const folder = join(directory, `d${Math.floor(made / 1000)}`, `s${Math.floor(made / 50) % 20}`);
    if (made % 50 === 0) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `f${made}.txt`), `${made} ${random.below(2 ** 31)}\n`.repeat(1 + random.below(20)));
  }
}

function makePnpm(directory: string, random: Seeded, files: number): void {
  const modules = join(directory, "node_modules");
  const packages = Math.max(2, Math.floor(files / 20));
  const shared = join(directory, ".store", "LICENSE");
  mkdirSync(join(directory, ".store"));
  writeFileSync(shared, "MIT\n");
  mkdirSync(join(modules, ".bin"), { recursive: true });
  for (let index = 0; index < packages; index++) {
    const own = join(modules, ".pnpm", packageIn(index), "node_modules");
    mkdirSync(join(own, `p${index}`, "lib"), { recursive: true });
    linkSync(shared, join(own, `p${index}`, "LICENSE"));
    for (let file = 0; file < 19; file++) {
      writeFileSync(join(own, `p${index}`, "lib", `${file}.js`), `module.exports = ${random.below(1e9)};\n`);
    }
    chmodSync(join(own, `p${index}`, "lib", "0.js"), 0o755);
    // What it needs lies beside it, a link to where that really is.
    const needed = random.below(packages);
    if (needed !== index) symlinkSync(`../../${packageIn(needed)}/node_modules/p${needed}`, join(own, `p${needed}`));
    symlinkSync(own.slice(modules.length + 1).concat(`/p${index}`), join(modules, `p${index}`));
    symlinkSync(`../p${index}/lib/0.js`, join(modules, ".bin", `p${index}`));
  }
}

function packageIn(index: number): string {
  return `p${index}@1.0.${index % 10}`;
}

function commitAll(directory: string): void {
  const git = (...words: string[]) =>
    execFileSync("git", ["-C", directory, "-c", "user.name=T", "-c", "user.email=t@example.org", ...words], {
      env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" },
    });
  git("init", "--quiet", "--initial-branch=main");
  writeFileSync(join(directory, ".gitignore"), "*.log\n/build/\n");
  git("add", "--all");
  git("commit", "--quiet", "--message=First");
  writeFileSync(join(directory, "CHANGES"), "second\n");
  symlinkSync("CHANGES", join(directory, "NEWS"));
  writeFileSync(join(directory, "run"), "#!/bin/sh\n", { mode: 0o755 });
  git("add", "--all");
  git("commit", "--quiet", "--message=Second");
}
