// Unpacking what a guest sends: faithful to an archive that is right, and for one that is not an error, with nothing written
// beside the place. Every archive goes through the real reader and onto a real file system.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lstat, mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { type Unpacked, Unpacker, type UnpackLimits } from "../../../../src/client/download/unpack.ts";
import { Untar } from "../../../../src/client/download/untar.ts";
import type { ErrorCode } from "../../../../src/errors/codes.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import { Seeded } from "../../../seed.ts";
import { archive, type Made, record } from "./archive.ts";

const LIMITS: UnpackLimits = { maxBytes: 1 << 20, maxEntries: 50 };
const TOP: Made = { name: "artifact/", type: "5", mode: 0o755 };

interface Ground extends AsyncDisposable {
  readonly place: string;
  /** What there is beside the place. */
  beside(): Promise<string[]>;
}

async function ground(): Promise<Ground> {
  const directory = await mkdtemp(join(tmpdir(), "pyro-unpack-"));
  await mkdir(join(directory, "outside"));
  await writeFile(join(directory, "outside", "victim"), "untouched");
  return {
    place: join(directory, "place"),
    beside: async () => {
      assert.equal(await readFile(join(directory, "outside", "victim"), "utf8"), "untouched");
      assert.deepEqual(await readdir(join(directory, "outside")), ["victim"]);
      return (await readdir(directory)).filter((name) => name !== "place");
    },
    [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }),
  };
}

async function unpack(place: string, bytes: Buffer, limits = LIMITS, pieces = 700): Promise<Unpacked> {
  const unpacker = new Unpacker(place, limits);
  const reader = new Untar(unpacker);
  try {
    for (let at = 0; at < bytes.length; at += pieces) await reader.write(bytes.subarray(at, at + pieces));
    reader.end();
    return await unpacker.finish();
  } catch (thrown) {
    await unpacker.abandon();
    throw thrown;
  }
}

async function refused(bytes: Buffer, code: ErrorCode = "GUEST_UNRESPONSIVE", limits = LIMITS): Promise<void> {
  await using here = await ground();
  const thrown = await unpack(here.place, bytes, limits).then(
    () => assert.fail("it was unpacked"),
    (error: unknown) => error,
  );
  assert.ok(thrown instanceof PyroError, String(thrown));
  assert.equal(thrown.code, code, thrown.message);
  assert.deepEqual(await here.beside(), ["outside"]);
}

test("files, directories and links are what they were, whatever they are called", async () => {
  await using here = await ground();
  const long = "n".repeat(200);
  const odd = Buffer.from([0x61, 0xff, 0xfe, 0x0a, 0x22]);
  const bytes = archive([
    { ...TOP, mode: 0o2750, mtime: 1_600_000_000 },
    { name: "artifact/file", content: "content\n", mode: 0o4711, mtime: 1_500_000_000 },
    { name: "artifact/empty", mode: 0o600 },
    { name: "artifact/read-only/", type: "5", mode: 0o555 },
    { name: "artifact/read-only/in", content: "x", mode: 0o444, extension: [["mtime", "1500000000.123456789"]] },
    { name: "artifact/link", type: "2", target: "../../etc/passwd" },
    { name: "artifact/hard", type: "1", target: "artifact/file" },
    { name: "short", content: "long", extension: [["path", `artifact/${long}`]] },
    {
      name: "short",
      type: "2",
      target: "t",
      extension: [
        ["path", Buffer.concat([Buffer.from("artifact/"), odd])],
        ["linkpath", odd],
      ],
    },
    { name: "artifact/holes", content: Buffer.concat([Buffer.alloc(200_000), Buffer.from("end")]) },
    { name: "artifact/all-hole", content: Buffer.alloc(100_000) },
  ]);
  const unpacked = await unpack(here.place, bytes);
  assert.deepEqual(unpacked, { kind: "directory", entryCount: 11, bytesWritten: 300_016 });
  const top = await stat(here.place);
  assert.deepEqual([top.mode & 0o7777, top.mtimeMs], [0o750, 1_600_000_000_000]);
  const file = await stat(join(here.place, "file"));
  assert.deepEqual([file.mode & 0o7777, file.mtimeMs, file.nlink], [0o711, 1_500_000_000_000, 2]);
  assert.equal((await stat(join(here.place, "hard"))).ino, file.ino);
  const inside = await stat(join(here.place, "read-only", "in"));
  assert.ok(Math.abs(inside.mtimeMs - 1_500_000_000_123.456) < 0.01, String(inside.mtimeMs));
  assert.equal((await stat(join(here.place, "read-only"))).mode & 0o7777, 0o555);
  assert.equal(await readlink(join(here.place, "link")), "../../etc/passwd");
  assert.equal(await readFile(join(here.place, long), "utf8"), "long");
  const place = Buffer.concat([Buffer.from(`${here.place}/`), odd]);
  assert.deepEqual(await readlink(place, { encoding: "buffer" }), odd);
  const holes = await stat(join(here.place, "holes"));
  assert.deepEqual([holes.size, holes.blocks * 512 < 20_000], [200_003, true]);
  assert.deepEqual((await readFile(join(here.place, "holes"))).subarray(200_000).toString(), "end");
  assert.equal((await stat(join(here.place, "all-hole"))).size, 100_000);
  execFileSync("chmod", ["-R", "u+rwX", here.place]);
});

