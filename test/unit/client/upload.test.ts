// An upload over the wire: as fast as the daemon takes it, again from its beginning when a connection breaks, ended by
// whichever side has something to say.
import assert from "node:assert/strict";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Source } from "../../../src/client/source/source.ts";
import { openStream } from "../../../src/client/stream.ts";
import { withUpload } from "../../../src/client/upload.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { REQUEST_ID_PATTERN, WORKSPACE_ID_PATTERN } from "../../../src/wire/ids.ts";
import { type Frame, type RequestHead, ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { Conversation, listen, temporaryHome } from "./fake-daemon.ts";

const PUSH = { workspace_id: "w", source_path: "/x" };
const PIECE = 100_000;

interface Made extends Source {
  readonly begun: number;
  readonly handedOut: number;
  readonly left: number;
}

/** A source of numbered pieces, endless unless told, that counts what becomes of it. */
function sourceOf(pieces = Number.POSITIVE_INFINITY, failure?: unknown): Made {
  const counts = { begun: 0, handedOut: 0, left: 0 };
  const source = {
    mode: "directory" as const,
    path: "/x",
    async *bytes(signal: AbortSignal) {
      counts.begun++;
      try {
        for (let piece = 0; piece < pieces; piece++) {
          signal.throwIfAborted();
          counts.handedOut++;
          yield Buffer.alloc(PIECE, piece % 251);
          await sleep(0);
        }
        if (failure !== undefined) throw failure;
      } finally {
        counts.left++;
      }
    },
    end: () => ({ mode: "directory" as const, skipped: [{ path: "s", reason: "a socket" }], skipped_count: 1 }),
  };
  return Object.defineProperties(source, {
    begun: { get: () => counts.begun },
    handedOut: { get: () => counts.handedOut },
    left: { get: () => counts.left },
  }) as unknown as Made;
}

/** Reads an upload to its end: the bytes, and what UploadEnd says. */
async function takeAll(talk: Conversation): Promise<{ bytes: Buffer; end: unknown }> {
  const chunks: Uint8Array[] = [];
  for (;;) {
    const frame = await talk.next();
    assert.ok(frame, "the upload ends with its last frame");
    if (frame.type === ToDaemon.UploadEnd) {
      return { bytes: Buffer.concat(chunks), end: JSON.parse(Buffer.from(frame.payload).toString()) };
    }
    assert.equal(frame.type, ToDaemon.Stdin);
    chunks.push(frame.payload);
  }
}

function expected(pieces: number): Buffer {
  return Buffer.concat(Array.from({ length: pieces }, (_, piece) => Buffer.alloc(PIECE, piece % 251)));
}

test("a push carries the archive and what was skipped; a workspace's id is the client's", async () => {
  await using home = await temporaryHome();
  const heads: RequestHead[] = [];
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    heads.push(talk.head);
    const { bytes, end } = await takeAll(talk);
    assert.ok(bytes.equals(expected(30)));
    talk.finish({ end });
  });
  const push = openStream(home.where, "workspace.sync_push", PUSH, { upload: sourceOf(30) });
  assert.equal(push.id, undefined);
  assert.deepEqual(await push.result, {
    end: { mode: "directory", skipped: [{ path: "s", reason: "a socket" }], skipped_count: 1 },
  });
  const create = openStream(home.where, "workspace.create", {}, { upload: sourceOf(30) });
  assert.match(create.id ?? "", WORKSPACE_ID_PATTERN);
  await create.result;
  assert.deepEqual(heads, [
    { input: PUSH, upload: true, attached: true, stdin_closed: true },
    { input: {}, request_id: create.id, upload: true, attached: true, stdin_closed: true },
  ]);
});

test("a daemon that takes nothing is sent no more than the connection holds", async () => {
  await using home = await temporaryHome();
  const gate = Promise.withResolvers<void>();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    await gate.promise;
    await takeAll(talk);
    talk.finish({});
  });
  const source = sourceOf(200);
  const stream = openStream(home.where, "workspace.sync_push", PUSH, { upload: source });
  await sleep(400);
  const held = source.handedOut;
  assert.ok(held > 0 && held < 50, `${held} pieces were taken`);
  await sleep(100);
  assert.equal(source.handedOut, held);
  gate.resolve();
  await stream.result;
  assert.equal(source.handedOut, 200);
});

