// Finding Firecracker: the order of the places, and what is refused with which words.
import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import {
  type FoundFirecracker,
  findFirecracker,
  isUsable,
  type Search,
} from "../../../src/drivers/firecracker/find.ts";

/** Directories with programs that say what real ones do; PATH is one of them. */
async function places() {
  const root = await realpath(await mkdtemp(join(tmpdir(), "pyro-find-")));
  const before = process.env.PATH;
  const path = join(root, "path");
  await mkdir(path);
  // Nothing of this host's own: the shell that the programs are written in is called by its path.
  process.env.PATH = path;
  return {
    root,
    async put(place: string, says: string): Promise<string> {
      const file = join(root, place);
      await mkdir(join(file, ".."), { recursive: true });
      await writeFile(file, `#!/bin/sh\n[ "$1" = --version ] && echo "${says}"\n`);
      await chmod(file, 0o755);
      return file;
    },
    find: (search: Partial<Search> = {}) =>
      findFirecracker({ given: undefined, tools: join(root, "tools"), needsJailer: false, ...search }),
    [Symbol.asyncDispose]: async () => {
      process.env.PATH = before;
      await rm(root, { recursive: true });
    },
  };
}

function found(result: Awaited<ReturnType<typeof findFirecracker>>): FoundFirecracker {
  assert.ok(result !== undefined && "program" in result, JSON.stringify(result));
  return result;
}

function refused(result: Awaited<ReturnType<typeof findFirecracker>>, message: RegExp): void {
  assert.ok(result !== undefined && "fix" in result, JSON.stringify(result));
  assert.match(result.message, message);
  assert.match(result.fix, /firecracker-microvm/);
}

test("the user's own choice, then PATH, then pyro's tools", async (context) => {
  await using ground = await places();
  if ((await ground.find()) !== undefined)
    return context.skip("this host has a Firecracker where every program is looked for");
  const inTools = await ground.put("tools/firecracker", "Firecracker v1.13.0");
  assert.deepEqual(await ground.find(), { program: inTools, version: "1.13.0", jailer: undefined });
  const inPath = await ground.put("path/firecracker", "Firecracker v1.12.1");
  assert.equal(found(await ground.find()).program, inPath);
  const own = await ground.put("own/fc", "Firecracker v1.14.2");
  assert.equal(found(await ground.find({ given: own })).program, own);
  refused(await ground.find({ given: join(ground.root, "absent") }), /absent is no program that can be run/);
  await symlink(own, join(ground.root, "link"));
  assert.equal(found(await ground.find({ given: join(ground.root, "link") })).program, own);
});

test("what is no Firecracker, or too old a one, is named", async () => {
  await using ground = await places();
  refused(await ground.find({ given: await ground.put("a", "hello") }), /does not say that it is Firecracker/);
  refused(
    await ground.find({ given: await ground.put("b", "Firecracker v1.11.0") }),
    /is Firecracker 1\.11\.0; pyro needs 1\.12/,
  );
  const file = join(ground.root, "c");
  await writeFile(file, "not to be executed");
  refused(await ground.find({ given: file }), /is no program that can be run/);
});

test("root needs the jailer: beside it or in PATH, of the same version", async () => {
  await using ground = await places();
  const given = await ground.put("own/firecracker", "Firecracker v1.12.1");
  const search = { given, needsJailer: true };
  refused(await ground.find(search), /jailer is neither beside .* nor in PATH/);
  const inPath = await ground.put("path/jailer", "Jailer v1.12.1");
  assert.equal(found(await ground.find(search)).jailer, inPath);
  const beside = await ground.put("own/jailer", "Jailer v1.12.1");
  assert.equal(found(await ground.find(search)).jailer, beside);
  await ground.put("own/jailer", "Jailer v1.13.0");
  refused(await ground.find(search), /jailer is of version 1\.13\.0, and .* of 1\.12\.1/);
});

test("versions that can be used", () => {
  for (const version of ["1.12.0", "1.12.1", "1.20.3"]) assert.ok(isUsable(version), version);
  for (const version of ["0.25.0", "1.11.9", "2.0.0"]) assert.ok(!isUsable(version), version);
});
