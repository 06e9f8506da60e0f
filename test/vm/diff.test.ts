// What was changed in a workspace, in a real microVM and from all three faces: every kind of change, as a patch that makes of a
// copy of the seed exactly what is in the workspace.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro, PyroError } from "pyro-mcp";
import type { OutputOf } from "../../src/operations/table.ts";
import { ownHome, PYRO, sha256, sharedHome, VMM } from "./harness.ts";
import { scratch, type Workspace, Workspaces } from "./workspaces.ts";

type Diff = OutputOf<"workspace.diff">;
type Json = Record<string, unknown>;

const all = new Workspaces();
const pyro = new Pyro();
const client = new Client({ name: "test", version: "1" });
let ground: { readonly path: string } & AsyncDisposable;
let seed: string;
let workspace: Workspace;

before(async () => {
  ground = await scratch();
  seed = join(ground.path, "seed");
  await makeSeed(seed);
  workspace = await all.create(["--seed-path", seed]);
  await mkdir(join(ground.path, "tree"));
  execFileSync("git", ["init", "-q", join(ground.path, "tree")]);
  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: sharedHome(), PYRO_POOL_SIZE: "0" };
  const cwd = join(ground.path, "tree");
  await client.connect(
    new StdioClientTransport({ command: process.execPath, args: [PYRO, "mcp", "serve"], env, cwd, stderr: "inherit" }),
  );
});

after(async () => {
  await client.close();
  await pyro.close();
  await workspace[Symbol.asyncDispose]();
  await ground[Symbol.asyncDispose]();
});

const ODD = Buffer.from([0x6f, 0xff, 0xfe, 0x64]);

async function makeSeed(top: string): Promise<void> {
  const lines = Array.from({ length: 100 }, (_, index) => `line ${index}\n`).join("");
  const files: Record<string, string | Buffer> = {
    same: "same\n",
    edited: lines,
    gone: "gone\n",
    script: "#!/bin/sh\n",
    "no-newline": "a\nb",
    empty: "",
    binary: randomBytes(5000),
    "binary-gone": randomBytes(100),
    "to-link": "file\n",
    "to-directory": "file\n",
    "name with spaces": "1\n",
    'quo"te\\': "1\n",
    "new\nline": "1\n",
    touched: "touched\n",
    "dir/a": "a\n",
    "dir/deep/b": "b\n",
    "renamed/from": lines,
    "many/f0": "x\n",
  };
  for (const [name, content] of Object.entries(files)) {
    await mkdir(join(top, name, ".."), { recursive: true });
    await writeFile(join(top, name), content);
  }
  await writeFile(Buffer.concat([Buffer.from(`${top}/`), ODD]), "1\n");
  await symlink("same", join(top, "link"));
  await symlink("same", join(top, "link-gone"));
  execFileSync("git", ["init", "-q", top]);
}

/** Files and links as git knows them, by their names as latin1: mode and content. */
async function treeOf(top: string): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  const walk = async (directory: Buffer, prefix: string): Promise<void> => {
    for (const entry of await readdir(directory, { withFileTypes: true, encoding: "buffer" })) {
      const name = `${prefix}${entry.name.toString("latin1")}`;
      const path = Buffer.concat([directory, Buffer.from("/"), entry.name]);
      if (name === ".git") continue;
      if (entry.isDirectory()) await walk(path, `${name}/`);
      else if (entry.isSymbolicLink()) found.set(name, `link ${await readlink(path, "latin1")}`);
      else if (entry.isFile()) {
        const executable = ((await stat(path)).mode & 0o100) !== 0;
        found.set(name, `${executable ? "755" : "644"} ${sha256(await readFile(path))}`);
      }
    }
  };
  await walk(Buffer.from(top), "");
  return found;
}

/** The same of the workspace, by its own programs. */
async function treeInside(of: Workspace): Promise<Map<string, string>> {
  const script = `
import os, hashlib
for top, dirs, files in os.walk(b"/workspace"):
  dirs[:] = [d for d in dirs if d != b".git"]
  for name in files + [d for d in dirs if os.path.islink(os.path.join(top, d))]:
    path = os.path.join(top, name)
    if os.path.islink(path): value = b"link " + os.readlink(path)
    elif os.path.isfile(path):
      mode = b"755 " if os.stat(path).st_mode & 0o100 else b"644 "
      value = mode + hashlib.sha256(open(path, "rb").read()).hexdigest().encode()
    else: continue
    print(os.path.relpath(path, b"/workspace").hex(), value.hex())
`;
  const printed = await of.ok(["python3", "-c", script]);
  const text = (hex = "") => Buffer.from(hex, "hex").toString("latin1");
  return new Map(
    printed
      .trimEnd()
      .split("\n")
      .map((line) => line.split(" "))
      .map(([name, value]) => [text(name), text(value)]),
  );
}

