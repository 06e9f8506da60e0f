// Files and patches of a workspace in a real microVM, from all three faces: looked at, changed, refused, and kept when the
// microVM is lost.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, mkdir, rename, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro, PyroError } from "pyro-mcp";
import { pathsFor } from "../../src/engine/paths.ts";
import type { OutputOf } from "../../src/operations/table.ts";
import { PYRO, processesOf, sha256, sharedHome, VMM } from "./harness.ts";
import { scratch, type Workspace, Workspaces } from "./workspaces.ts";

type Json = Record<string, unknown>;

const all = new Workspaces();
const pyro = new Pyro();
const client = new Client({ name: "test", version: "1" });
let workspace: Workspace;

before(async () => {
  workspace = await all.create();
  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: sharedHome(), PYRO_POOL_SIZE: "0" };
  await client.connect(
    new StdioClientTransport({ command: process.execPath, args: [PYRO, "mcp", "serve"], env, stderr: "inherit" }),
  );
});

after(async () => {
  await client.close();
  await pyro.close();
  await workspace[Symbol.asyncDispose]();
});

async function tool(name: string, args: Json): Promise<Json> {
  const { isError, structuredContent, content } = await client.callTool({
    name,
    arguments: { workspace_id: workspace.id, ...args },
  });
  assert.notEqual(isError, true, JSON.stringify(content));
  const size = Buffer.byteLength(JSON.stringify({ content, structuredContent }));
  assert.ok(size <= 9000 || args.max_bytes !== undefined, `${name}: ${size} bytes`);
  return structuredContent as Json;
}

async function toolFails(name: string, args: Json): Promise<Json> {
  const result = await client.callTool({ name, arguments: { workspace_id: workspace.id, ...args } });
  assert.equal(result.isError, true, JSON.stringify(result.content));
  const [text] = result.content as { text: string }[];
  return (JSON.parse(text?.text ?? "") as { error: Json }).error;
}

const file = (verb: string, ...args: string[]) => ["file", verb, workspace.id, ...args];

test("the command writes, reads, edits and lists", async () => {
  const written = await all.ask<OutputOf<"workspace.file_write">>(
    file("write", "cli/a/notes.txt", "--text", "one\ntwo\n"),
  );
  assert.deepEqual(
    [written.path, written.created, written.size_bytes, written.mode, written.artifact_type],
    ["/workspace/cli/a/notes.txt", true, 8, "0644", "file"],
  );
  await workspace.sh("chmod 751 cli/a/notes.txt; ln -s a/notes.txt cli/link; mkfifo cli/fifo");
  const edited = await all.ask<OutputOf<"workspace.file_edit">>(
    file("edit", "/workspace/cli/link", "--old", "two", "--new", "zwei"),
  );
  assert.deepEqual([edited.replaced_count, edited.lines, edited.mode], [1, [2], "0751"]);
  assert.equal(await workspace.sh("stat -c '%a %U' cli/a/notes.txt; readlink cli/link"), "751 root\na/notes.txt\n");

  const plain = await all.finish(file("read", "cli/a/notes.txt", "--content-only"));
  assert.deepEqual([plain.stdout.toString(), plain.stderr.toString()], ["one\nzwei\n", ""]);
  const lines = await all.finish(file("read", "cli/a/notes.txt", "--lines", "2:"));
  assert.equal(lines.stdout.toString(), "zwei\n");
  assert.match(lines.stderr.toString(), /notes\.txt, 9 B, mode 0751/);

  // Bytes of any kind go in by stdin and come out as they were; what is cut says so.
  const noise = randomBytes(300_000);
  await all.finish(file("write", "cli/noise", "--file", "-"), { input: noise });
  const whole = await all.finish(file("read", "cli/noise", "--max-bytes", "1048576", "--content-only"));
  assert.equal(sha256(whole.stdout), sha256(noise));
  const cut = await all.finish(file("read", "cli/noise", "--content-only"));
  assert.deepEqual([cut.stdout.length, /--offset 65536/.test(cut.stderr.toString())], [65_536, true]);
  const next = await all.ask<OutputOf<"workspace.file_read">>(file("read", "cli/noise", "--offset", "299990"));
  assert.deepEqual(
    [next.encoding, next.content, next.next_offset, next.truncated],
    ["base64", noise.subarray(299_990).toString("base64"), null, false],
  );

  const listed: string[] = [];
  let cursor: string | null = null;
  do {
    const more: string[] = cursor === null ? [] : ["--cursor", cursor];
    const page: OutputOf<"workspace.file_list"> = await all.ask(
      file("list", "cli", "--recursive", "--limit", "2", ...more),
    );
    listed.push(
      ...page.entries.map(({ path, artifact_type, link_target }) => `${path} ${artifact_type} ${link_target}`),
    );
    cursor = page.next_cursor;
  } while (cursor !== null);
  assert.deepEqual(listed, [
    "/workspace/cli/a directory null",
    "/workspace/cli/a/notes.txt file null",
    "/workspace/cli/fifo other null",
    "/workspace/cli/link symlink a/notes.txt",
    "/workspace/cli/noise file null",
  ]);
});

