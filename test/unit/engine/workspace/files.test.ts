// What a guest says of files is looked at before it is believed, and what callers say before it is asked. The guest is the
// test's: it may lie.
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Secrets } from "../../../../src/engine/secrets/secrets.ts";
import { textOf } from "../../../../src/engine/workspace/file-facts.ts";
import { bytesOf, cursorOf, linesOf, parseCursor, pathOf } from "../../../../src/engine/workspace/file-input.ts";
import { fileRefusal } from "../../../../src/engine/workspace/file-refusal.ts";
import { Files } from "../../../../src/engine/workspace/files.ts";
import type { ErrorCode } from "../../../../src/errors/codes.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import {
  ApplyPatchResponseSchema,
  FileRefusalSchema,
  FileSchema,
  FileType,
  ListFilesResponseSchema,
  PatchStatus,
  ReadFileResponseSchema,
  WriteFileResponseSchema,
} from "../../../../src/gen/pyro/guest/v1/files_pb.js";
import type { GuestCalls, GuestClient } from "../../../../src/guest/client.ts";

const NEVER = new AbortController().signal;
const bytes = (text: string) => Buffer.from(text);

/** A workspace whose guest answers so, and how often it was entered and left. */
function host(answers: Partial<Record<keyof GuestCalls, (request: never) => unknown>>, secrets = Secrets.none) {
  const seen = { entered: 0, left: 0, requests: [] as Record<string, unknown>[] };
  const calls = new Proxy({} as GuestCalls, {
    get: (_, name: keyof GuestCalls) => async (request: never) => {
      seen.requests.push(request);
      const answer = answers[name];
      if (answer === undefined) throw new Error(`${name} was called`);
      return answer(request);
    },
  });
  const guest = { call: (method: (calls: GuestCalls, options: object) => unknown) => method(calls, {}) };
  const files = new Files({
    workspaceId: "ws_test",
    secrets,
    enter: async () => {
      seen.entered++;
      return { machineId: "m", guest: guest as unknown as GuestClient, env: {}, leave: () => void seen.left++ };
    },
  });
  return { files, seen };
}

const fact = (path: string | Uint8Array, more: object = {}) =>
  create(FileSchema, {
    path: typeof path === "string" ? bytes(path) : path,
    type: FileType.FILE,
    size: 3n,
    mode: 0o644,
    modifiedSeconds: 1_700_000_000n,
    ...more,
  });
const list = { workspace_id: "w", path: "d", recursive: false, limit: 2 };
const read = { workspace_id: "w", path: "f" };

async function fails(promise: Promise<unknown>, code: ErrorCode, says = /./): Promise<PyroError> {
  const thrown = await promise.then(
    () => assert.fail("it succeeded"),
    (error: unknown) => error,
  );
  assert.ok(thrown instanceof PyroError, String(thrown));
  assert.equal(thrown.code, code, thrown.message);
  assert.match(thrown.message, says);
  return thrown;
}

test("a list that cannot be true is not believed", async () => {
  const lies = [
    { files: [fact("d/a"), fact("d/b"), fact("d/c")] },
    { files: [], more: true },
    { files: [fact("../a")] },
    { files: [fact("/etc/passwd")] },
    { files: [fact("d/../../a")] },
    { files: [fact("d/a\0b")] },
    { files: [fact(Buffer.alloc(5000, "x"))] },
    { files: [fact("d/a", { type: 99 })] },
    { files: [fact("d/a", { size: 2n ** 60n })] },
    { files: [fact("d/a", { linkTarget: Buffer.alloc(5000) })] },
  ];
  for (const lie of lies) {
    const { files, seen } = host({ listFiles: () => create(ListFilesResponseSchema, lie) });
    await fails(files.list(list, NEVER), "GUEST_UNRESPONSIVE", /makes no sense/);
    assert.equal(seen.left, 1, "who was refused has left");
  }
});

test("names that are no text, times that are none, and a cursor that goes on", async () => {
  const odd = Buffer.from([0x64, 0x2f, 0xff, 0xfe]);
  const { files, seen } = host({
    listFiles: () =>
      create(ListFilesResponseSchema, {
        files: [fact("d/a", { modifiedSeconds: 2n ** 60n, mode: 0o107777 }), fact(odd)],
        more: true,
      }),
  });
  const page = await files.list(list, NEVER);
  assert.deepEqual(
    page.entries.map(({ path, path_base64, mode, mtime }) => ({ path, path_base64, mode, mtime })),
    [
      { path: "/workspace/d/a", path_base64: undefined, mode: "7777", mtime: "+275760-09-13T00:00:00.000Z" },
      {
        path: "/workspace/d/\ufffd\ufffd",
        path_base64: Buffer.concat([bytes("/workspace/"), odd]).toString("base64"),
        mode: "0644",
        mtime: "2023-11-14T22:13:20.000Z",
      },
    ],
  );
  await files.list({ ...list, cursor: page.next_cursor ?? "" }, NEVER);
  assert.deepEqual(Buffer.from(seen.requests[1]?.after as Uint8Array), odd.subarray(2));
  for (const cursor of ["f", "x", "fA A", `f${bytes("a\0b").toString("base64url")}`]) {
    await fails(files.list({ ...list, cursor }, NEVER), "CURSOR_INVALID");
  }
  assert.equal(seen.entered, 2, "who asks for nonsense starts nothing");
});

