// Who may look at a stopped workspace's disk and when, and what its guest may tell. The inspector is the test's: it may lie.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import { Turns } from "../../../../src/abort/turns.ts";
import { Secrets } from "../../../../src/engine/secrets/secrets.ts";
import { listDisk, readDisk } from "../../../../src/engine/workspace/disk-files.ts";
import type { Ledger } from "../../../../src/engine/workspace/ledger.ts";
import type { WorkspaceContext } from "../../../../src/engine/workspace/life.ts";
import { StoppedDisk } from "../../../../src/engine/workspace/stopped-disk.ts";
import type { ErrorCode } from "../../../../src/errors/codes.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import { FileSchema, FileType } from "../../../../src/gen/pyro/guest/v1/files_pb.js";
import { ListDiskResponseSchema, ReadDiskResponseSchema } from "../../../../src/gen/pyro/guest/v1/inspect_pb.js";
import type { GuestCalls } from "../../../../src/guest/client.ts";

const NEVER = new AbortController().signal;
const LIST = { workspace_id: "w", path: "/", recursive: false, limit: 2 };
const READ = { workspace_id: "w", path: "/f", max_bytes: 10 };

/** A disk whose inspectors answer so, and what became of them. */
function ground(answers: Partial<Record<keyof GuestCalls, () => unknown>> = {}) {
  const seen = { started: 0, ended: 0, dirty: [] as boolean[] };
  const calls = new Proxy({} as GuestCalls, { get: (_, name: keyof GuestCalls) => async () => answers[name]?.() });
  const record = {
    workspace_id: "ws_test",
    state: "stopped",
    stop_reason: "idle",
    image: { digest: "d", env: {} },
    identity: { hostname: "h", machineId: "m" },
    environment: "e",
    resetting: null,
    disk_mib: 64,
  } as Record<string, unknown>;
  const inspector = () => {
    const over = Promise.withResolvers<void>();
    let isOver = false;
    return {
      guest: { call: (method: (calls: GuestCalls, options: object) => unknown) => method(calls, {}) },
      ended: over.promise,
      failed: NEVER,
      explain: async (error: unknown) => error,
      end: async () => {
        if (!isOver) seen.ended++;
        isOver = true;
        over.resolve();
      },
    };
  };
  const context = {
    preparation: { prepareAgain: async () => ({ environment: { release: () => {}, size_bytes: 1 } }) },
    inspections: {
      start: async (_prepared: unknown, { dirty }: { dirty: boolean }) => {
        seen.started++;
        seen.dirty.push(dirty);
        await sleep(5);
        return inspector();
      },
    },
  } as unknown as WorkspaceContext;
  const turns = new Turns();
  const deleted = new AbortController();
  const ledger = { record, directory: "/nowhere" } as unknown as Ledger;
  const disk = new StoppedDisk(context, ledger, deleted.signal, (work) => turns.take(work));
  return { disk, record, seen, turns, deleted };
}

async function refuses(promise: Promise<unknown>, code: ErrorCode): Promise<void> {
  await assert.rejects(promise, (error) => error instanceof PyroError && error.code === code);
}

test("those who come at once share an inspector; who starts the workspace waits for them, and it is gone then", async () => {
  const { disk, seen, turns } = ground();
  const order: string[] = [];
  const look = (name: string, ms: number) =>
    disk.inspect({}, NEVER, async () => {
      await sleep(ms);
      order.push(name);
    });
  const looks = [look("a", 40), look("b", 10)];
  await sleep(1);
  const started = turns.take(async () => {
    await disk.letGo();
    order.push(`start after ${seen.ended}`);
  });
  await Promise.all([...looks, started]);
  assert.deepEqual(order, ["b", "a", "start after 1"]);
  assert.equal(seen.started, 1);
});

