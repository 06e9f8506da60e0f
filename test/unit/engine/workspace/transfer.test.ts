// The host's side of a transfer against guests that take it, refuse it, vanish or lie.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { sendTransfer, type TransferGuest, type TransferOptions } from "../../../../src/engine/workspace/transfer.ts";
import { PyroError } from "../../../../src/errors/error.ts";

interface Wire {
  offset: bigint;
  data: Uint8Array;
}

/** A guest that keeps what it is sent. */
class FakeGuest {
  readonly pieces: Buffer[] = [];
  readonly log: string[] = [];
  begun: { destination: Uint8Array; maxBytes: bigint; maxEntries: bigint } | undefined;
  size = 0n;
  onWrite: (wire: Wire) => unknown = ({ offset, data }) => ({ offset: offset + BigInt(data.length) });
  onFinish: (size: bigint) => unknown = () => ({ entryCount: 3n, bytesWritten: 5n });

  readonly guest: TransferGuest = {
    call: async (method, { signal }) => {
      signal?.throwIfAborted();
      const calls = {
        hello: async () => ({}),
        beginTransfer: async (request: NonNullable<FakeGuest["begun"]>) => {
          this.log.push("begin");
          this.begun = request;
          return {};
        },
        writeTransfer: async (wire: Wire) => {
          this.log.push("write");
          const told = await this.onWrite(wire);
          this.pieces.push(Buffer.from(wire.data));
          return told;
        },
        finishTransfer: async ({ size }: { size: bigint }) => {
          this.log.push("finish");
          this.size = size;
          return await this.onFinish(size);
        },
        abortTransfer: async () => {
          this.log.push("abort");
          return {};
        },
      };
      return await method(calls as never, { signal: signal ?? new AbortController().signal });
    },
  };
}

function options(more: Partial<TransferOptions> = {}): TransferOptions {
  return {
    destination: "/workspace",
    maxBytes: 1000,
    maxEntries: 10,
    signal: AbortSignal.timeout(20_000),
    ...more,
  };
}

async function* chunks(...sizes: number[]): AsyncGenerator<Uint8Array> {
  let value = 0;
  for (const size of sizes) yield new Uint8Array(size).fill(++value);
}

const refused = (code: string, message?: RegExp) => (error: unknown) => {
  assert.ok(error instanceof PyroError, String(error));
  assert.equal(error.code, code);
  if (message) assert.match(error.message, message);
  return true;
};

test("a push that was done in part is not said to have changed nothing", async () => {
  for (const [words, status, code] of [
    ['full: partly: the guest\'s disk has no room for "a"', Code.ResourceExhausted, "GUEST_DISK_FULL"],
    ['conflict: partly: put in its place "a": is a directory', Code.FailedPrecondition, "PATH_CONFLICT"],
    ["failed: partly: sync: input/output error", Code.FailedPrecondition, "GUEST_UNRESPONSIVE"],
  ] as const) {
    const fake = new FakeGuest();
    fake.onFinish = () => {
      throw new ConnectError(words, status);
    };
    await assert.rejects(sendTransfer(fake.guest, options(), chunks(1)), (error: unknown) => {
      assert.ok(error instanceof PyroError, String(error));
      assert.equal(error.code, code);
      assert.match(error.message, /^Some files were put in their place and others were not\. \S/);
      assert.doesNotMatch(`${error.message} ${error.hint}`, /nothing was changed|partly:/);
      return true;
    });
  }
});

