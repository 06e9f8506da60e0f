// A directory as a source: everything in it arrives as it is, what cannot be sent is told of before or listed after, and
// nothing is left running.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  chmodSync,
  chownSync,
  linkSync,
  mkdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { compareTrees, describeTree } from "../../../trees/describe.ts";
import { makeTree } from "../../../trees/make.ts";
import { bytesOf, children, fails, ground, namesIn, open, unpack } from "./ground.ts";

const ROOT = process.getuid?.() === 0;

for (const kind of ["odd", "pnpm", "git", "many"] as const) {
  test(`all of the tree "${kind}" arrives as it is`, async () => {
    using g = ground();
    makeTree(g.path("tree"), kind, { files: 500 });
    const expected = describeTree(g.path("tree"));
    const source = await open(g.path("tree"));
    assert.deepEqual([source.mode, source.path], ["directory", g.path("tree")]);
    const archive = await bytesOf(source);
    assert.deepEqual(compareTrees(expected, describeTree(unpack(archive, g.path("unpacked")))), []);
    assert.deepEqual(source.end(), { mode: "directory", skipped: [], skipped_count: 0 });
    const again = await bytesOf(source);
    assert.deepEqual(namesIn(again), namesIn(archive));
  });
}

test("a file of 2 GiB with holes is sent as its data", async () => {
  using g = ground();
  makeTree(g.path("tree"), "sparse");
  const archive = await bytesOf(await open(g.path("tree")));
  assert.ok(archive.length < 1 << 20, `${archive.length} bytes`);
  // Not read whole: that takes seconds, and the odd tree's holes were.
  writeFileSync(g.path("archive"), archive);
  const told = execFileSync("tar", ["--list", "--verbose", "--file", g.path("archive")]).toString();
  assert.match(told, / 2147483648 \S+ \S+ disk\.img$/m);
});

test("parents come first, and a directory's entries are together in the order of their bytes", async () => {
  using g = ground();
  for (const directory of ["b/z", "a", "b/c"]) mkdirSync(g.path("tree", directory), { recursive: true });
  for (const file of ["b/y", "b/c/1", "z", "a/2", "a/10", "Z"]) writeFileSync(g.path("tree", file), "");
  const names = namesIn(await bytesOf(await open(g.path("tree"))));
  assert.deepEqual(names, ["Z", "z", "a/", "a/10", "a/2", "b/", "b/y", "b/c/", "b/c/1", "b/z/"]);
});

test("everything belongs to root, and times of reading do not travel", async () => {
  using g = ground();
  mkdirSync(g.path("tree"));
  writeFileSync(g.path("tree", "file"), "x");
  if (ROOT) chownSync(g.path("tree", "file"), 12_345, 12_345);
  const archive = await bytesOf(await open(g.path("tree")));
  writeFileSync(g.path("archive"), archive);
  const told = execFileSync("tar", ["--list", "--verbose", "--numeric-owner", "--file", g.path("archive")]);
  assert.match(told.toString(), /^-rw\S* 0\/0 /);
  assert.ok(!archive.includes(" atime=") && !archive.includes(" ctime=") && archive.includes(" mtime="));
});

test("an empty directory, a trailing slash, a link to a directory and the root of a relative path are directories", async () => {
  using g = ground();
  mkdirSync(g.path("tree/below"), { recursive: true });
  mkdirSync(g.path("empty"));
  symlinkSync("tree", g.path("link"));
  assert.deepEqual(namesIn(await bytesOf(await open(g.path("empty")))), []);
  for (const path of [`${g.path("tree")}/`, `${g.path("tree")}/.`, g.path("link"), `${g.path("link")}/`]) {
    assert.deepEqual(namesIn(await bytesOf(await open(path))), ["below/"], path);
  }
  assert.equal((await open(`${g.path("link")}/`)).path, g.path("link"));
});

test("sockets and named pipes are left out and listed, the first hundred of them", async () => {
  using g = ground();
  mkdirSync(g.path("tree/in"), { recursive: true });
  writeFileSync(g.path("tree/file"), "x");
  const server = createServer().listen(g.path("tree/in/socket"));
  await once(server, "listening");
  execFileSync("sh", ["-c", `cd '${g.path("tree")}' && mkfifo in/pipe && mkfifo "$(printf 'p\\377')"`]);
  if (ROOT) execFileSync("mknod", [g.path("tree/null"), "c", "1", "3"]);
  const source = await open(g.path("tree"));
  assert.deepEqual(namesIn(await bytesOf(source)), ["file", "in/"]);
  const skipped = [...source.end().skipped].sort((a, b) => (a.path < b.path ? -1 : 1));
  assert.deepEqual(skipped, [
    { path: "in/pipe", reason: "a named pipe" },
    { path: "in/socket", reason: "a socket" },
    ...(ROOT ? [{ path: "null", reason: "a device" }] : []),
    { path: "p\ufffd", path_base64: Buffer.from([0x70, 0xff]).toString("base64"), reason: "a named pipe" },
  ]);
  server.close();
  execFileSync("sh", ["-c", `cd '${g.path("tree")}' && for i in $(seq 150); do echo many$i; done | xargs mkfifo`]);
  const many = (await open(g.path("tree"))).end();
  assert.equal(many.skipped.length, 100);
  // Closing the server took its socket away.
  assert.equal(many.skipped_count, 150 + (ROOT ? 3 : 2));
});