test("a read gives no more than was asked for, and whole characters", async () => {
  const answer = (content: Uint8Array, more = false) =>
    host({ readFile: () => create(ReadFileResponseSchema, { file: fact("f"), content, offset: 10n, more }) }).files;
  await fails(answer(Buffer.alloc(6)).read({ ...read, max_bytes: 5 }, NEVER), "GUEST_UNRESPONSIVE");
  const nothing = host({ readFile: () => create(ReadFileResponseSchema, {}) }).files;
  await fails(nothing.read(read, NEVER), "GUEST_UNRESPONSIVE");
  const cut = await answer(bytes("aä€😀").subarray(0, 9), true).read(read, NEVER);
  assert.deepEqual([cut.content, cut.encoding, cut.next_offset, cut.truncated], ["aä€", "utf-8", 16, true]);
  const end = await answer(bytes("aä€😀").subarray(0, 9)).read(read, NEVER);
  assert.deepEqual([end.encoding, end.next_offset, end.truncated], ["base64", null, false]);
  await fails(answer(bytes("x")).read({ ...read, offset: 1, lines: "1:2" }, NEVER), "INVALID_INPUT");
});

test("text and what is none", () => {
  const text = bytes("aä€😀");
  for (let end = 1; end <= text.length; end++) {
    const { content, encoding, bytes: taken } = textOf(text.subarray(0, end), true);
    // The first character of a part that is too small for it comes as bytes, so that reading goes on.
    assert.equal(encoding, "utf-8", String(end));
    assert.equal(Buffer.from(content).length, taken);
    assert.ok(end - taken < 4);
  }
  assert.deepEqual(textOf(bytes("€").subarray(0, 2), true), { content: "4oI=", encoding: "base64", bytes: 2 });
  assert.deepEqual(textOf(bytes(""), false), { content: "", encoding: "utf-8", bytes: 0 });
  assert.deepEqual(textOf(Buffer.from([0xff, 0x80]), true), { content: "/4A=", encoding: "base64", bytes: 2 });
  assert.deepEqual(textOf(Buffer.from([0x80, 0x80, 0x80, 0x80]), true).bytes, 4);
});

test("a change has one name, however often the link asks for it", async () => {
  const { files, seen } = host({
    writeFile: () => create(WriteFileResponseSchema, { file: fact("f"), created: true }),
  });
  const write = { workspace_id: "w", path: "f", text: "x", text_encoding: "utf-8" } as const;
  await files.write(write, NEVER);
  await files.write(write, NEVER);
  const ids = seen.requests.map(({ requestId }) => String(requestId));
  for (const id of ids) assert.match(id, /^fc_[0-9a-f]{20}$/);
  assert.equal(new Set(ids).size, 2);
  await fails(files.write({ ...write, text: "no base64", text_encoding: "base64" }, NEVER), "INVALID_INPUT");
  await fails(files.write({ ...write, text: "x".repeat(2 ** 24 + 1) }, NEVER), "LIMIT_EXCEEDED", /16777216/);
});

test("the summary of a patch counts its entries", async () => {
  const one = (path: string, status: PatchStatus, more: object = {}) => ({
    path: bytes(path),
    status,
    type: FileType.FILE,
    text: true,
    ...more,
  });
  const input = { workspace_id: "w", patch: "x", patch_encoding: "utf-8" } as const;
  const told = (files: object[]) => host({ applyPatch: () => create(ApplyPatchResponseSchema, { files }) }).files;
  const { summary, entries, changed } = await told([
    one("a", PatchStatus.ADDED),
    one("b", PatchStatus.RENAMED, { oldPath: bytes("c"), text: false }),
    one("d", PatchStatus.DELETED),
  ]).patch(input, NEVER);
  assert.deepEqual([changed, summary.total, summary.added, summary.renamed, summary.deleted], [true, 3, 1, 1, 1]);
  assert.deepEqual([summary.text_patched, summary.non_text, entries[1]?.old_path], [2, 1, "c"]);
  for (const lie of [
    [one("../a", PatchStatus.ADDED)],
    [one("a", 99 as PatchStatus)],
    [one("a", PatchStatus.ADDED, { oldPath: bytes("/x") })],
  ]) {
    await fails(told(lie).patch(input, NEVER), "GUEST_UNRESPONSIVE");
  }
});

