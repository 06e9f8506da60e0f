// Archives and single files as sources: sent as they are or decompressed, and refused where they are cut short, damaged, no
// archives, or larger than anybody wants.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  appendFileSync,
  mkdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { createGzip, gzipSync } from "node:zlib";
import { compareTrees, describeTree } from "../../../trees/describe.ts";
import { makeTree } from "../../../trees/make.ts";
import { bytesOf, fails, type Ground, ground, namesIn, open, unpack } from "./ground.ts";

/** archive.tar of a tree of some files, and its bytes. */
function makeArchive(g: Ground): Buffer {
  makeTree(g.path("tree"), "many", { files: 60 });
  execFileSync("tar", ["--create", "--file", g.path("archive.tar"), "-C", g.path("tree"), "."]);
  return readFileSync(g.path("archive.tar"));
}

test("a .tar is sent as it is, a .tar.gz and a .tgz decompressed, whatever their names leave open", async () => {
  using g = ground();
  const tar = makeArchive(g);
  const gz = gzipSync(tar);
  for (const [name, content] of [
    ["archive.tar", tar],
    ["a.tar.gz", gz],
    ["a.tgz", gz],
    ["A.TGZ", gz],
    ["is-gzip.tar", gz],
    ["is-tar.tgz", tar],
    ["two-members.tgz", Buffer.concat([gzipSync(tar.subarray(0, 5000)), gzipSync(tar.subarray(5000))])],
  ] as const) {
    writeFileSync(g.path(name), content);
    const source = await open(g.path(name));
    assert.deepEqual([source.mode, source.path], ["tar", g.path(name)]);
    assert.ok((await bytesOf(source)).equals(tar), name);
    assert.ok((await bytesOf(source)).equals(tar), `${name}, again`);
    assert.deepEqual(source.end(), { mode: "tar", skipped: [], skipped_count: 0 });
  }
  symlinkSync("archive.tar", g.path("link.tar"));
  assert.ok((await bytesOf(await open(g.path("link.tar")))).equals(tar));
});

test("an archive that is none, or no whole one, is refused; before a byte is sent where that can be", async () => {
  using g = ground();
  const tar = makeArchive(g);
  const gz = gzipSync(tar);
  const write = (name: string, content: string | Buffer) => {
    writeFileSync(g.path(name), content);
    return g.path(name);
  };
  for (const content of ["", "hello", "x".repeat(5000), tar.subarray(0, 511)]) {
    await fails(open(write("no.tar", content)), "ARCHIVE_INVALID", /no\.tar is no tar archive/);
    await fails(open(write("no.tgz", content)), "ARCHIVE_INVALID");
  }
  await fails(
    bytesOf(await open(write("short.tgz", gz.subarray(0, gz.length - 100)))),
    "ARCHIVE_INVALID",
    /is cut short/,
  );
  await fails(bytesOf(await open(write("head.tgz", gz.subarray(0, 12)))), "ARCHIVE_INVALID");
  const damaged = Buffer.from(gz);
  damaged.fill(0x55, gz.length >> 1, (gz.length >> 1) + 50);
  await fails(bytesOf(await open(write("damaged.tgz", damaged))), "ARCHIVE_INVALID", /is damaged/);
  const wrongSum = Buffer.from(gz);
  wrongSum[gz.length - 6] = (wrongSum[gz.length - 6] ?? 0) ^ 1;
  await fails(bytesOf(await open(write("sum.tgz", wrongSum))), "ARCHIVE_INVALID", /is damaged/);
  await fails(
    bytesOf(await open(write("text.tgz", gzipSync("x".repeat(2000))))),
    "ARCHIVE_INVALID",
    /of no tar archive/,
  );
  await fails(bytesOf(await open(write("nothing.tgz", gzipSync("")))), "ARCHIVE_INVALID", /of nothing/);
});

test("a bomb ends at the limit, whether it is compressed or only large", async () => {
  using g = ground();
  const tar = makeArchive(g);
  const gzip = createGzip();
  const bomb: Buffer[] = [];
  gzip.on("data", (chunk: Buffer) => bomb.push(chunk));
  gzip.write(tar.subarray(0, 512));
  const zeros = Buffer.alloc(1 << 20);
  for (let mib = 0; mib < 1024; mib++) {
    if (!gzip.write(zeros)) await new Promise((resolve) => gzip.once("drain", resolve));
  }
  await new Promise<void>((resolve) => gzip.end(resolve));
  writeFileSync(g.path("bomb.tgz"), Buffer.concat(bomb));
  assert.ok(Buffer.concat(bomb).length < 2 << 20);
  let bytes = 0;
  const source = await open(g.path("bomb.tgz"), { maxBytes: 16 << 20, maxEntries: 100 });
  const error = await fails(
    (async () => {
      for await (const chunk of source.bytes(AbortSignal.timeout(60_000))) bytes += chunk.length;
    })(),
    "LIMIT_EXCEEDED",
    /larger than 16 MiB.*max_transfer_mib/,
  );
  assert.match(error.hint, /--max-transfer-mib/);
  assert.ok(bytes < 20 << 20, `${bytes} bytes were let through`);
  writeFileSync(g.path("large.tar"), tar);
  truncateSync(g.path("large.tar"), 40 << 20);
  await fails(open(g.path("large.tar"), { maxBytes: 16 << 20, maxEntries: 100 }), "LIMIT_EXCEEDED");
  await open(g.path("large.tar"), { maxBytes: 40 << 20, maxEntries: 100 });
});