test("what cannot be is refused, and changes nothing", async () => {
  await workspace.sh(
    "mkdir -p bad/dir; echo text >bad/file; mkfifo bad/fifo; ln -s /etc bad/out; ln -s ../.. bad/up; truncate -s 2G bad/huge; printf 'a\\na\\n' >bad/twice",
  );
  const before = await workspace.sh("find bad -printf '%p %y %s %T@\\n' | sort");
  const refusals: readonly (readonly [readonly string[], Parameters<Workspaces["refused"]>[1], RegExp])[] = [
    [file("read", "bad/none"), "FILE_NOT_FOUND", /no \/workspace\/bad\/none/],
    [file("read", "bad/dir"), "FILE_WRONG_KIND", /is a directory/],
    [file("write", "bad/dir", "--text", "x"), "FILE_WRONG_KIND", /is a directory/],
    [file("read", "bad/fifo"), "FILE_WRONG_KIND", /is a fifo/],
    [file("write", "bad/fifo", "--text", "x"), "FILE_WRONG_KIND", /is a fifo/],
    [file("write", "bad/file/x", "--text", "x"), "FILE_WRONG_KIND", /no directory/],
    [file("read", "../etc/passwd"), "PATH_OUTSIDE", /not below/],
    [file("read", "bad/out/passwd"), "PATH_OUTSIDE", /leads out/],
    [file("write", "bad/up/x", "--text", "x"), "PATH_OUTSIDE", /leads out/],
    [file("list", "bad/out"), "PATH_OUTSIDE", /leads out/],
    [file("read", "bad/file", "--offset", "6"), "INVALID_INPUT", /beyond the end.* 5 bytes/],
    [file("read", "bad/file", "--lines", "2:1"), "INVALID_INPUT", /lines 2:1/],
    [file("read", "bad/file", "--lines", "7:9"), "INVALID_INPUT", /has 1 lines/],
    [file("read", "bad/file", "--lines", "x"), "INVALID_INPUT", /--lines/],
    [file("read", "bad/file", "--max-bytes", "1048577"), "INVALID_INPUT", /--max-bytes/],
    [file("edit", "bad/huge", "--old", "x", "--new", "y"), "LIMIT_EXCEEDED", /2147483648 bytes/],
    [file("edit", "bad/file", "--old", "none", "--new", "y"), "TEXT_NOT_FOUND", /is not in/],
    [file("edit", "bad/file", "--old", "  text", "--new", "y"), "TEXT_NOT_FOUND", /white space alone is: line 1/],
    [file("edit", "bad/twice", "--old", "a", "--new", "y"), "TEXT_NOT_UNIQUE", /2 times: lines 1, 2/],
    [file("edit", "bad/file", "--old", "x", "--new", "x"), "INVALID_INPUT", /the same/],
    [file("list", "bad", "--cursor", "nonsense"), "CURSOR_INVALID", /no cursor|not a cursor/],
    [file("write", "bad/file"), "INVALID_INPUT", /--text or --file/],
    [file("write", "bad/file", "--file", "/nowhere/at/all"), "SOURCE_NOT_FOUND", /nowhere/],
  ];
  await Promise.all(
    refusals.map(async ([args, code, says]) =>
      assert.match((await all.refused(args, code)).message, says, args.join(" ")),
    ),
  );
  assert.equal(await workspace.sh("find bad -printf '%p %y %s %T@\\n' | sort"), before);

  // Of a huge file a part is read all the same.
  const { content, sizeBytes } = await pyro.workspace(workspace.id).file.read("bad/huge", { offset: 2 ** 31 - 3 });
  assert.deepEqual([content, sizeBytes], ["\0\0\0", 2 ** 31]);

  const outside = "diff --git a/../x b/../x\nnew file mode 100644\n--- /dev/null\n+++ b/../x\n@@ -0,0 +1 @@\n+x\n";
  await assert.rejects(pyro.applyWorkspacePatch({ workspaceId: workspace.id, patch: outside }), {
    code: "PATH_OUTSIDE",
  });
  await assert.rejects(pyro.workspace(workspace.id).file.write("big", Buffer.alloc(2 ** 24 + 1)), {
    code: "LIMIT_EXCEEDED",
  });
});