test("a broken connection has all of it again, under the same id, and three are enough", async () => {
  await using home = await temporaryHome();
  const ids: unknown[] = [];
  let breaks = 1;
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    ids.push(talk.head.request_id);
    if (ids.length <= breaks) {
      for (let frames = 0; frames < 5; frames++) await talk.next();
      return talk.drop();
    }
    assert.ok((await takeAll(talk)).bytes.equals(expected(40)));
    talk.finish({});
  });
  const source = sourceOf(40);
  const stream = openStream(home.where, "workspace.create", {}, { upload: source });
  await stream.result;
  assert.deepEqual(ids, [stream.id, stream.id]);
  assert.deepEqual([source.begun, source.left], [2, 2]);
  breaks = 100;
  ids.length = 0;
  const endless = sourceOf();
  await assert.rejects(
    openStream(home.where, "workspace.sync_push", PUSH, { upload: endless }).result,
    (thrown) => thrown instanceof PyroError && thrown.code === "DAEMON_UNREACHABLE",
  );
  assert.equal(ids.length, 3);
  assert.deepEqual([endless.begun, endless.left], [3, 3]);
});

test("an error of the source cancels the call and is what it rejects with", async () => {
  await using home = await temporaryHome();
  const controls: unknown[] = [];
  let connections = 0;
  await using _fake = await listen(home.where, async (request, response) => {
    connections++;
    const talk = await Conversation.open(request, response);
    for (;;) {
      const frame = await talk.next();
      assert.notEqual(frame?.type, ToDaemon.UploadEnd);
      if (frame?.type !== ToDaemon.Control) continue;
      controls.push(JSON.parse(Buffer.from(frame.payload).toString()));
      talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled.", hint: "-", retryable: true, details: {} });
      return;
    }
  });
  const failure = new PyroError("SOURCE_UNREADABLE", "Gone bad.");
  const stream = openStream(home.where, "workspace.sync_push", PUSH, { upload: sourceOf(10, failure) });
  await assert.rejects(stream.result, (thrown) => thrown === failure);
  assert.deepEqual(controls, [{ type: "cancel" }]);
  assert.equal(connections, 1);
});

test("the daemon's answer ends the sending, however much there still was", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    for (let frames = 0; frames < 3; frames++) await talk.next();
    talk.json(ToClient.Error, { code: "PATH_OUTSIDE", message: "No.", hint: "-", retryable: false, details: {} });
  });
  const source = sourceOf();
  await assert.rejects(
    openStream(home.where, "workspace.sync_push", PUSH, { upload: source }).result,
    (thrown) => thrown instanceof PyroError && thrown.code === "PATH_OUTSIDE",
  );
  assert.deepEqual([source.begun, source.left], [1, 1]);
});

test("an abort while a daemon takes nothing is over in time, and ends what made the bytes", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    await Conversation.open(request, response);
    await new Promise(() => {});
  });
  const abort = new AbortController();
  const reason = new Error("enough");
  const source = sourceOf();
  const stream = openStream(home.where, "workspace.create", {}, { upload: source, signal: abort.signal });
  setTimeout(() => abort.abort(reason), 200);
  const began = Date.now();
  await assert.rejects(stream.result, (thrown) => thrown === reason);
  assert.ok(Date.now() - began < 7000);
  assert.equal(source.left, 1);
});

test("an exec has a name of its own, and is taken up under it", async () => {
  await using home = await temporaryHome();
  const heads: RequestHead[] = [];
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    heads.push(talk.head);
    if (heads.length === 1) {
      talk.json(ToClient.Event, { type: "started", workspace_id: "ws_x", process_id: "proc_1" });
      talk.output("stdout", 3, "abc");
      setTimeout(() => talk.drop(), 50);
      return;
    }
    talk.finish({});
  });
  const exec = openStream(home.where, "workspace.exec", { workspace_id: "w", command: ["true"] });
  await exec.result;
  assert.match(exec.id ?? "", REQUEST_ID_PATTERN);
  assert.deepEqual(
    heads.map(({ request_id, resume, upload }) => ({ request_id, resume, upload })),
    [
      { request_id: exec.id, resume: undefined, upload: undefined },
      { request_id: exec.id, resume: { cursor: "3", stdin_offset: 0 }, upload: undefined },
    ],
  );
});