test("one that is started is refused, one that never had a disk too; one that was lost is taken for dirty", async () => {
  const { disk, record, seen } = ground();
  record.state = "started";
  await refuses(
    disk.inspect({}, NEVER, async () => {}),
    "WORKSPACE_STATE",
  );
  Object.assign(record, { state: "failed", image: null, failure: { message: "x" } });
  await refuses(
    disk.inspect({}, NEVER, async () => {}),
    "WORKSPACE_FAILED",
  );
  Object.assign(record, { state: "stopped", stop_reason: "lost", image: { digest: "d", env: {} } });
  await disk.inspect({}, NEVER, async () => {});
  await disk.close(new PyroError("CANCELLED", "enough"));
  assert.deepEqual(seen, { started: 1, ended: 1, dirty: [true] });
  await refuses(
    disk.inspect({}, NEVER, async () => {}),
    "CANCELLED",
  );
});

test("an export keeps others from starting it, has an inspector of its own, and a deletion ends it", async () => {
  const { disk, seen, deleted } = ground();
  const aux = { path: "/aux", readOnly: false, virtualBytes: 1 };
  const exporting = disk.inspect({ aux, long: true }, NEVER, async (_, signal) => {
    await sleep(60_000, undefined, { signal }).catch(() => {
      throw signal.reason;
    });
  });
  await disk.inspect({}, NEVER, async () => {});
  await refuses(disk.letGo(), "DISK_EXPORT_RUNNING");
  assert.equal(seen.started, 2);
  deleted.abort(new PyroError("WORKSPACE_NOT_FOUND", "gone"));
  await refuses(exporting, "WORKSPACE_NOT_FOUND");
  await disk.letGo();
  assert.equal(seen.ended, 2);
});

test("an inspector that failed is not used again", async () => {
  const { disk, seen } = ground();
  const lost = new PyroError("MICROVM_LOST", "it ended");
  await refuses(
    disk.inspect({}, NEVER, () => Promise.reject(lost)),
    "MICROVM_LOST",
  );
  await disk.inspect({}, NEVER, async () => {});
  await disk.letGo();
  assert.deepEqual([seen.started, seen.ended], [2, 2]);
});

test("damage that one meets does not end the inspector for others", async () => {
  const { disk, seen } = ground();
  const other = disk.inspect({}, NEVER, async (_, signal) => {
    await sleep(30);
    signal.throwIfAborted();
    return seen.ended;
  });
  const damaged = new PyroError("DISK_DAMAGED", "there");
  await refuses(
    disk.inspect({}, NEVER, () => Promise.reject(damaged)),
    "DISK_DAMAGED",
  );
  assert.equal(await other, 0);
  await disk.letGo();
  assert.equal(seen.started, 1);
});

test("what an inspector tells that cannot be is not believed", async () => {
  const file = (path: string) => create(FileSchema, { path: Buffer.from(path), type: FileType.FILE });
  const good = ground({
    listDisk: () => create(ListDiskResponseSchema, { files: [file("usr"), file("var")], more: true }),
  });
  const { entries, next_cursor } = await listDisk(good.disk, LIST, NEVER);
  assert.deepEqual(
    entries.map(({ path }) => path),
    ["/usr", "/var"],
  );
  assert.equal(next_cursor, "fdmFy");
  const lies = [
    create(ListDiskResponseSchema, { files: ["a", "b", "c"].map(file) }),
    create(ListDiskResponseSchema, { more: true }),
    create(ListDiskResponseSchema, { files: [file("../../etc")] }),
    create(ListDiskResponseSchema, { files: [file("/etc")] }),
  ];
  for (const lie of lies) {
    const { disk } = ground({ listDisk: () => lie });
    await refuses(listDisk(disk, LIST, NEVER), "GUEST_UNRESPONSIVE");
  }
  for (const lie of [{ content: Buffer.alloc(11), file: file("f") }, { content: Buffer.alloc(1) }]) {
    const { disk } = ground({ readDisk: () => create(ReadDiskResponseSchema, lie) });
    await refuses(readDisk({ disk, secrets: Secrets.none }, READ, NEVER), "GUEST_UNRESPONSIVE");
  }
  await refuses(
    readDisk({ disk: good.disk, secrets: Secrets.none }, { ...READ, path: "a\0b" }, NEVER),
    "INVALID_INPUT",
  );
});