test("the SDK's handle, with bytes and pages, and edits at once of which none is lost", async () => {
  const { file, patch } = pyro.workspace(workspace.id);
  const noise = randomBytes(2 ** 24);
  assert.equal((await file.write("sdk/large", noise)).sizeBytes, noise.length);
  assert.equal(await workspace.sh("sha256sum <sdk/large"), `${sha256(noise)}  -\n`);
  const text = await file.read("sdk/large", { maxBytes: 2 ** 20, offset: 2 ** 20 });
  assert.equal(sha256(Buffer.from(text.content, "base64")), sha256(noise.subarray(2 ** 20, 2 ** 21)));

  // A character is not split: the cursor stands before it.
  await file.write("sdk/umlauts", "ä".repeat(10));
  const part = await file.read("sdk/umlauts", { maxBytes: 5 });
  assert.deepEqual([part.content, part.encoding, part.nextOffset, part.truncated], ["ää", "utf-8", 4, true]);

  for (let at = 0; at < 5; at++) await file.write(`sdk/list/${at}`, String(at));
  const names: string[] = [];
  for await (const { path } of file.list({ path: "sdk/list", limit: 2 })) names.push(path);
  assert.deepEqual(
    names,
    [0, 1, 2, 3, 4].map((at) => `/workspace/sdk/list/${at}`),
  );

  const counters = Array.from({ length: 6 }, (_, at) => `counter ${at}: `);
  await file.write("sdk/counters", counters.map((name) => `${name}0\n`).join(""));
  await Promise.all(
    counters.map(async (name, at) => {
      for (let turn = 0; turn < 5; turn++) {
        const edit = { old: `${name}${turn}\n`, new: `${name}${turn + 1}\n` };
        if (at % 2 === 0) await file.edit("sdk/counters", edit);
        else await tool("workspace_file_edit", { path: "sdk/counters", ...edit });
      }
    }),
  );
  assert.equal((await file.read("sdk/counters")).content, counters.map((name) => `${name}5\n`).join(""));

  const made = await patch.apply("--- /dev/null\n+++ b/sdk/made\n@@ -0,0 +1 @@\n+by a patch\n");
  assert.deepEqual([made.changed, made.summary.added, made.entries[0]?.path], [true, 1, "sdk/made"]);
  const refused = await patch
    .apply("--- a/sdk/made\n+++ b/sdk/made\n@@ -1 +1 @@\n-by nobody\n+x\n")
    .catch((thrown) => thrown);
  assert.ok(refused instanceof PyroError && refused.code === "PATCH_REJECTED", String(refused));
  assert.deepEqual(
    [refused.details.path, refused.details.hunk, refused.details.line, refused.details.expected, refused.details.found],
    ["sdk/made", 1, 1, ["by nobody\\n"], ["by a patch\\n"]],
  );
  assert.match(refused.message, /hunk 1 does not fit sdk\/made at line 1/i);
});

