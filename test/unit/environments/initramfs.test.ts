// The initramfs: its contents as cpio itself lists them, and the same bytes from the same inputs.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { packInitramfs } from "../../../src/environments/initramfs.ts";

test("holds /init, the modules and the directories guestd mounts on, owned by root, reproducibly", async (t) => {
  const directory = await mkdtemp(join(tmpdir(), "initramfs-"));
  t.after(() => rm(directory, { recursive: true }));
  const modules = join(directory, "from");
  await mkdir(modules);
  await writeFile(join(modules, "virtio.ko"), "module");
  await writeFile(join(modules, "order"), "virtio.ko\n");
  const guestd = join(directory, "guestd");
  await writeFile(guestd, "#!static", { mode: 0o600 });

  const first = join(directory, "first");
  await packInitramfs({ guestd, modules }, join(directory, "tree1"), first);
  await new Promise((resolve) => setTimeout(resolve, 1100));
  const second = join(directory, "second");
  await packInitramfs({ guestd, modules }, join(directory, "tree2"), second);

  const bytes = await readFile(first);
  assert.deepEqual(bytes, await readFile(second));
  assert.equal(bytes.toString("latin1", 0, 6), "070701");
  const listed = execFileSync("cpio", ["-tv", "--numeric-uid-gid", "--quiet"], { input: bytes, encoding: "utf8" });
  const rows = listed
    .trim()
    .split("\n")
    .map((line) => line.split(/\s+/));
  assert.deepEqual(
    rows.map((row) => [row.at(-1), row[0], `${row[2]}:${row[3]}`]),
    [
      ["dev", "drwxr-xr-x", "0:0"],
      ["init", "-rwxr-xr-x", "0:0"],
      ["modules", "drwxr-xr-x", "0:0"],
      ["modules/order", "-rw-r--r--", "0:0"],
      ["modules/virtio.ko", "-rw-r--r--", "0:0"],
      ["proc", "drwxr-xr-x", "0:0"],
      ["sys", "drwxr-xr-x", "0:0"],
    ],
  );
  assert.equal(
    execFileSync("cpio", ["-i", "--to-stdout", "--quiet", "init"], { input: bytes, encoding: "utf8" }),
    "#!static",
  );
});