test("limits are of entries and of bytes, holes counted and hard links counted once", async () => {
  using g = ground();
  mkdirSync(g.path("tree/d"), { recursive: true });
  writeFileSync(g.path("tree/one"), "x".repeat(600_000));
  linkSync(g.path("tree/one"), g.path("tree/d/two"));
  await open(g.path("tree"), { maxEntries: 3, maxBytes: 1 << 20 });
  const entries = await fails(
    open(g.path("tree"), { maxEntries: 2 }),
    "LIMIT_EXCEEDED",
    /more than 2 entries.*max_entries/,
  );
  assert.match(entries.hint, /--max-entries/);
  writeFileSync(g.path("tree/holes"), "");
  truncateSync(g.path("tree/holes"), 600_000);
  const bytes = await fails(
    open(g.path("tree"), { maxBytes: 1 << 20 }),
    "LIMIT_EXCEEDED",
    /larger than 1 MiB.*max_transfer_mib/,
  );
  assert.match(bytes.hint, /--max-transfer-mib/);
  await fails(open(g.path("tree/one"), { maxBytes: 1 << 19 }), "LIMIT_EXCEEDED");
});

test("what is not there is told with what is near; what is no file is refused", async () => {
  using g = ground();
  mkdirSync(g.path("project"));
  writeFileSync(g.path("file"), "");
  symlinkSync("nowhere", g.path("dangling"));
  execFileSync("mkfifo", [g.path("pipe")]);
  const missing = await fails(
    open(g.path("projct")),
    "SOURCE_NOT_FOUND",
    /projct does not exist\. Did you mean \S*project\?$/,
  );
  assert.deepEqual(missing.details, { near: [g.path("project")] });
  await fails(open(g.path("dangling")), "SOURCE_NOT_FOUND", /dangling does not exist/);
  await fails(open(g.path("file", "below")), "SOURCE_NOT_FOUND");
  await fails(open(g.path("no/such/place")), "SOURCE_NOT_FOUND", /exist\.$/);
  await fails(open(g.path("pipe")), "SOURCE_UNREADABLE", /neither a directory nor a regular file/);
});

test("a file that vanishes meanwhile is listed; what a second connection sends is what is there then", async () => {
  using g = ground();
  mkdirSync(g.path("tree/d"), { recursive: true });
  for (const name of ["a", "d/odd \\ name\n", "d/x"]) writeFileSync(g.path("tree", name), name);
  const source = await open(g.path("tree"));
  rmSync(g.path("tree/d"), { recursive: true });
  writeFileSync(g.path("tree/d"), "a file now");
  assert.deepEqual(namesIn(await bytesOf(source)), ["a", "d"]);
  assert.deepEqual(source.end(), {
    mode: "directory",
    skipped: [
      { path: "d/odd \\ name\n", reason: "vanished while it was sent" },
      { path: "d/x", reason: "vanished while it was sent" },
    ],
    skipped_count: 2,
  });
  writeFileSync(g.path("tree/new"), "");
  assert.deepEqual(namesIn(await bytesOf(source)), ["a", "d", "new"]);
  assert.deepEqual(source.end().skipped, []);
  renameSync(g.path("tree"), g.path("moved"));
  await fails(bytesOf(source), "SOURCE_UNREADABLE", /tree cannot be read/);
});

test("a file that changes while it is read is sent and told of; one that becomes shorter too", async () => {
  using g = ground();
  mkdirSync(g.path("tree"));
  const log = g.path("tree", "written.log");
  const random = execFileSync("head", ["-c", "20000000", "/dev/urandom"], { maxBuffer: 32 << 20 });
  for (const [change, reason] of [
    [() => appendFileSync(log, "more"), "changed while it was read: what was sent may mix old and new"],
    [() => truncateSync(log, 10), "became shorter while it was read: zeros were sent for its end"],
  ] as const) {
    writeFileSync(log, random);
    const source = await open(g.path("tree"));
    const chunks: Uint8Array[] = [];
    for await (const chunk of source.bytes(AbortSignal.timeout(60_000))) {
      if (chunks.length === 10) change();
      chunks.push(chunk);
    }
    assert.deepEqual(source.end().skipped, [{ path: "written.log", reason }]);
    const unpacked = unpack(Buffer.concat(chunks), g.path(`unpacked-${reason.slice(0, 7)}`));
    assert.deepEqual(execFileSync("stat", ["-c", "%s", `${unpacked}/written.log`]).toString(), "20000000\n");
  }
});