test("the tools, bounded, with cursors", async () => {
  const written = await tool("workspace_file_write", { path: "mcp/story.txt", text: "é\t\u0001line\n".repeat(4000) });
  assert.equal(written.created, true);
  let read = await tool("workspace_file_read", { path: "mcp/story.txt" });
  assert.deepEqual([read.truncated, read.encoding, read.content_lossy], [true, "utf-8", false]);
  let said = String(read.content);
  for (let turn = 0; turn < 5 && read.next_offset !== null; turn++) {
    read = await tool("workspace_file_read", { path: "mcp/story.txt", offset: read.next_offset, max_bytes: 65_536 });
    said += String(read.content);
  }
  assert.equal(said, "é\t\u0001line\n".repeat(4000));
  const lines = await tool("workspace_file_read", { path: "mcp/story.txt", lines: "3:4" });
  assert.equal(lines.content, "é\t\u0001line\n".repeat(2));
  await workspace.sh("printf 'bad \\377 byte' >mcp/bytes; mkdir mcp/many; cd mcp/many; seq 300 | xargs touch");
  const bytes = await tool("workspace_file_read", { path: "mcp/bytes" });
  assert.deepEqual([bytes.content, bytes.content_lossy], ["bad \ufffd byte", true]);
  const names: unknown[] = [];
  for (let cursor: unknown; cursor !== null; ) {
    const page = await tool("workspace_file_list", { path: "mcp/many", limit: 200, ...(cursor ? { cursor } : {}) });
    names.push(...(page.entries as Json[]).map(({ path }) => path));
    cursor = page.next_cursor;
  }
  assert.equal(new Set(names).size, 300);
  const error = await toolFails("workspace_file_edit", { path: "mcp/story.txt", old: "line", new: "x" });
  assert.deepEqual([error.code, (error.details as Json).count], ["TEXT_NOT_UNIQUE", 4000]);
  assert.equal((await toolFails("workspace_file_read", { path: "../x" })).code, "PATH_OUTSIDE");
  const damaged = await toolFails("workspace_patch_apply", { patch: "--- a/x\n+++ b/x\n@@ -1 +1 @@\n-x" });
  assert.equal(damaged.code, "PATCH_INVALID");
});