test("a call's path becomes absolute and is opened with what the input and the row say", async () => {
  await using home = await temporaryHome();
  const cwd = home.directory;
  await mkdir(join(cwd, "d"));
  await writeFile(join(cwd, "d", "keep"), "1");
  await writeFile(join(cwd, "d", "drop.log"), "2");
  await symlink("d", join(cwd, "link"));
  const names = async (source: Source | undefined) => {
    assert.ok(source);
    const chunks: Uint8Array[] = [];
    for await (const chunk of source.bytes(AbortSignal.timeout(10_000))) chunks.push(chunk);
    const all = Buffer.concat(chunks).toString("latin1");
    return ["keep", "drop.log"].filter((name) => all.includes(name));
  };
  const push = await withUpload("workspace.sync_push", { ...PUSH, source_path: "d/" }, { cwd });
  assert.equal(push.input.source_path, join(cwd, "d"));
  assert.deepEqual(await names(push.upload), ["keep", "drop.log"]);
  const seed = await withUpload("workspace.create", { seed_path: "link", exclude: ["*.log"] }, { cwd });
  assert.deepEqual([seed.input.seed_path, seed.upload?.path], [join(cwd, "link"), join(cwd, "link")]);
  assert.deepEqual(await names(seed.upload), ["keep"]);
  for (const [operation, input] of [
    ["workspace.create", {}],
    ["workspace.create", { seed_path: "" }],
    ["workspace.status", { workspace_id: "d" }],
  ] as const) {
    assert.deepEqual(await withUpload(operation, input, { cwd }), { input });
  }
  const over = withUpload("workspace.create", { seed_path: "d", max_entries: 1 }, { cwd });
  await assert.rejects(over, (thrown) => {
    assert.ok(thrown instanceof PyroError && thrown.code === "LIMIT_EXCEEDED");
    assert.match(thrown.hint, /--max-entries/);
    return true;
  });
  for (const input of [{ seed_path: "d", exclude: "x" }, { seed_path: "d", max_entries: "9" }, { seed_path: "d\0" }]) {
    await assert.rejects(
      withUpload("workspace.create", input, { cwd }),
      (thrown) => thrown instanceof PyroError && thrown.code === "INVALID_INPUT",
    );
  }
});

test("who decides on paths is asked before a path is looked at, and what it returns is read", async () => {
  await using home = await temporaryHome();
  const cwd = home.directory;
  await writeFile(join(cwd, "real"), "real content");
  await writeFile(join(cwd, "named"), "other");
  const asked: string[] = [];
  const allow = async (path: string) => {
    asked.push(path);
    if (path.endsWith("missing")) throw new PyroError("HOST_PATH_FORBIDDEN", "No.");
    return join(cwd, "real");
  };
  await assert.rejects(withUpload("workspace.create", { seed_path: "missing" }, { cwd, allow }), /No\./);
  const { upload } = await withUpload("workspace.create", { seed_path: "named" }, { cwd, allow });
  assert.ok(upload);
  const chunks: Uint8Array[] = [];
  for await (const chunk of upload.bytes(AbortSignal.timeout(10_000))) chunks.push(chunk);
  const bytes = Buffer.concat(chunks);
  assert.ok(bytes.includes("\0named\0") && !bytes.includes("\0real\0") && !bytes.includes("other"));
  assert.ok(bytes.includes(await readFile(join(cwd, "real"))));
  assert.deepEqual(asked, [join(cwd, "missing"), join(cwd, "named")]);
});

test("a refusal that was lost because more was being sent is heard on the next connection", async () => {
  await using home = await temporaryHome();
  let connections = 0;
  let sent = 0;
  await using _fake = await listen(home.where, async (request, response) => {
    connections++;
    const talk = await Conversation.open(request, response);
    if (connections === 1) {
      // As when a daemon that has answered closes what is still being written to.
      await talk.next();
      return talk.drop();
    }
    const count = (frame: Frame | undefined) => {
      if (frame?.type === ToDaemon.Stdin) sent++;
    };
    talk.next().then(count, () => {});
    await sleep(50);
    talk.json(ToClient.Error, { code: "PATH_OUTSIDE", message: "Outside." });
  });
  const stream = openStream(home.where, "workspace.sync_push", PUSH, { upload: sourceOf() });
  await assert.rejects(stream.result, (thrown) => thrown instanceof PyroError && thrown.code === "PATH_OUTSIDE");
  assert.deepEqual([connections, sent], [2, 0]);
});