test("small chunks are gathered, large ones cut, and nothing is lost", async () => {
  const fake = new FakeGuest();
  const sizes = [1, 0, 100_000, 3_000_000, 1 << 20, 7];
  const totals: number[] = [];
  const result = await sendTransfer(
    fake.guest,
    options({ destination: Buffer.from([0x2f, 0xff]), onBytes: (total) => totals.push(total) }),
    chunks(...sizes),
  );
  assert.deepEqual(result, { entryCount: 3, bytesWritten: 5 });
  const sent: Uint8Array[] = [];
  for await (const chunk of chunks(...sizes)) sent.push(chunk);
  assert.deepEqual(Buffer.concat(fake.pieces), Buffer.concat(sent));
  assert.ok(fake.pieces.slice(0, -1).every((piece) => piece.length === 1 << 20));
  assert.equal(fake.size, BigInt(Buffer.concat(sent).length));
  assert.equal(totals.at(-1), Number(fake.size));
  assert.deepEqual(fake.begun?.destination, Buffer.from([0x2f, 0xff]));
  assert.deepEqual([fake.begun?.maxBytes, fake.begun?.maxEntries], [1000n, 10n]);
  assert.deepEqual(fake.log, ["begin", "write", "write", "write", "write", "finish"]);
});

test("an empty archive is finished with size 0", async () => {
  const fake = new FakeGuest();
  await sendTransfer(fake.guest, options(), chunks());
  assert.deepEqual(fake.log, ["begin", "finish"]);
  assert.equal(fake.size, 0n);
});

for (const [prefix, code, expected] of [
  ["archive", Code.FailedPrecondition, "ARCHIVE_INVALID"],
  ["outside", Code.InvalidArgument, "PATH_OUTSIDE"],
  ["conflict", Code.FailedPrecondition, "PATH_CONFLICT"],
  ["limit", Code.FailedPrecondition, "LIMIT_EXCEEDED"],
  ["full", Code.ResourceExhausted, "GUEST_DISK_FULL"],
] as const) {
  test(`the guest's "${prefix}:" is ${expected}, while writing and when finishing`, async () => {
    const refusal = () => {
      throw new ConnectError(`${prefix}: "a\u202e\u001b[2J" is not as it should be`, code);
    };
    for (const at of ["onWrite", "onFinish"] as const) {
      const fake = new FakeGuest();
      fake[at] = refusal;
      await assert.rejects(
        sendTransfer(fake.guest, options(), chunks(10)),
        refused(expected, /^"a\\u202e\\x1b\[2J" is not as it should be$/),
      );
      assert.equal(fake.log.at(-1), "abort");
    }
  });
}

test("a refusal's words are bounded", async () => {
  const fake = new FakeGuest();
  fake.onWrite = () => {
    throw new ConnectError(`archive: ${"\u001b".repeat(100_000)}`, Code.FailedPrecondition);
  };
  await assert.rejects(sendTransfer(fake.guest, options(), chunks(1)), (error: Error) => error.message.length < 600);
});

test("other answers of the guest are its failure", async () => {
  for (const error of [
    new ConnectError("archive: words", Code.Internal),
    new ConnectError("no such transfer", Code.NotFound),
    new ConnectError("", Code.FailedPrecondition),
  ]) {
    const fake = new FakeGuest();
    fake.onWrite = () => {
      throw error;
    };
    await assert.rejects(sendTransfer(fake.guest, options(), chunks(1)), refused("GUEST_UNRESPONSIVE"));
  }
});

test("a guest that lies ends the transfer at once", async () => {
  const lies: ((fake: FakeGuest) => void)[] = [
    (fake) => {
      fake.onWrite = () => ({ offset: 0n });
    },
    (fake) => {
      fake.onWrite = ({ offset, data }) => ({ offset: offset + BigInt(data.length) + 1n });
    },
    (fake) => {
      fake.onWrite = () => ({ offset: 2n ** 64n - 1n });
    },
    (fake) => {
      fake.onFinish = () => ({ entryCount: 11n, bytesWritten: 0n });
    },
    (fake) => {
      fake.onFinish = () => ({ entryCount: 1n, bytesWritten: 2n ** 63n });
    },
  ];
  for (const lie of lies) {
    const fake = new FakeGuest();
    lie(fake);
    await assert.rejects(sendTransfer(fake.guest, options(), chunks(9, 9)), refused("GUEST_UNRESPONSIVE", /no sense/));
    assert.ok(fake.log.length <= 4, fake.log.join());
    assert.equal(fake.log.at(-1), "abort");
  }
});

