// What a guest says of changes, and the archives it makes, are looked at before they are believed. The guest is the test's: it
// lies, goes on for ever, and says nothing.
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { Redactor } from "../../../../src/engine/secrets/redactor.ts";
import { type ChangeEntry, compareChanges } from "../../../../src/engine/workspace/changes.ts";
import { exportArchive } from "../../../../src/engine/workspace/export.ts";
import type { OutgoingGuest } from "../../../../src/engine/workspace/outgoing-pieces.ts";
import { RedactedChanges } from "../../../../src/engine/workspace/redacted-changes.ts";
import type { ErrorCode } from "../../../../src/errors/codes.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import {
  ChangeStatus,
  ReadChangesResponseSchema,
  ReadExportResponseSchema,
} from "../../../../src/gen/pyro/guest/v1/changes_pb.js";
import { FileRefusalSchema, FileType } from "../../../../src/gen/pyro/guest/v1/files_pb.js";
import type { GuestCalls } from "../../../../src/guest/client.ts";

const bytes = (text: string) => Buffer.from(text);
type Answers = Partial<Record<keyof GuestCalls, (request: never) => unknown>>;

function guestThat(answers: Answers) {
  const asked: string[] = [];
  const calls = new Proxy({} as GuestCalls, {
    get: (_, name: keyof GuestCalls) => async (request: never) => {
      asked.push(name);
      return await (answers[name]?.(request) ?? {});
    },
  });
  const guest: OutgoingGuest = {
    call: async (method, { signal, timeoutMs }) => {
      const late = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])]);
      late.throwIfAborted();
      const aborted = new Promise<never>((_, reject) => {
        late.addEventListener("abort", () => reject(late.reason), { once: true });
      });
      return await Promise.race([method(calls, { signal: late }), aborted]);
    },
  };
  return { guest, asked };
}

const change = (more: object = {}) => ({
  event: {
    case: "change" as const,
    value: { path: bytes("a"), status: ChangeStatus.MODIFIED, type: FileType.FILE, ...more },
  },
});
const patch = (data: Uint8Array) => ({ event: { case: "patch" as const, value: data } });

/** Pieces in their order, and then the end. */
const inOrder = (pieces: readonly object[]) => ({
  readChanges: ({ piece }: { piece: bigint }) =>
    create(ReadChangesResponseSchema, pieces[Number(piece)] ?? { events: [], end: true }),
});

async function compare(answers: Answers, more: { stat?: boolean; signal?: AbortSignal } = {}) {
  const { guest, asked } = guestThat(answers);
  const told: ChangeEntry[] = [];
  const patched: Uint8Array[] = [];
  const request = { baseline: { disk: true }, paths: [], stat: more.stat ?? false };
  const sink = {
    change: async (entry: ChangeEntry) => void told.push(entry),
    patch: async (data: Uint8Array) => void patched.push(data),
  };
  const signal = more.signal ?? new AbortController().signal;
  const summary = await compareChanges(guest, request, { maxBytes: 1000, maxChanges: 20_000 }, sink, signal);
  return { summary, told, asked, patch: Buffer.concat(patched).toString() };
}

async function fails(promise: Promise<unknown>, code: ErrorCode): Promise<PyroError> {
  const thrown = await promise.then(
    () => assert.fail("it succeeded"),
    (error: unknown) => error,
  );
  assert.ok(thrown instanceof PyroError, String(thrown));
  assert.equal(thrown.code, code, thrown.message);
  return thrown;
}

test("changes come in order, with their patches, and are counted here", async () => {
  const odd = Buffer.from([0xff, 0x0a]);
  const {
    summary,
    told,
    patch: all,
    asked,
  } = await compare(
    inOrder([
      { events: [change({ text: true, insertions: 2n, patched: true }), patch(bytes("one"))] },
      { events: [patch(bytes("two")), change({ path: odd, status: ChangeStatus.ADDED, type: FileType.OTHER })] },
    ]) as Answers,
  );
  assert.equal(all, "onetwo");
  assert.deepEqual(summary, {
    total: 2,
    added: 1,
    modified: 1,
    deleted: 0,
    type_changed: 0,
    text_patched: 1,
    non_text: 1,
    not_in_patch: 1,
  });
  assert.deepEqual([told[0]?.path, told[0]?.insertions, told[1]?.path_base64], ["a", 2, odd.toString("base64")]);
  assert.ok(asked.includes("dropOutgoing"), asked.join(" "));
});

test("changes that cannot be are not believed", async () => {
  const lies: object[] = [
    { events: [] },
    { events: [{ event: { case: undefined } }] },
    { events: [patch(bytes("a patch of nothing"))] },
    { events: [change(), patch(new Uint8Array())] },
    { events: [change(), patch(new Uint8Array((1 << 20) + 1))] },
    ...["", "../a", "/etc/passwd", "a/../../b", "a\0b", "./a", "a//b"].map((path) => ({
      events: [change({ path: bytes(path) })],
    })),
    { events: [change({ path: Buffer.alloc(1 << 18, "x") })] },
    { events: [change({ status: 99 })] },
    { events: [change({ status: 0 })] },
    { events: [change({ type: 0 })] },
    { events: [change({ insertions: 2n ** 63n })] },
    { events: [change({ newSize: 2n ** 60n })] },
  ];
  for (const lie of lies) await fails(compare(inOrder([lie]) as Answers), "GUEST_UNRESPONSIVE");
  await fails(
    compare(inOrder([{ events: [change(), patch(bytes("x"))] }]) as Answers, { stat: true }),
    "GUEST_UNRESPONSIVE",
  );
});

