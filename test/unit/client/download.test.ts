// A file of the host that a call makes: whole and sparse under its name, or nothing at all; what is there is never replaced.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, open, readdir, readFile, stat, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { download } from "../../../src/client/download.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { packSparse } from "../../../src/host/sparse-archive.ts";
import { ToClient } from "../../../src/wire/protocol.ts";
import { Conversation, type Home, listen, temporaryHome } from "./fake-daemon.ts";

const NEVER = new AbortController().signal;
const OUTPUT = { output_path: "told", format: "ext4" };
const HOLE = 64 << 20;

/** A home, a sparse file to be sent, and a place for outputs. */
async function ground() {
  const home = await temporaryHome();
  const [source, out] = [join(home.directory, "source"), join(home.directory, "out")];
  await mkdir(source);
  await mkdir(out);
  const path = join(source, "disk.ext4");
  await writeFile(path, "begin", { mode: 0o600 });
  await truncate(path, HOLE);
  const file = await open(path, "r+");
  await file.write("end", HOLE - 3);
  await file.close();
  return { home, source, out, path, [Symbol.asyncDispose]: () => home[Symbol.asyncDispose]() };
}

/** A daemon that sends the file, as far as `then` has it so. */
async function daemon(home: Home, source: string, then: (talk: Conversation, sent: number) => unknown) {
  const asked: unknown[] = [];
  const fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    asked.push(talk.head.input);
    let sent = 0;
    for await (const chunk of packSparse(source, "disk.ext4", NEVER)) {
      sent += chunk.length;
      talk.output("stdout", sent, chunk);
      if (then(talk, sent) !== "go on") return;
    }
    talk.finish(OUTPUT);
  });
  return { asked, [Symbol.asyncDispose]: () => fake[Symbol.asyncDispose]() };
}

const get = (home: Home, out: string, name: string, more: object = {}) =>
  download(home.where, "workspace.disk_export", { workspace_id: "w", output_path: name }, { cwd: out, ...more });

async function refuses(promise: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(promise, (error) => error instanceof PyroError && error.code === code);
}

test("a file comes whole, with its holes, and only its path is told", async () => {
  await using g = await ground();
  await using fake = await daemon(g.home, g.source, () => "go on");
  assert.deepEqual(await get(g.home, g.out, "image"), OUTPUT);
  const image = join(g.out, "image");
  assert.ok((await readFile(image)).equals(await readFile(g.path)));
  const { blocks, mode } = await stat(image);
  assert.ok(blocks * 512 < HOLE / 4, `${blocks} blocks are written`);
  assert.equal(mode & 0o777, 0o600);
  assert.deepEqual(await readdir(g.out), ["image"]);
  assert.deepEqual(fake.asked, [{ workspace_id: "w", output_path: image }]);
});

test("what is there stays, also what comes while it is made; a path must be allowed", async () => {
  await using g = await ground();
  const late = join(g.out, "late");
  await using fake = await daemon(g.home, g.source, () => {
    execFileSync("touch", [late]);
    return "go on";
  });
  await writeFile(join(g.out, "there"), "mine");
  await refuses(get(g.home, g.out, "there"), "OUTPUT_EXISTS");
  await refuses(get(g.home, g.out, "none/x"), "HOST_IO_FAILED");
  await refuses(get(g.home, g.out, ""), "INVALID_INPUT");
  const forbidden = new PyroError("HOST_PATH_FORBIDDEN", "no");
  await refuses(get(g.home, g.out, "x", { allow: () => Promise.reject(forbidden) }), "HOST_PATH_FORBIDDEN");
  assert.equal(fake.asked.length, 0, "the daemon was asked");
  await refuses(get(g.home, g.out, "late"), "OUTPUT_EXISTS");
  assert.equal((await stat(late)).size, 0);
  assert.equal(await readFile(join(g.out, "there"), "utf8"), "mine");
  assert.deepEqual((await readdir(g.out)).sort(), ["late", "there"]);
});

test("an error, a connection that breaks and an abort leave nothing, and nothing is asked twice", async () => {
  await using g = await ground();
  // More than comes at once.
  await writeFile(g.path, Buffer.alloc(4 << 20, 1));
  const stopped = new AbortController();
  const endings: [(talk: Conversation) => void, string][] = [
    [(talk) => talk.json(ToClient.Error, new PyroError("DISK_DAMAGED", "It is.").toData()), "DISK_DAMAGED"],
    [(talk) => talk.drop(), "DAEMON_UNREACHABLE"],
    [(talk) => talk.finish(OUTPUT), "HOST_IO_FAILED"],
    [() => stopped.abort(new PyroError("CANCELLED", "enough")), "CANCELLED"],
  ];
  for (const [end, code] of endings) {
    await using fake = await daemon(g.home, g.source, end);
    await refuses(get(g.home, g.out, "image", { signal: stopped.signal }), code);
    assert.equal(fake.asked.length, 1);
    assert.deepEqual(await readdir(g.out), []);
  }
});

test("a full disk is told as that, and nothing is left there", async (context) => {
  if (process.getuid?.() !== 0) return context.skip("a small file system takes root");
  await using g = await ground();
  await writeFile(g.path, Buffer.alloc(4 << 20, 1));
  await using _fake = await daemon(g.home, g.source, () => "go on");
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m", "tmpfs", g.out]);
  try {
    await refuses(get(g.home, g.out, "image"), "HOST_DISK_FULL");
    assert.deepEqual(await readdir(g.out), []);
  } finally {
    execFileSync("umount", ["-l", g.out]);
  }
});
