// Records: whole or not there, and nothing that lies in the place of one is waited for or believed.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readdir, rm, stat, symlink, truncate, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { checkTemplate, filesOf } from "../../../src/drivers/template.ts";
import { imageManifest, readAs } from "../../../src/environments/layout.ts";
import { readRecord, writeRecord } from "../../../src/host/records.ts";

async function temporary(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "records-"));
  t.after(() => rm(directory, { recursive: true }));
  return directory;
}

test("what is written is read again, private, and nothing lies beside it", async (t) => {
  const directory = await temporary(t);
  const path = join(directory, "a.json");
  for (const durable of [true, false]) {
    await writeRecord(path, { durable }, { durable });
    assert.deepEqual(await readRecord(path), { durable });
  }
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  await mkdir(join(directory, "b.json"));
  await assert.rejects(writeRecord(join(directory, "b.json"), 1), /EISDIR|ENOTEMPTY|EEXIST/);
  assert.deepEqual(await readdir(directory), ["a.json", "b.json"]);
  assert.equal(await readRecord(join(directory, "none")), undefined);
});

test("what is no record is told from one that cannot be read, at once", { timeout: 20_000 }, async (t) => {
  const directory = await temporary(t);
  const at = (name: string) => join(directory, name);
  execFileSync("mkfifo", [at("pipe")]);
  await mkdir(at("directory"));
  await symlink("loop", at("loop"));
  await writeFile(at("garbage"), "{");
  await writeFile(at("huge"), "{}");
  await truncate(at("huge"), 3 * 2 ** 30);
  const server = createServer().listen(at("socket"));
  t.after(() => server.close());
  for (const name of ["pipe", "directory", "loop", "garbage", "garbage/below", "huge", "socket"]) {
    await assert.rejects(readRecord(at(name)), SyntaxError, name);
    assert.equal(await readAs(imageManifest, at(name)), undefined, name);
  }
});

test("a template whose record is a pipe, or null, is damaged", { timeout: 20_000 }, async (t) => {
  const directory = await temporary(t);
  const { record } = filesOf(directory);
  await assert.rejects(checkTemplate(directory, "key"), /has no record/);
  await writeFile(record, "null");
  await assert.rejects(checkTemplate(directory, "key"), /has no record/);
  await rm(record);
  execFileSync("mkfifo", [record]);
  await assert.rejects(checkTemplate(directory, "key"), /is not a file/);
});
