// What the SDK sends of this host: a path as the caller's directory has it, and a source that cannot be read.
import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import { join, relative } from "node:path";
import { test } from "node:test";
import { PyroError } from "../../../src/errors/error.ts";
import { Pyro } from "../../../src/sdk/index.ts";
import { ToDaemon } from "../../../src/wire/protocol.ts";
import { type Conversation, temporaryHome } from "../client/fake-daemon.ts";
import { answerRows, type Json, workspaceRecord } from "../client/fake-rows.ts";

test("a seed and a push send what their paths name; a source that is not there starts nothing", async () => {
  await using home = await temporaryHome();
  const tree = join(home.directory, "tree");
  await mkdir(tree);
  await writeFile(join(tree, "file"), "content of the file");
  const sent: { path: unknown; bytes: Buffer; end: Json }[] = [];
  const receive = async (path: unknown, talk: Conversation) => {
    const chunks: Uint8Array[] = [];
    for (;;) {
      const frame = await talk.next();
      assert.ok(frame);
      if (frame.type === ToDaemon.Stdin) chunks.push(frame.payload);
      if (frame.type !== ToDaemon.UploadEnd) continue;
      sent.push({ path, bytes: Buffer.concat(chunks), end: JSON.parse(Buffer.from(frame.payload).toString()) as Json });
      return;
    }
  };
  await using fake = await answerRows(home, {
    "workspace.create": async ({ seed_path }, talk) => {
      await receive(seed_path, talk);
      talk.finish(workspaceRecord(talk.head.request_id ?? ""));
    },
    "workspace.sync_push": async ({ workspace_id, source_path, destination }, talk) => {
      await receive(source_path, talk);
      const counts = { entry_count: 1, bytes_written: 7, skipped: [{ path: "s", reason: "socket" }], skipped_count: 1 };
      talk.finish({ workspace_id, mode: "file", source_path, destination, ...counts });
    },
  });
  const pyro = new Pyro({ home: home.directory });
  const ws = await pyro.createWorkspace({ seedPath: relative(process.cwd(), tree) });
  const pushed = await ws.syncPush(join(tree, "file"));
  assert.deepEqual([pushed.entryCount, pushed.destination, pushed.skipped[0]?.reason], [1, "/workspace", "socket"]);
  await ws.syncPush({ sourcePath: join(tree, "file"), destination: "docs" });
  assert.equal(fake.asked.at(-1)?.input.destination, "docs");
  assert.deepEqual(
    sent.map(({ path, bytes, end }) => [path, bytes.includes("content of the file"), end.mode]),
    [
      [tree, true, "directory"],
      [join(tree, "file"), true, "file"],
      [join(tree, "file"), true, "file"],
    ],
  );
  const asked = fake.asked.length;
  await assert.rejects(
    pyro.createWorkspace({ seedPath: join(tree, "nothing"), ephemeral: true }),
    (thrown) => thrown instanceof PyroError && thrown.code === "SOURCE_NOT_FOUND",
  );
  assert.equal(fake.asked.length, asked);
});