/** A copy of the seed with a patch applied to it, as a user does that. */
async function applied(patch: Buffer): Promise<string> {
  const copy = join(ground.path, `copy-${randomBytes(4).toString("hex")}`);
  execFileSync("cp", ["-a", seed, copy]);
  const { status, stderr } = spawnSync("git", ["apply", "--whitespace=nowarn", "-"], { cwd: copy, input: patch });
  assert.equal(status, 0, `${stderr}\n${patch.toString().slice(0, 3000)}`);
  return copy;
}

const diff = (...args: string[]) => ["diff", workspace.id, ...args];

async function tool(name: string, args: Json): Promise<Json> {
  const result = await client.callTool({ name, arguments: { workspace_id: workspace.id, ...args } });
  assert.notEqual(result.isError, true, JSON.stringify(result.content));
  const size = Buffer.byteLength(
    JSON.stringify({ content: result.content, structuredContent: result.structuredContent }),
  );
  assert.ok(size <= 9000, `${name}: ${size} bytes`);
  return result.structuredContent as Json;
}

async function toolFails(name: string, args: Json): Promise<string> {
  const result = await client.callTool({ name, arguments: { workspace_id: workspace.id, ...args } });
  assert.equal(result.isError, true, JSON.stringify(result.content));
  const [text] = result.content as { text: string }[];
  return (JSON.parse(text?.text ?? "") as { error: { code: string } }).error.code;
}

test("an unchanged workspace has no changes", async () => {
  await workspace.sh(
    "touch touched; cat edited > /dev/null; git -c user.name=a -c user.email=b commit -q --allow-empty -m x",
  );
  const plain = await all.finish(diff());
  assert.deepEqual([plain.status, plain.stdout.toString()], [0, ""]);
  assert.match(plain.stderr.toString(), /nothing was changed/);
  const told = await all.ask<Diff>(diff());
  assert.deepEqual([told.changed, told.summary.total, told.entries, told.patch], [false, 0, [], ""]);
});