test("who stops reading leaves no program behind, nor does an abort", async () => {
  using g = ground();
  mkdirSync(g.path("tree"));
  writeFileSync(g.path("tree/big"), "");
  writeFileSync(g.path("tree/data"), Buffer.alloc(30_000_000, 7));
  const source = await open(g.path("tree"));
  const before = children();
  for await (const _ of source.bytes(new AbortController().signal)) {
    assert.equal(children().filter((line) => line.startsWith("tar ")).length, 1);
    break;
  }
  assert.deepEqual(children(), before);
  const abort = new AbortController();
  const reason = new Error("enough");
  const reading = (async () => {
    for await (const _ of source.bytes(abort.signal)) {
      abort.abort(reason);
      await sleep(10);
    }
  })();
  await assert.rejects(reading, (thrown) => thrown === reason);
  assert.deepEqual(children(), before);
  await assert.rejects(open(g.path("tree"), { signal: abort.signal }), (thrown) => thrown === reason);
  await assert.rejects(bytesOf({ ...source, bytes: () => source.bytes(abort.signal) }), (thrown) => thrown === reason);
});

test("back-pressure: what nobody takes is not made", async () => {
  using g = ground();
  mkdirSync(g.path("tree"));
  for (let file = 0; file < 40; file++) writeFileSync(g.path("tree", `f${file}`), Buffer.alloc(1_000_000, file));
  const reading = (await open(g.path("tree"))).bytes(AbortSignal.timeout(60_000))[Symbol.asyncIterator]();
  await reading.next();
  const made = () => {
    const [pid] = execFileSync("pgrep", ["-P", String(process.pid), "-x", "tar"], { encoding: "utf8" }).split("\n");
    return Number(/^wchar: (\d+)/m.exec(execFileSync("cat", [`/proc/${pid}/io`], { encoding: "utf8" }))?.[1]);
  };
  await sleep(200);
  const held = made();
  await sleep(200);
  assert.equal(made(), held);
  assert.ok(held < 2_000_000, `${held} bytes`);
  await reading.return?.();
});

test("what this user may not read fails all of it before a byte, named", {
  skip: ROOT ? false : "needs root to become another user",
}, async () => {
  using g = ground();
  for (const kind of ["file", "directory", "fine"]) {
    mkdirSync(g.path(kind, "d"), { recursive: true });
    writeFileSync(g.path(kind, "d", "secret"), "x");
    writeFileSync(g.path(kind, "open"), "x");
    symlinkSync("d/secret", g.path(kind, "link"));
  }
  chmodSync(g.at, 0o755);
  chmodSync(g.path("file/d/secret"), 0o600);
  chmodSync(g.path("directory/d"), 0o700);
  const script = `
    const { openSource } = await import(process.argv[1]);
    const options = { exclude: JSON.parse(process.argv[3] ?? "[]"), gitignore: false, maxBytes: 1e9, maxEntries: 1000 };
    await openSource(process.argv[2], options).then(() => console.log("opened"), (e) => console.log(e.code, e.message));
  `;
  const modules = `${import.meta.dirname}/../../../../src/client/source/source.ts`;
  const asNobody = async (path: string, exclude?: string) => {
    const words = ["--input-type=module", "-e", script, modules, path, ...(exclude ? [exclude] : [])];
    const child = spawn(process.execPath, words, { uid: 65_534, gid: 65_534, stdio: ["ignore", "pipe", "inherit"] });
    let said = "";
    child.stdout.on("data", (chunk) => {
      said += chunk;
    });
    await once(child, "close");
    return said.trim();
  };
  const readable = await asNobody(g.path("fine"));
  assert.equal(readable, "opened");
  assert.equal(
    await asNobody(g.path("file")),
    `SOURCE_UNREADABLE ${g.path("file/d/secret")} cannot be read: permission denied.`,
  );
  assert.equal(
    await asNobody(g.path("directory")),
    `SOURCE_UNREADABLE ${g.path("directory/d")} cannot be read: permission denied.`,
  );
  assert.equal(
    await asNobody(g.path("file/d/secret")),
    `SOURCE_UNREADABLE ${g.path("file/d/secret")} cannot be read: permission denied.`,
  );
  assert.equal(await asNobody(g.path("directory"), '["/d/"]'), "opened");
});