test("a patch of git's, by each face, makes what git apply makes", async () => {
  await using tree = await scratch();
  const git = (...args: string[]) =>
    execFileSync("git", ["-C", tree.path, "-c", "user.name=A", "-c", "user.email=a@example.org", ...args], {
      env: { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null" },
      maxBuffer: 2 ** 26,
    });
  const numbers = Array.from({ length: 200 }, (_, at) => `line ${at}`);
  const text = (lines: readonly string[]) => `${lines.join("\n")}\n`;
  git("init", "-q");
  await mkdir(join(tree.path, "src"));
  await writeFile(join(tree.path, "src", "moved.txt"), text(numbers));
  await writeFile(join(tree.path, "changed.txt"), text(numbers));
  await writeFile(join(tree.path, "gone.txt"), "gone\n");
  await writeFile(join(tree.path, "binary"), randomBytes(5000));
  await writeFile(join(tree.path, "run.sh"), "#!/bin/sh\n");
  git("add", "-A");
  git("commit", "-qm", "before");
  await using workspace = await all.create(["--seed-path", tree.path, "--disk-mib", "64"]);
  await rename(join(tree.path, "src", "moved.txt"), join(tree.path, "renamed.txt"));
  await writeFile(join(tree.path, "changed.txt"), text(numbers.with(50, "fifty").with(150, "a hundred and fifty")));
  await rm(join(tree.path, "gone.txt"));
  await writeFile(join(tree.path, "binary"), randomBytes(6000));
  await chmod(join(tree.path, "run.sh"), 0o755);
  await symlink("run.sh", join(tree.path, "link"));
  await writeFile(join(tree.path, "no-newline"), "none");
  git("add", "-A");
  const patch = git("diff", "--cached", "--binary", "--full-index", "-M");
  git("commit", "-qm", "after");
  const tip = git("write-tree").toString();
  const inGuest = (script: string) => workspace.sh(script);
  const stateOf = () => inGuest("git add -A && git write-tree");
  const own = { workspace_id: workspace.id };
  const back = () => inGuest("git reset -q --hard && git clean -qfd && git status --porcelain");
  const summary = { total: 7, added: 2, modified: 3, deleted: 1, renamed: 1, copied: 0, type_changed: 0 };
  const summaryOf = ({ text_patched: _, non_text: __, ...rest }: OutputOf<"workspace.patch_apply">["summary"]) => rest;

  await writeFile(join(tree.path, "..", "pyro-a.patch"), patch);
  try {
    const told = await all.ask<OutputOf<"workspace.patch_apply">>([
      "patch",
      "apply",
      workspace.id,
      "--patch-file",
      join(tree.path, "..", "pyro-a.patch"),
    ]);
    assert.deepEqual(summaryOf(told.summary), summary);
  } finally {
    await rm(join(tree.path, "..", "pyro-a.patch"));
  }
  assert.equal(await stateOf(), tip);
  assert.equal(await inGuest("ls src 2>&1 | wc -l; stat -c %a run.sh"), "1\n755\n");

  await back();
  // Lines above it have moved it.
  await inGuest("sed -i '1i one more' changed.txt");
  const handle = pyro.workspace(workspace.id);
  assert.equal((await handle.patch.apply(patch)).summary.total, 7);
  assert.equal(
    await inGuest("git diff --stat HEAD -- changed.txt | tail -1"),
    " 1 file changed, 3 insertions(+), 2 deletions(-)\n",
  );

  await back();
  const byModel = await tool("workspace_patch_apply", {
    ...own,
    patch: patch.toString("base64"),
    patch_encoding: "base64",
  });
  assert.deepEqual(summaryOf(byModel.summary as OutputOf<"workspace.patch_apply">["summary"]), summary);
  assert.equal(await stateOf(), tip);

  // Once more it does not fit, and nothing of it is done.
  const again = await toolFails("workspace_patch_apply", {
    ...own,
    patch: patch.toString("base64"),
    patch_encoding: "base64",
  });
  assert.equal(again.code, "PATCH_REJECTED");
  assert.equal(await stateOf(), tip);

  // A full disk leaves everything as it is.
  await inGuest("dd if=/dev/zero of=/root/fill bs=64k 2>/dev/null; sync; true");
  const full = await handle.file.write("full", "x".repeat(2 ** 20)).catch((thrown: unknown) => PyroError.from(thrown));
  assert.ok(full instanceof PyroError && full.code === "GUEST_DISK_FULL", JSON.stringify(full));
  const made = `--- /dev/null\n+++ b/full\n@@ -0,0 +1 @@\n+${"x".repeat(2 ** 20)}\n`;
  await assert.rejects(handle.patch.apply(made), { code: "GUEST_DISK_FULL" });
  await inGuest("rm /root/fill");
  assert.equal(await stateOf(), tip);
  assert.equal(await workspace.sh("ls -A / | grep -c pyro-transfer || true"), "0\n");
});

test("what was written is whole when the microVM is lost, and is there when it is started again", async () => {
  const { file } = pyro.workspace(workspace.id);
  await file.write("lost/old", "x".repeat(100_000));
  await workspace.sh("sync");
  await file.write("lost/old", "y".repeat(200_000));
  await file.write("lost/new", "z".repeat(200_000));
  const [pid] = await processesOf(pathsFor(process.env, process.getuid?.() ?? 0), VMM);
  assert.ok(pid !== undefined);
  process.kill(pid, "SIGKILL");
  await workspace.untilState("stopped");
  const old = await file.read("lost/old", { maxBytes: 2 ** 20 });
  assert.ok(["x".repeat(100_000), "y".repeat(200_000)].includes(old.content), `${old.sizeBytes} bytes`);
  const made = await file.read("lost/new", { maxBytes: 2 ** 20 }).catch((thrown: unknown) => PyroError.from(thrown));
  if (made instanceof PyroError) assert.equal(made.code, "FILE_NOT_FOUND");
  else assert.equal(made.content, "z".repeat(200_000));
  assert.equal(await workspace.sh("ls -A / /workspace | grep -c pyro-transfer || true"), "0\n");
});