test("every kind of change, as all three faces tell it, makes of the seed what is in the workspace", async () => {
  await workspace.sh(`
    sed -i 's/line 50$/line fifty/; /line 9[0-9]/d' edited
    rm -r gone dir link-gone binary-gone to-link to-directory
    chmod +x script; printf 'a\\nc' > no-newline; echo more > empty; echo more >> binary
    ln -s same to-link; mkdir -p to-directory/in; echo new > to-directory/in/it; echo 'now a file' > dir
    ln -sfn elsewhere link; ln -s ../up new-link; mv renamed/from renamed/to
    printf '\\000\\001' > new-binary; touch new-empty; mkdir -p new/deep; echo 'x' > 'new/deep/file of mine'
    for n in 'name with spaces' 'quo"te\\' "$(printf 'new\\nline')" "$(printf 'o\\377\\376d')"; do echo 2 > "$n"; done
    mkdir only-a-directory; mkfifo a-fifo; chmod 600 same
    git add -A 2> /dev/null || true`);
  await using pushed = await scratch();
  await writeFile(join(pushed.path, "pushed"), "from the host\n");
  await workspace.push(pushed.path);

  const plain = await all.finish(diff());
  assert.equal(plain.status, 0, plain.stderr.toString());
  assert.match(plain.stderr.toString(), /3 changes are not in the patch: a-fifo, only-a-directory, same/);
  const copy = await applied(plain.stdout);
  const inside = await treeInside(workspace);
  assert.deepEqual(await treeOf(copy), inside);
  assert.ok(inside.has("pushed") && inside.has(ODD.toString("latin1")));

  const told = await all.ask<Diff>(diff());
  assert.equal(
    Buffer.from(told.patch, told.patch_encoding === "utf-8" ? "utf8" : "base64").toString("latin1"),
    plain.stdout.toString("latin1"),
  );
  assert.deepEqual(
    [told.summary.total, told.summary.not_in_patch, told.summary.type_changed],
    [told.entries.length, 3, 3],
  );
  const byPath = new Map(told.entries.map((entry) => [entry.path_base64 ?? entry.path, entry]));
  assert.deepEqual(byPath.get("edited")?.insertions, 1);
  assert.deepEqual(byPath.get("edited")?.deletions, 11);
  assert.match(byPath.get("edited")?.text_patch ?? "", /^diff --git a\/edited b\/edited\n.*\+line fifty\n/s);
  const statuses = [
    "gone",
    "dir",
    "to-link",
    "to-directory",
    "pushed",
    "binary",
    "renamed/to",
    "renamed/from",
    ODD.toString("base64"),
  ];
  assert.deepEqual(
    statuses.map((path) => `${byPath.get(path)?.status} ${byPath.get(path)?.artifact_type}`),
    [
      "deleted file",
      "type_changed file",
      "type_changed symlink",
      "type_changed directory",
      "added file",
      "modified file",
      "added file",
      "deleted file",
      "modified file",
    ],
  );
  assert.ok(!told.entries.some(({ path }) => path.startsWith(".git/")));

  const bySdk = await pyro.workspace(workspace.id).diff();
  assert.deepEqual(
    [bySdk.patch, bySdk.summary.total, bySdk.entries.length],
    [told.patch, told.summary.total, told.entries.length],
  );
  const written = await pyro.workspace(workspace.id).diff({ outputPath: join(ground.path, "sdk.patch") });
  assert.equal(written.patch, "");
  assert.equal(sha256(await readFile(join(ground.path, "sdk.patch"))), sha256(plain.stdout));

  const byTool = await tool("workspace_diff", {});
  assert.equal((byTool.summary as Json).total, told.summary.total);
  assert.deepEqual([byTool.patch, byTool.patch_truncated, byTool.output_path], ["", false, null]);
  const one = await tool("workspace_diff", { paths: ["edited"] });
  assert.match(one.patch as string, /\+line fifty\n/);
  const toFile = await tool("workspace_diff", { output_path: ".pyro/out/my.patch" });
  assert.equal(sha256(await readFile(toFile.output_path as string)), sha256(plain.stdout));
  assert.equal(await toolFails("workspace_diff", { output_path: ".pyro/out/my.patch" }), "OUTPUT_EXISTS");
  assert.equal(await toolFails("workspace_diff", { output_path: "../outside.patch" }), "HOST_PATH_FORBIDDEN");
  assert.equal(await toolFails("workspace_diff", { output_path: "/tmp/outside.patch" }), "HOST_PATH_FORBIDDEN");

  const shown = await all.finish(diff("--stat"));
  assert.match(shown.stdout.toString(), / edited +\| +12 \+-+\n/);
  assert.match(shown.stdout.toString(), / \d+ files changed, \d+ insertions\(\+\), \d+ deletions\(-\)\n$/);
});

test("a part of it by its path, to a file that is not there yet, and what is refused", async () => {
  const told = await all.ask<Diff>(diff("--path", "new", "--path", "/workspace/script"));
  assert.deepEqual(
    told.entries.map(({ path }) => path),
    ["new/deep/file of mine", "script"],
  );
  assert.deepEqual((await all.ask<Diff>(diff("--path", "many"))).entries, []);
  const own = await all.ask<Diff>(diff("--path", ".git"));
  assert.ok(own.entries.length > 0 && own.entries.every(({ in_patch }) => !in_patch));
  await all.refused(diff("--path", "never-there"), "FILE_NOT_FOUND");
  await all.refused(diff("--path", "../etc"), "PATH_OUTSIDE");
  await all.refused(["diff", "no-such-workspace"], "WORKSPACE_NOT_FOUND");
  const file = join(ground.path, "out.patch");
  const plain = await all.finish(diff("--output", file));
  assert.deepEqual([plain.status, plain.stdout.toString()], [0, ""]);
  await applied(await readFile(file));
  await all.refused(diff("--output", file), "OUTPUT_EXISTS");
  await all.refused(diff("--output", join(ground.path, "no", "where")), "HOST_IO_FAILED");
  await assert.rejects(
    pyro.diffWorkspace({ workspaceId: workspace.id, outputPath: file }),
    (thrown) => thrown instanceof PyroError && thrown.code === "OUTPUT_EXISTS",
  );
  // One that grew beyond what may be brought out leaves nothing.
  await workspace.sh("head -c 3000000 /dev/urandom > noise");
  await all.refused(diff("--max-transfer-mib", "1", "--output", join(ground.path, "large.patch")), "LIMIT_EXCEEDED");
  assert.deepEqual(
    (await readdir(ground.path)).filter((name) => name.includes("large")),
    [],
  );
  await workspace.sh("rm noise");
});

