// One build for several waiters.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { BuildProgress } from "../../../src/environments/progress.ts";
import { SharedWork } from "../../../src/environments/shared.ts";

const step: BuildProgress = { stage: "image", message: "half way", fraction: 0.5 };

test("callers at the same time get one result of one piece of work, and later ones hear how far it is", async () => {
  const shared = new SharedWork();
  let runs = 0;
  const work = async (tell: (progress: BuildProgress) => void) => {
    runs++;
    tell(step);
    await sleep(20);
    return { made: runs };
  };
  const heard: BuildProgress[] = [];
  const first = shared.run("a", () => {}, undefined, work);
  await sleep(5);
  const second = shared.run("a", (progress) => heard.push(progress), undefined, work);
  assert.equal(shared.has("a"), true);
  assert.equal(await first, await second);
  assert.deepEqual([runs, heard, shared.has("a")], [1, [step], false]);
  assert.deepEqual(await shared.run("a", () => {}, undefined, work), { made: 2 });
});

test("it is aborted only when the last caller has gone; a new one then starts anew", async () => {
  const shared = new SharedWork();
  let runs = 0;
  let aborts = 0;
  const work = async (_: unknown, signal: AbortSignal) => {
    runs++;
    await sleep(60, undefined, { signal }).catch(async () => {
      aborts++;
      await sleep(20);
      signal.throwIfAborted();
    });
    return runs;
  };
  const a = new AbortController();
  const b = new AbortController();
  const first = assert.rejects(
    shared.run("x", () => {}, a.signal, work),
    /a is gone/,
  );
  const second = assert.rejects(
    shared.run("x", () => {}, b.signal, work),
    /b is gone/,
  );
  await sleep(5);
  a.abort(new Error("a is gone"));
  await first;
  assert.equal(aborts, 0);
  b.abort(new Error("b is gone"));
  await second;
  assert.equal(await shared.run("x", () => {}, undefined, work), 2);
  assert.equal(aborts, 1);
});

test("a failure reaches every caller, and the next call tries again", async () => {
  const shared = new SharedWork();
  const fails = async () => {
    throw new Error("no network");
  };
  const both = [shared.run("x", () => {}, undefined, fails), shared.run("x", () => {}, undefined, fails)];
  for (const one of both) await assert.rejects(one, /no network/);
  assert.equal(
    await shared.run(
      "x",
      () => {},
      undefined,
      async () => "now",
    ),
    "now",
  );
});
