// The disk of a stopped workspace in real microVMs, from all three faces: what its processes saw is listed, read and exported
// without starting it, and nothing of an inspector is left. What becomes of it when something fails is in long/disk-faults.test.ts.
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro, PyroError } from "pyro-mcp";
import { pathsFor } from "../../src/engine/paths.ts";
import type { OutputOf } from "../../src/operations/table.ts";
import { PYRO, sharedHome, untilGone } from "./harness.ts";
import { scratch, type Workspace, Workspaces } from "./workspaces.ts";

type Json = Record<string, unknown>;
type Exported = OutputOf<"workspace.disk_export">;

const isRoot = process.getuid?.() === 0;
const NEEDS_ROOT = "mounting the image takes root";
const sh = async (script: string) =>
  (await promisify(execFile)("sh", ["-c", script], { encoding: "buffer", maxBuffer: 64 << 20 })).stdout;

/** Everything below a root but what belongs to the running system: kind, mode, owners, times, sizes, links; then digests. */
const DESCRIBE = `cd "$ROOT" && find . \\( -path ./proc -o -path ./sys -o -path ./dev -o -path ./run -o -path ./tmp \\
    -o -path ./lost+found -o -path ./etc/machine-id \\) -prune -o \\
    -type d -printf '%y %m %U:%G %T@ %p\\0' -o -path './usr/local/*' -printf '%y %m %U:%G %T@ %s %n %l %p\\0' \\
    -o -printf '%y %m %U:%G %T@ %s %l %p\\0'
  find usr/local workspace etc -type f ! -name machine-id -print0 | sort -z | xargs -0 sha256sum -z
  stat -c '%t %T' usr/local/odd/null
  python3 -c 'import os; print(os.getxattr("usr/local/odd/a", "user.note"))'`;

const FILL = `set -e
  mkdir -p /usr/local/odd/deep/er; cd /usr/local/odd
  echo one >a; ln a b; ln a /workspace/linked; chmod 6751 a; chown 1234:5678 b
  python3 -c 'import os; os.setxattr("a", "user.note", b"kept"); open(b"not-utf8-\\xff", "w").close()'
  mknod null c 1 3; mkfifo pipe; ln -s loop loop; ln -s ../../../../../../etc/hostname out; ln -s /etc abs; ln -s nowhere none
  truncate -s 300M sparse; echo end >>sparse; head -c 3000 /dev/urandom >bytes
  touch -d '2001-02-03 04:05:06.789' deep/er/old; chmod 1700 deep
  rm -rf /usr/share/doc /etc/issue /etc/apt; mkdir /etc/apt; echo new >/etc/apt/new; mv /etc/shells /etc/shells.moved
  echo gone >/tmp/gone; echo gone >/run/gone; mkdir -p /workspace/src; seq 20000 >/workspace/src/numbers; sync`;

/** What a whole image holds, mounted where nobody else sees it. */
async function describeImage(path: string): Promise<Buffer> {
  const script = `mount -o loop,ro '${path}' /mnt && ROOT=/mnt && ${DESCRIBE}
    test "$(ls -A /mnt/tmp /mnt/run /mnt/proc /mnt/sys /mnt/dev | grep -c gone)" = 0 && test ! -s /mnt/etc/machine-id`;
  return (await promisify(execFile)("unshare", ["-m", "sh", "-c", script], { encoding: "buffer", maxBuffer: 64 << 20 }))
    .stdout;
}

function assertSame(image: Buffer, guest: Buffer): void {
  const lines = (bytes: Buffer) => new Set(bytes.toString("latin1").split("\0"));
  const [there, seen] = [lines(image), lines(guest)];
  assert.deepEqual(
    [...seen].filter((line) => !there.has(line)),
    [],
    "the guest saw what is not in the image",
  );
  assert.deepEqual(
    [...there].filter((line) => !seen.has(line)),
    [],
    "the image holds what the guest did not see",
  );
  assert.ok(seen.size > 5000, `${seen.size} names are a whole system`);
}

async function stop(all: Workspaces, workspace: Workspace): Promise<void> {
  await all.ask(["update", workspace.id, "--ttl-seconds", "1"]);
  await workspace.untilState("stopped");
  await all.ask(["update", workspace.id, "--ttl-seconds", "3600"]);
}

async function rejects(promise: Promise<unknown>, code: string): Promise<void> {
  await assert.rejects(promise, (error) => error instanceof PyroError && error.code === code);
}