test("a single file, and a single link", async () => {
  for (const pieces of [1, 511, 512, 513, 100_000]) {
    await using here = await ground();
    const unpacked = await unpack(
      here.place,
      archive([{ name: "artifact", content: "x".repeat(1000) }]),
      LIMITS,
      pieces,
    );
    assert.deepEqual(unpacked, { kind: "file", entryCount: 1, bytesWritten: 1000 });
    assert.equal((await readFile(here.place, "utf8")).length, 1000);
  }
  await using here = await ground();
  assert.equal((await unpack(here.place, archive([{ name: "artifact", type: "2", target: "/" }]))).kind, "symlink");
  assert.ok((await lstat(here.place)).isSymbolicLink());
});

test("no name leads out of the place", async () => {
  const names = [
    "../evil",
    "/etc/evil",
    "evil",
    "",
    "artifact/../evil",
    "artifact/../../evil",
    "artifact/./x",
    "artifact//x",
    "artifact/..",
    "artifactual/x",
    "./artifact/x",
    "artifact/missing/x",
  ];
  for (const name of names) await refused(archive([TOP, { name, content: "evil" }]));
  for (const name of names) await refused(archive([{ name, type: "5" }, { name: "artifact/x" }]));
  await refused(archive([TOP, { name: "x", content: "evil", extension: [["path", "artifact/a\0b"]] }]));
});

test("nothing is written through a link", async () => {
  const link: Made = { name: "artifact/link", type: "2", target: "../outside" };
  await refused(archive([TOP, link, { name: "artifact/link/victim", content: "evil" }]));
  await refused(archive([TOP, link, { name: "artifact/link", content: "evil" }]));
  await refused(
    archive([TOP, link, { name: "artifact/link", type: "5" }, { name: "artifact/link/victim", content: "evil" }]),
  );
  await refused(archive([TOP, link, { name: "artifact/link/new", type: "2", target: "x" }]));
  await refused(
    archive([
      TOP,
      { name: "artifact/f", type: "2", target: "../outside/victim" },
      { name: "artifact/f", content: "evil" },
    ]),
  );
  // The top itself may be a link, and then that is all.
  await refused(
    archive([
      { name: "artifact", type: "2", target: "outside" },
      { name: "artifact/victim", content: "evil" },
    ]),
  );
  await refused(archive([{ name: "artifact", type: "2", target: "outside" }, TOP]));
});

test("a hard link is to a file of the archive", async () => {
  const link = (target: string): Made => ({ name: "artifact/hard", type: "1", target });
  for (const target of [
    "../outside/victim",
    "/etc/passwd",
    "artifact/../outside/victim",
    "artifact/none",
    "artifact",
    "",
  ]) {
    await refused(archive([TOP, link(target)]));
  }
  await refused(archive([TOP, { name: "artifact/s", type: "2", target: "../outside/victim" }, link("artifact/s")]));
  await refused(archive([TOP, { name: "artifact/s", type: "2", target: "../outside" }, link("artifact/s/victim")]));
  await refused(archive([{ name: "artifact", type: "1", target: "outside/victim" }]));
});

test("names that come twice, and things that are no files", async () => {
  await refused(archive([TOP, TOP]));
  await refused(archive([TOP, { name: "artifact/a", content: "1" }, { name: "artifact/a", content: "2" }]));
  await refused(archive([TOP, { name: "artifact/a", type: "5" }, { name: "artifact/a", type: "5" }]));
  await refused(archive([TOP, { name: "artifact/a", content: "1" }, { name: "artifact/a/b", content: "2" }]));
  await refused(
    archive([
      { name: "artifact", content: "1" },
      { name: "artifact/b", content: "2" },
    ]),
  );
  for (const type of ["3", "4", "6", "7", "g", "L", "K", "S", "D", "M", "\0", "Z"]) {
    await refused(archive([TOP, { name: "artifact/a", type }]));
  }
  await refused(archive([]));
});

