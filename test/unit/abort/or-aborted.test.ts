// A wait that a signal may end.
import assert from "node:assert/strict";
import { getEventListeners } from "node:events";
import { test } from "node:test";
import { orAborted } from "../../../src/abort/or-aborted.ts";

test("the promise's own end comes through, and no listener stays", async () => {
  const { signal } = new AbortController();
  assert.equal(await orAborted(Promise.resolve(3), signal), 3);
  await assert.rejects(orAborted(Promise.reject(new Error("own")), signal), /own/);
  assert.equal(await orAborted(Promise.resolve(4), undefined), 4);
  assert.deepEqual(getEventListeners(signal, "abort"), []);
});

test("an abort ends the wait with its reason, before or during it", async () => {
  const controller = new AbortController();
  const { promise, resolve } = Promise.withResolvers<void>();
  const waiting = orAborted(promise, controller.signal);
  controller.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
  await assert.rejects(orAborted(promise, controller.signal), /enough/);
  resolve();
});

test("a promise that fails after the abort is nobody's unhandled rejection", async () => {
  const controller = new AbortController();
  const { promise, reject } = Promise.withResolvers<void>();
  const waiting = orAborted(promise, controller.signal);
  controller.abort(new Error("enough"));
  await assert.rejects(waiting, /enough/);
  reject(new Error("late"));
  await new Promise((resolve) => setImmediate(resolve));
});
