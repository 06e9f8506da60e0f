// A name of the host that something is written to: nothing is there before it is whole, nothing stays after a failure, and
// what was there is left alone.
import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { HostOutput, outputError } from "../../../../src/client/download/output.ts";
import { PyroError } from "../../../../src/errors/error.ts";

async function scratch() {
  const path = await mkdtemp(join(tmpdir(), "pyro-output-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

const code = (wanted: string) => (thrown: unknown) => thrown instanceof PyroError && thrown.code === wanted;

test("a file and a directory appear when they are committed", async () => {
  await using here = await scratch();
  const file = await HostOutput.open(join(here.path, "file"));
  await writeFile(file.temporary, "x");
  assert.ok(!(await readdir(here.path)).includes("file"));
  await file.commit();
  const directory = await HostOutput.open(join(here.path, "directory"));
  await mkdir(directory.temporary);
  await directory.commit();
  assert.deepEqual((await readdir(here.path)).sort(), ["directory", "file"]);
});

test("what is there, or comes meanwhile, is left alone", async () => {
  await using here = await scratch();
  await writeFile(join(here.path, "file"), "mine");
  await mkdir(join(here.path, "directory"));
  await symlink("nowhere", join(here.path, "link"));
  for (const name of ["file", "directory", "link"]) {
    await assert.rejects(HostOutput.open(join(here.path, name)), code("OUTPUT_EXISTS"));
  }
  for (const kind of ["file", "directory"]) {
    const late = await HostOutput.open(join(here.path, "late"));
    if (kind === "file") await writeFile(late.temporary, "theirs");
    else await mkdir(late.temporary);
    await writeFile(late.path, "mine");
    await assert.rejects(late.commit(), code("OUTPUT_EXISTS"));
    await late.discard();
    assert.equal(await readFile(late.path, "utf8"), "mine");
    await rm(late.path);
  }
  assert.deepEqual((await readdir(here.path)).sort(), ["directory", "file", "link"]);
});

test("directories above it are made where that is wanted, and taken back with it", async () => {
  await using here = await scratch();
  await assert.rejects(HostOutput.open(join(here.path, "a", "b", "c")), code("HOST_IO_FAILED"));
  await writeFile(join(here.path, "plain"), "");
  await assert.rejects(HostOutput.open(join(here.path, "plain", "c"), true), code("HOST_IO_FAILED"));
  const output = await HostOutput.open(join(here.path, "a", "b", "c"), true);
  await writeFile(output.temporary, "x");
  await output.discard();
  assert.deepEqual(await readdir(here.path), ["plain"]);
  const kept = await HostOutput.open(join(here.path, "a", "b", "c"), true);
  await writeFile(join(here.path, "a", "other"), "");
  await kept.discard();
  assert.deepEqual(await readdir(join(here.path, "a")), ["other"]);
});

test("a directory of links only, and one whose files cannot be written to, goes with what failed", async () => {
  await using here = await scratch();
  const output = await HostOutput.open(join(here.path, "x".repeat(250)));
  await mkdir(output.temporary);
  await symlink("/", join(output.temporary, "root"));
  await writeFile(join(output.temporary, "f"), "");
  await chmod(join(output.temporary, "f"), 0o400);
  await output.discard();
  assert.deepEqual(await readdir(here.path), []);
  assert.ok((await readdir("/")).length > 5);
});

test("what the system says becomes an error with a code", () => {
  const system = (name: string) => Object.assign(new Error(`${name}: it failed`), { code: name, syscall: "write" });
  for (const [name, wanted] of [
    ["ENOSPC", "HOST_DISK_FULL"],
    ["EDQUOT", "HOST_DISK_FULL"],
    ["EACCES", "HOST_IO_FAILED"],
    ["EROFS", "HOST_IO_FAILED"],
    ["ENAMETOOLONG", "HOST_IO_FAILED"],
  ] as const) {
    assert.ok(code(wanted)(outputError("/x", system(name))), name);
  }
  const other = new Error("x");
  assert.equal(outputError("/x", other), other);
});