test("the guest cannot change what it is compared with, nor lead it elsewhere", async () => {
  const before = await all.ask<Diff>(diff("--stat"));
  const tried = await workspace.exec(["dd", "if=/dev/zero", "of=/dev/vdd", "bs=4096", "count=16", "conv=fsync"]);
  assert.notEqual(tried.status, 0, "the baseline could be written to");
  await workspace.sh(
    "blockdev --setrw /dev/vdd 2> /dev/null; dd if=/dev/zero of=/dev/vdd bs=4096 count=16 conv=fsync 2> /dev/null; rm -f /dev/vdd; true",
  );
  assert.deepEqual(await all.ask<Diff>(diff("--stat")), before);
  assert.equal(await workspace.sh("grep -c vdd /proc/self/mountinfo || true"), "0\n");
  // A link in the place of the whole is no workspace: all of it is deleted, and nothing else is shown.
  await workspace.sh("mv /workspace /elsewhere && ln -s /etc /workspace");
  const gone = await all.finish(["diff", workspace.id, "--json", "--stat"]);
  const told = JSON.parse(gone.stdout.toString()) as Diff;
  assert.ok(
    told.entries.every(({ status }) => status === "deleted"),
    JSON.stringify(told.entries.slice(0, 3)),
  );
  await workspace.sh("rm /workspace && mv /elsewhere /workspace");
  assert.deepEqual(await all.ask<Diff>(diff("--stat")), before);
});

test("a workspace without a seed is compared with nothing", async () => {
  await using empty = await all.create();
  assert.equal((await all.ask<Diff>(["diff", empty.id])).changed, false);
  await empty.sh("mkdir a; echo x > a/b; ln -s b a/l");
  const told = await all.ask<Diff>(["diff", empty.id]);
  assert.deepEqual(
    told.entries.map(({ path, status }) => `${path} ${status}`),
    ["a/b added", "a/l added"],
  );
  assert.equal(told.summary.not_in_patch, 0);
});

test("one that was stopped, and one whose daemon and microVM were lost, are compared as before", {
  timeout: 300_000,
}, async () => {
  await using home = await ownHome({ templates: true, poolSize: 1 });
  const own = new Workspaces(home.env);
  await using small = await scratch();
  await writeFile(join(small.path, "a"), "1\n");
  await writeFile(join(small.path, "b"), "1\n");
  // The second comes out of the pool.
  for (const turn of [1, 2]) {
    await using one = await own.create(["--seed-path", small.path, "--ttl-seconds", "3"]);
    await one.sh("echo 2 > a; sync");
    const want = (await own.ask<Diff>(["diff", one.id])).patch;
    assert.match(want, /\+2\n/);
    if (turn === 1) {
      await one.untilState("stopped");
      assert.equal((await own.ask<Diff>(["diff", one.id])).patch, want);
    } else {
      process.kill(await home.pid(), "SIGKILL");
      assert.equal((await own.ask<Diff>(["diff", one.id])).patch, want);
      for (const pid of await home.processes(VMM)) process.kill(pid, "SIGKILL");
      await one.untilState("stopped");
      assert.equal((await own.ask<Diff>(["diff", one.id])).patch, want);
    }
  }
});

test("one that somebody stopped is compared and taken from without being started, seeded or not", {
  timeout: 300_000,
}, async () => {
  await using small = await scratch();
  await mkdir(join(small.path, "d"));
  await writeFile(join(small.path, "d", "a"), "1\n");
  await writeFile(join(small.path, "b"), "1\n");
  for (const seed of [["--seed-path", small.path], []]) {
    await using one = await all.create(seed);
    await one.sh("mkdir -p d; echo 2 > d/a; rm -f b; ln -s d/a link; chmod 750 d");
    const want = (await all.ask<Diff>(["diff", one.id])).patch;
    assert.match(want, /\+2\n/);
    await all.ask(["stop", one.id]);
    const told = await all.ask<Diff>(["diff", one.id]);
    assert.equal(told.patch, want);
    const output = join(small.path, `out-${seed.length}`);
    await all.ask(["export", one.id, "d", "--output", output]);
    assert.equal(await readFile(join(output, "a"), "utf8"), "2\n");
    assert.equal((await stat(output)).mode & 0o777, 0o750);
    assert.equal((await one.status()).state, "stopped");
    await all.ask(["reset", one.id]);
    assert.deepEqual([(await all.ask<Diff>(["diff", one.id])).changed, (await one.status()).state], [false, "stopped"]);
    await all.ask(["start", one.id]);
    assert.equal((await all.ask<Diff>(["diff", one.id])).changed, false);
  }
});