test("a guest that goes on for ever is ended by a bound", async () => {
  const patches = {
    readChanges: () => create(ReadChangesResponseSchema, { events: [change(), patch(bytes("x".repeat(100)))] }),
  };
  await fails(compare(patches), "LIMIT_EXCEEDED");
  const many = create(ReadChangesResponseSchema, { events: Array.from({ length: 10_000 }, () => change()) });
  let pieces = 0;
  const changes = {
    readChanges: () => {
      pieces++;
      return many;
    },
  };
  await fails(compare(changes), "GUEST_UNRESPONSIVE");
  assert.ok(pieces <= 3, String(pieces));
});

test("one that says nothing is left when its caller goes, and is told to drop it", async () => {
  const silent = { readChanges: () => new Promise(() => {}) };
  const gone = new AbortController();
  const reason = new Error("gone");
  setTimeout(() => gone.abort(reason), 50);
  const { guest, asked } = guestThat(silent);
  const request = { baseline: { disk: false }, paths: [], stat: false };
  const sink = { change: async () => {}, patch: async () => {} };
  await assert.rejects(compareChanges(guest, request, { maxBytes: 1 }, sink, gone.signal));
  assert.ok(asked.includes("dropOutgoing"));
});

test("refusals are errors with codes, in the guest's words", async () => {
  const refusals: readonly (readonly [string, ErrorCode])[] = [
    ["missing", "FILE_NOT_FOUND"],
    ["limit", "LIMIT_EXCEEDED"],
    ["baseline", "BASELINE_MISSING"],
    ["kind", "FILE_WRONG_KIND"],
    ["nonsense", "GUEST_UNRESPONSIVE"],
  ];
  for (const [kind, code] of refusals) {
    const refuse = () => {
      throw new ConnectError("no", Code.FailedPrecondition, undefined, [
        { desc: FileRefusalSchema, value: { kind, why: "because \u001b[31m" } },
      ]);
    };
    for (const answers of [{ beginChanges: refuse }, { readChanges: refuse }]) {
      const error = await fails(compare(answers), code);
      assert.ok(!error.message.includes("\u001b"));
    }
  }
});

test("a sink that fails ends it", async () => {
  const { guest, asked } = guestThat(inOrder([{ events: [change()] }, { events: [change()] }]) as Answers);
  const full = new Error("full");
  const sink = { change: () => Promise.reject(full), patch: async () => {} };
  const request = { baseline: { disk: true }, paths: [], stat: false };
  const ended = compareChanges(guest, request, { maxBytes: 1 }, sink, new AbortController().signal);
  await assert.rejects(ended, (thrown) => thrown === full);
  assert.ok(asked.includes("dropOutgoing"));
});

test("the values of secrets are replaced in patches, each file's for itself", async () => {
  const redactor = new Redactor([{ name: "TOKEN", value: bytes("s3cr3t-value-of-some-length") }]);
  const parts: string[] = [];
  const sink = {
    change: async () => void parts.push("|"),
    patch: async (data: Uint8Array) => void parts.push(Buffer.from(data).toString()),
  };
  const shown = new RedactedChanges(sink, redactor);
  const entry = {} as ChangeEntry;
  await shown.change(entry);
  await shown.patch(bytes("+key=s3cr3t-val"));
  await shown.patch(bytes("ue-of-some-length\n"));
  await shown.change(entry);
  await shown.patch(bytes("+nothing\n"));
  await shown.end();
  assert.equal(parts.join(""), "|+key=[redacted:TOKEN]\n|+nothing\n");
  assert.equal(shown.redacted, true);
});

async function bring(read: (piece: bigint) => object, limits = { maxBytes: 1000, maxEntries: 2 }) {
  const { guest } = guestThat({
    readExport: (({ piece }: { piece: bigint }) => create(ReadExportResponseSchema, read(piece))) as never,
  });
  const parts: Uint8Array[] = [];
  const sink = async (data: Uint8Array) => void parts.push(data);
  const told = await exportArchive(guest, { path: bytes("a") }, limits, sink, new AbortController().signal);
  return { told, archive: Buffer.concat(parts).toString() };
}

test("an archive is passed on, and bounded", async () => {
  const end = { end: true, type: FileType.FILE, entryCount: 1n, bytesWritten: 4n };
  const { told, archive } = await bring((piece) => (piece < 2n ? { data: bytes("ab") } : end));
  assert.deepEqual([archive, told.artifact_type, told.entry_count, told.bytes_written], ["abab", "file", 1, 4]);
  await fails(
    bring(() => ({ data: new Uint8Array(1 << 15) })),
    "LIMIT_EXCEEDED",
  );
  for (const lie of [
    { data: new Uint8Array() },
    { ...end, type: 0 },
    { ...end, entryCount: 3n },
    { ...end, bytesWritten: 1001n },
    { ...end, skipped: [{ path: bytes("../a"), reason: "x" }] },
    { ...end, skippedCount: 2n ** 63n },
  ]) {
    await fails(
      bring(() => lie),
      "GUEST_UNRESPONSIVE",
    );
  }
});