test("headers and extensions that cannot be", async () => {
  const file: Made = { name: "artifact/a", content: "a" };
  await refused(archive([TOP, { ...file, badSum: true }]));
  await refused(archive([TOP, { ...file, patch: [[257, "ustar  \0"]] }]));
  await refused(archive([TOP, { ...file, patch: [[124, "99999999999\0"]] }]));
  await refused(archive([TOP, { ...file, patch: [[124, "\x80\0\0\0\0\0\0\0\0\0\0\x01"]] }]));
  await refused(archive([TOP, { name: "artifact/a", type: "5", size: 512, content: Buffer.alloc(512) }]));
  await refused(archive([TOP, { name: "artifact/a", type: "2", target: "" }]));
  for (const [key, value] of [
    ["GNU.sparse.major", "1"],
    ["GNU.sparse.realsize", "99999999999999"],
    ["size", "-1"],
    ["size", "1e9"],
    ["size", "0x10"],
    ["mtime", "never"],
    ["path", ""],
    ["uid", "0"],
    ["SCHILY.xattr.user.x", "y"],
  ] as const) {
    await refused(archive([TOP, { ...file, extension: [[key, value]] }]));
  }
  await refused(
    archive([
      TOP,
      {
        ...file,
        extension: [
          ["path", "artifact/a"],
          ["path", "artifact/b"],
        ],
      },
    ]),
  );
  const raw = (bytes: string | Buffer): Made => ({ name: "x", type: "x", content: bytes });
  for (const bytes of [
    "",
    "9 path=a\n",
    "7 path=a",
    "path=artifact/a\n",
    "999999 path=a\n",
    "6 =abc\n",
    "0 \n",
    Buffer.alloc(70_000),
  ]) {
    await refused(archive([TOP, raw(bytes), file]));
  }
  await refused(archive([TOP, raw(record("mtime", "1")), raw(record("mtime", "1")), file]));
  await refused(archive([TOP, raw(record("mtime", "1"))]));
});

test("archives that are cut, and what follows their end", async () => {
  const whole = archive([TOP, { name: "artifact/a", content: "x".repeat(1500), extension: [["mtime", "1.5"]] }]);
  for (let at = 0; at < whole.length - 512; at += 256) await refused(whole.subarray(0, at));
  await refused(Buffer.concat([whole, Buffer.from("x")]));
  await refused(Buffer.concat([whole, Buffer.alloc(1 << 20)]));
  await refused(Buffer.concat([whole, archive([{ name: "artifact/b" }])]));
  await refused(archive([TOP], Buffer.concat([Buffer.alloc(512), archive([{ name: "artifact/b" }])])));
});

test("archives that are damaged at random are refused or unpacked, and nothing lies beside the place", async () => {
  const random = Seeded.fromEnvironment();
  const whole = archive([
    TOP,
    { name: "artifact/a", content: "x".repeat(700), extension: [["mtime", "1.5"]] },
    { name: "artifact/d/", type: "5" },
    { name: "artifact/d/l", type: "2", target: "../../outside" },
    { name: "artifact/h", type: "1", target: "artifact/a" },
  ]);
  for (let round = 0; round < 150; round++) {
    const bytes = Buffer.from(whole);
    for (let left = 1 + random.below(4); left > 0; left--) bytes[random.below(bytes.length)] = random.below(256);
    // A header whose sum is wrong says nothing of what follows it.
    for (let at = 0; at < bytes.length; at += 512) if (random.chance(0.7)) resum(bytes, at);
    await using here = await ground();
    await unpack(here.place, bytes).catch((thrown: unknown) => {
      const system = (thrown as NodeJS.ErrnoException).syscall !== undefined;
      assert.ok(thrown instanceof PyroError || system, `PYRO_SEED=${random.seed}: ${thrown}`);
    });
    assert.deepEqual(await here.beside(), ["outside"]);
  }
});

/** Gives what may be a header the sum that it should have. */
function resum(bytes: Buffer, at: number): void {
  const block = bytes.subarray(at, at + 512);
  if (block.toString("latin1", 257, 262) !== "ustar") return;
  block.fill(0x20, 148, 156);
  const sum = block.reduce((all, byte) => all + byte, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}

test("more than was allowed is refused before it is written", async () => {
  const many = Array.from({ length: 60 }, (_, index): Made => ({ name: `artifact/${index}` }));
  await refused(archive([TOP, ...many]), "LIMIT_EXCEEDED");
  await refused(archive([TOP, { name: "artifact/a", size: (1 << 20) + 1 }]), "LIMIT_EXCEEDED");
  await refused(archive([TOP, { name: "artifact/a", extension: [["size", "999999999999999"]] }]), "LIMIT_EXCEEDED");
  const half: Made = { name: "artifact/a", content: Buffer.alloc(600_000, "x") };
  await refused(archive([TOP, half, { ...half, name: "artifact/b" }]), "LIMIT_EXCEEDED");
});