test("the guest's refusals are bounded and shown as text", () => {
  const refusal = (told: object, code = Code.FailedPrecondition) => {
    const detail = { desc: FileRefusalSchema, value: create(FileRefusalSchema, told) };
    const error = fileRefusal(new ConnectError("said", code, undefined, [detail]));
    assert.ok(error instanceof PyroError);
    return error;
  };
  const found = refusal({ kind: "ambiguous", why: "the text is in x 3 times", lines: [1n, 2n], count: 3n });
  assert.deepEqual(
    [found.code, found.message, found.details],
    ["TEXT_NOT_UNIQUE", "The text is in x 3 times: lines 1, 2 and others.", { lines: [1, 2], count: 3 }],
  );
  const hostile = refusal({
    kind: "reject",
    why: `\u001b[2J${"x".repeat(5000)}`,
    hunk: 1,
    expected: Array.from({ length: 500 }, () => Buffer.alloc(10_000, "\u001b")),
    found: [bytes("\u0007")],
  });
  assert.ok(hostile.message.length < 4000 && !hostile.message.includes("\u001b"));
  assert.equal((hostile.details.expected as string[]).length, 20);
  assert.ok((hostile.details.expected as string[]).every((line) => line.length <= 800 && !line.includes("\u001b")));
  assert.deepEqual(hostile.details.found, ["\\x07"]);
  assert.match(refusal({ kind: "conflict", why: "it", partly: true }).message, /^Some files were changed/);
  assert.equal(refusal({ kind: "never heard of", why: "x" }).code, "GUEST_UNRESPONSIVE");
  assert.equal((fileRefusal(new ConnectError("x", Code.Unimplemented)) as PyroError).code, "WORKSPACE_STATE");
  const other = new Error("other");
  assert.equal(fileRefusal(other), other);
});

test("paths, lines and cursors", () => {
  for (const given of [".", "/workspace", "a/..", "/workspace/"]) assert.equal(pathOf(given).bytes.length, 0, given);
  assert.equal(pathOf("/workspace/a/../b//c/").absolute, "/workspace/b/c");
  for (const given of ["..", "/", "/workspaces", "a/../../etc", "/etc/passwd"]) {
    assert.throws(() => pathOf(given), { code: "PATH_OUTSIDE" }, given);
  }
  assert.throws(() => pathOf("a\0b"), { code: "INVALID_INPUT" });
  const lines = (given: string) => Object.values(linesOf(given)).map(Number);
  assert.deepEqual(
    [lines("3:7"), lines("3:"), lines(":7"), lines("3")],
    [
      [3, 7],
      [3, 0],
      [1, 7],
      [3, 3],
    ],
  );
  for (const given of ["0", "0:3", "5:4"]) assert.throws(() => linesOf(given), { code: "INVALID_INPUT" }, given);
  assert.deepEqual(bytesOf("/w==", "base64", "text"), Buffer.from([0xff]));
  assert.equal(parseCursor(undefined).length, 0);
  assert.deepEqual(Buffer.from(parseCursor(cursorOf(bytes(""), bytes("a/b")))), bytes("a/b"));
});

test("a part of a file has no part of a secret, wherever it begins and ends", async () => {
  const value = "hunter2-and-more";
  const secrets = Secrets.given([{ name: "TOKEN", value }]);
  const file = bytes(`first line\n${value}\n${"é".repeat(40)} ${Buffer.from(value).toString("base64")} end`);
  const readFile = ({ offset, maxBytes }: { offset: bigint; maxBytes: number }) => {
    const from = Number(offset);
    const content = file.subarray(from, from + maxBytes);
    return create(ReadFileResponseSchema, { file: fact("f"), content, offset, more: from + maxBytes < file.length });
  };
  const { files } = host({ readFile: readFile as never }, secrets);
  const shown = bytes(
    `first line\n[redacted:TOKEN]\n${"é".repeat(40)} [redacted:TOKEN]${Buffer.from(value).toString("base64").slice(-3)} end`,
  );
  for (let offset = 0; offset < file.length; offset++) {
    for (const max_bytes of [1, 7, 30, 1000]) {
      const read = await files.read({ workspace_id: "ws_test", path: "f", offset, max_bytes }, NEVER);
      const content = Buffer.from(read.content, read.encoding === "base64" ? "base64" : "utf8");
      assert.ok(shown.includes(content), `${offset}, ${max_bytes}: ${content}`);
      assert.equal(read.redacted, content.includes("[redacted:TOKEN]"));
      assert.ok(read.next_offset === null || (read.next_offset > offset && read.next_offset <= offset + max_bytes));
    }
  }
  const plain = await host({ readFile: readFile as never }).files.read({ workspace_id: "w", path: "f" }, NEVER);
  assert.deepEqual([plain.content, plain.redacted], [file.toString(), false]);
});