test("a source that throws, at once and later, has the transfer aborted and its error passed on", async () => {
  for (const size of [0, 3 << 20]) {
    const fake = new FakeGuest();
    const source = async function* () {
      yield new Uint8Array(size);
      throw new Error("the client has gone");
    };
    await assert.rejects(sendTransfer(fake.guest, options(), source()), /the client has gone/);
    assert.deepEqual([fake.log.includes("finish"), fake.log.at(-1)], [false, "abort"]);
  }
});

test("an abort ends it while the source hangs, while the guest hangs, and before the beginning", async () => {
  const reason = new Error("no more");
  const hanging = async function* () {
    yield new Uint8Array(1);
    await new Promise(() => {});
  };
  const source = new FakeGuest();
  const first = new AbortController();
  setTimeout(() => first.abort(reason), 50);
  await assert.rejects(sendTransfer(source.guest, options({ signal: first.signal }), hanging()), reason);
  assert.equal(source.log.at(-1), "abort");

  const hung = new FakeGuest();
  const second = new AbortController();
  hung.onWrite = async () => {
    second.abort(reason);
    await sleep(5);
    throw second.signal.reason;
  };
  await assert.rejects(sendTransfer(hung.guest, options({ signal: second.signal }), chunks(5)), reason);
  assert.equal(hung.log.at(-1), "abort");

  const never = new FakeGuest();
  await assert.rejects(sendTransfer(never.guest, options({ signal: AbortSignal.abort(reason) }), chunks(5)), reason);
  assert.deepEqual(never.log, []);
});

test("a transfer whose source is slow is kept up, and a guest that stops answering is given up", async (t) => {
  t.mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  const fake = new FakeGuest();
  const { promise: go, resolve } = Promise.withResolvers<void>();
  const source = async function* () {
    await go;
    yield new Uint8Array(4);
  };
  const sending = sendTransfer(fake.guest, options({ signal: new AbortController().signal }), source());
  for (let seconds = 0; seconds < 100; seconds += 5) {
    t.mock.timers.tick(5_000);
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  }
  resolve();
  await sending;
  const kept = fake.pieces.filter((piece) => piece.length === 0).length;
  assert.ok(kept >= 3 && kept <= 5, `${kept} times`);
  assert.equal(fake.size, 4n);

  const silent = new FakeGuest();
  silent.onFinish = () => new Promise(() => {});
  const guest: TransferGuest = {
    call: async (method, call) => {
      const answer = silent.guest.call((calls, own) => {
        const watched = { ...calls, hello: () => Promise.reject(new PyroError("GUEST_UNRESPONSIVE", "No answer.")) };
        return method(watched as never, own);
      }, call);
      const aborted = new Promise<never>((_, reject) =>
        call.signal?.addEventListener("abort", () => reject(call.signal?.reason)),
      );
      return await Promise.race([answer, aborted]);
    },
  };
  const given = sendTransfer(guest, options({ signal: new AbortController().signal }), chunks(4));
  const settled = assert.rejects(given, refused("GUEST_UNRESPONSIVE", /No answer/));
  for (let seconds = 0; seconds < 30; seconds += 5) {
    for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    t.mock.timers.tick(5_000);
  }
  await settled;
});

test("an abort that comes while everything is put in its place says what was done", async () => {
  for (const done of [true, false]) {
    const late = new FakeGuest();
    const abort = new AbortController();
    let asked = 0;
    late.onFinish = async () => {
      asked++;
      if (asked === 1) {
        abort.abort(new Error("no more"));
        throw abort.signal.reason;
      }
      if (!done) throw new Error("it was dropped");
      return { entryCount: 3n, bytesWritten: 5n };
    };
    const sent = sendTransfer(late.guest, options({ signal: abort.signal }), chunks(5));
    if (done) assert.deepEqual(await sent, { entryCount: 3, bytesWritten: 5 });
    else await assert.rejects(sent, /no more/);
    assert.deepEqual(late.log.slice(-3), ["finish", "abort", "finish"]);
  }
});