test("a stopped workspace is listed, read and exported as its processes saw it", {
  timeout: 400_000,
}, async (context) => {
  if (!isRoot) return context.skip(NEEDS_ROOT);
  await using out = await scratch();
  const all = new Workspaces();
  await using workspace = await all.create();
  await using pyro = new Pyro();
  const { disk } = pyro.workspace(workspace.id);
  await workspace.sh(FILL);
  const { stdout: seen } = await workspace.exec(["sh", "-c", `ROOT=/; ${DESCRIBE}`]);
  const hostname = await workspace.ok(["cat", "/etc/hostname"]);
  const refused = await all.refused(["disk", "list", workspace.id], "WORKSPACE_STATE");
  assert.match(refused.hint, /^Stop the workspace/);
  await stop(all, workspace);

  const apt = await all.ask<OutputOf<"workspace.disk_list">>(["disk", "list", workspace.id, "/etc/apt"]);
  assert.deepEqual(
    apt.entries.map(({ path, size_bytes, artifact_type }) => [path, size_bytes, artifact_type]),
    [["/etc/apt/new", 4, "file"]],
  );
  const root = (await disk.list()).entries.map(({ path }) => path);
  assert.ok(root.includes("/usr") && root.includes("/workspace") && !root.includes("/upper"), root.join(" "));
  const paths: string[] = [];
  for await (const file of disk.list({ path: "/usr/local/odd", recursive: true, limit: 3 })) {
    paths.push(file.path);
    if (file.path.startsWith("/usr/local/odd/not")) assert.ok(file.pathBase64?.endsWith("/w=="), file.pathBase64);
  }
  assert.deepEqual(paths, [...new Set(paths)]);
  assert.equal(paths.length, 14, paths.join(" "));
  await rejects(disk.list("/usr/share/doc"), "FILE_NOT_FOUND");
  await rejects(disk.read("/etc/issue"), "FILE_NOT_FOUND");
  await rejects(disk.read("/usr/local/odd/null"), "FILE_WRONG_KIND");
  await rejects(disk.read("/usr/local/odd/loop"), "PATH_OUTSIDE");
  await rejects(disk.read("/etc"), "FILE_WRONG_KIND");
  await rejects(disk.read("/usr/local/odd/a", { offset: 5 }), "INVALID_INPUT");
  // Out of the root leads no link.
  for (const path of ["/usr/local/odd/out", "/usr/local/odd/abs/hostname"]) {
    assert.equal((await disk.read(path)).content, hostname);
  }
  const part = await disk.read("src/numbers", { offset: 2, maxBytes: 5 });
  assert.deepEqual([part.content, part.nextOffset, part.truncated], ["2\n3\n4", 7, true]);
  assert.equal((await disk.read("/usr/local/odd/bytes")).encoding, "base64");
  const only = await all.finish(["disk", "read", workspace.id, "/etc/apt/new", "--content-only"]);
  assert.deepEqual([only.stdout.toString(), only.stderr.toString()], ["new\n", ""]);
  assert.equal((await workspace.status()).state, "stopped", "looking at it started it");

  const image = join(out.path, "deep", "whole.ext4");
  const exported = await overMcp(all, workspace, out.path, image);
  assert.deepEqual([exported.format, exported.output_path], ["ext4", image]);
  assert.ok(exported.bytes_written < 1 << 30 && exported.size_bytes > 16 * 2 ** 30, JSON.stringify(exported));
  await sh(`PATH=$PATH:/sbin:/usr/sbin; e2fsck -fn '${image}'`);
  assertSame(await describeImage(image), seen);
  await rejects(disk.export(image), "OUTPUT_EXISTS");
  assert.deepEqual(await readdir(join(out.path, "deep")), ["whole.ext4"]);
  assert.equal(await workspace.ok(["cat", "/etc/apt/new"]), "new\n");
  await untilGone(() => readdir(pathsFor({ PYRO_HOME: sharedHome() }, 0).inspections));
});

/** As a model makes one: it is told that it takes longer, and asks again. Meanwhile nobody starts the workspace. */
async function overMcp(all: Workspaces, workspace: Workspace, allowed: string, image: string): Promise<Exported> {
  const args = [PYRO, "mcp", "serve", "--profile", "workspace-full", "--allow-write", allowed];
  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: sharedHome(), PYRO_POOL_SIZE: "0" };
  const client = new Client({ name: "test", version: "1" });
  await client.connect(new StdioClientTransport({ command: process.execPath, args, env, stderr: "inherit" }));
  const tool = async (name: string, more: Json) => {
    const result = await client.callTool({ name, arguments: { workspace_id: workspace.id, ...more } });
    const [text] = result.content as { text: string }[];
    return { isError: result.isError === true, told: JSON.parse(text?.text ?? "") as Json };
  };
  try {
    const listed = await tool("workspace_disk_list", { path: "/etc/apt" });
    assert.equal((listed.told.entries as Json[]).length, 1);
    assert.equal((await tool("workspace_disk_read", { path: "/etc/apt/new" })).told.content, "new\n");
    const outside = await tool("workspace_disk_export", { output_path: "/var/tmp/pyro-no.ext4" });
    assert.equal((outside.told.error as Json).code, "HOST_PATH_FORBIDDEN");
    for (let turn = 0; ; turn++) {
      const { isError, told } = await tool("workspace_disk_export", {
        output_path: image,
        wait_seconds: turn === 0 ? 3 : 40,
      });
      if (!isError) return told as unknown as Exported;
      assert.equal((told.error as Json).code, "DISK_EXPORT_RUNNING", JSON.stringify(told));
      assert.ok(turn < 8, "it does not come to an end");
      if (turn === 0) await all.refused(["exec", workspace.id, "--", "true"], "DISK_EXPORT_RUNNING");
    }
  } finally {
    await client.close();
  }
}