test("an archive that grows is what it was, one that shrinks is an error, one that is gone too", async () => {
  using g = ground();
  const tar = makeArchive(g);
  const large = Buffer.concat([tar, Buffer.alloc(4 << 20)]);
  for (const [change, expected] of [
    [() => appendFileSync(g.path("a.tar"), Buffer.alloc(100_000, 1)), large.length],
    [() => truncateSync(g.path("a.tar"), 10_000), undefined],
  ] as const) {
    writeFileSync(g.path("a.tar"), large);
    const source = await open(g.path("a.tar"));
    let bytes = 0;
    const reading = (async () => {
      for await (const chunk of source.bytes(AbortSignal.timeout(60_000))) {
        if (bytes === 0) change();
        bytes += chunk.length;
      }
      return bytes;
    })();
    if (expected === undefined) await fails(reading, "SOURCE_UNREADABLE", /became shorter/);
    else assert.equal(await reading, expected);
  }
  const source = await open(g.path("archive.tar"));
  rmSync(g.path("archive.tar"));
  execFileSync("mkfifo", [g.path("archive.tar")]);
  await fails(bytesOf(source), "SOURCE_UNREADABLE", /no regular file any more/);
});

test("a file is an archive of itself, with its mode and time, under the name it was given", async () => {
  using g = ground();
  mkdirSync(g.path("d"));
  for (const name of ["plain.txt", "-rf", "line\nbreak", "back\\slash & co/".slice(0, -1), "x.tar.xz"]) {
    writeFileSync(g.path("d", name), name, { mode: 0o755 });
    utimesSync(g.path("d", name), 1_600_000_000.125, 1_600_000_000.125);
    symlinkSync(join("d", name), g.path(name));
    const expected = g.path(`expected-${name}`);
    mkdirSync(expected);
    execFileSync("cp", ["-a", "--", g.path("d", name), expected]);
    for (const [index, path] of [g.path("d", name), g.path(name)].entries()) {
      const source = await open(path);
      assert.deepEqual([source.mode, source.path], ["file", path]);
      const unpacked = unpack(await bytesOf(source), g.path(`unpacked-${index}-${name}`));
      assert.deepEqual(compareTrees(describeTree(expected), describeTree(unpacked)), []);
      assert.deepEqual(source.end(), { mode: "file", skipped: [], skipped_count: 0 });
    }
  }
  symlinkSync("d/plain.txt", g.path("other & \\1 name\n"));
  assert.deepEqual(namesIn(await bytesOf(await open(g.path("other & \\1 name\n")))), ["other & \\\\1 name\\n"]);
  const source = await open(g.path("d/plain.txt"));
  rmSync(g.path("d/plain.txt"));
  await fails(bytesOf(source), "SOURCE_UNREADABLE", /plain\.txt/);
});

test("a tar that is not GNU's is refused by name", () => {
  using g = ground();
  mkdirSync(g.path("bin"));
  mkdirSync(g.path("tree"));
  const script = `
    const { openSource } = await import(process.argv[1]);
    const options = { exclude: [], gitignore: false, maxBytes: 1e9, maxEntries: 1000 };
    await openSource(process.argv[2], options).then(() => console.log("opened"), (e) => console.log(e.code, e.message));
  `;
  const modules = join(import.meta.dirname, "../../../../src/client/source/source.ts");
  const asked = (path: string) =>
    spawnSync(process.execPath, ["--input-type=module", "-e", script, modules, g.path("tree")], {
      env: { ...process.env, PATH: path },
      encoding: "utf8",
    }).stdout.trim();
  writeFileSync(g.path("bin/tar"), "#!/bin/sh\necho 'bsdtar 3.6.2 - libarchive 3.6.2'\n", { mode: 0o755 });
  assert.equal(
    asked(`${g.path("bin")}:${process.env.PATH}`),
    "HOST_TOOL_MISSING The program tar is not GNU tar; it says of itself: bsdtar 3.6.2 - libarchive 3.6.2.",
  );
  // Where PATH names nothing, the places of system programs are looked in.
  assert.equal(asked(g.path("nothing")), "opened");
});
