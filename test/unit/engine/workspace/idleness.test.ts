import assert from "node:assert/strict";
import { test } from "node:test";
import { Idleness } from "../../../../src/engine/workspace/idleness.ts";

function clocked(t: import("node:test").TestContext, ttlSeconds: number, idleForMs = 0) {
  t.mock.timers.enable({ apis: ["setTimeout", "Date"], now: 1_000_000 });
  let due = 0;
  const idleness = new Idleness(ttlSeconds, new Date(1_000_000 - idleForMs), () => due++);
  idleness.watch();
  return { idleness, tick: (ms: number) => t.mock.timers.tick(ms), due: () => due };
}

test("it is due a whole time to live after its last use, and not while it is used", (t) => {
  const { idleness, tick, due } = clocked(t, 10);
  tick(9_999);
  assert.equal(due(), 0);
  const leave = idleness.use();
  assert.ok(idleness.inUse && idleness.expiresAt === undefined);
  tick(60_000);
  assert.equal(due(), 0);
  assert.equal(idleness.lastActivity.getTime(), Date.now());
  leave();
  leave();
  assert.equal(idleness.inUse, false);
  assert.deepEqual(idleness.expiresAt, new Date(Date.now() + 10_000));
  tick(9_999);
  assert.equal(due(), 0);
  tick(1);
  assert.equal(due(), 1);
  assert.equal(idleness.isDue, true);
});

test("two users are two", (t) => {
  const { idleness, tick, due } = clocked(t, 1);
  const first = idleness.use();
  const second = idleness.use();
  first();
  first();
  tick(5000);
  assert.equal(due(), 0);
  second();
  tick(1000);
  assert.equal(due(), 1);
});

test("one that was idle under another daemon is due for the rest of its time", (t) => {
  const { tick, due } = clocked(t, 10, 9000);
  tick(999);
  assert.equal(due(), 0);
  tick(1);
  assert.equal(due(), 1);
});

test("a time to live of 0 is for ever, and one longer than a timer can be is kept all the same", (t) => {
  const { idleness, tick, due } = clocked(t, 0);
  tick(2 ** 31);
  assert.equal(due(), 0);
  assert.equal(idleness.expiresAt, undefined);
  idleness.setTtl(31_536_000);
  tick(31_536_000_000 - 2 ** 31 - 1);
  assert.equal(due(), 0);
  tick(1);
  assert.equal(due(), 1);
});

test("one that is not watched is never due", (t) => {
  const { idleness, tick, due } = clocked(t, 1);
  idleness.unwatch();
  tick(5000);
  assert.equal(due(), 0);
  idleness.watch();
  tick(0);
  assert.equal(due(), 1);
});

test("a clock that is set back makes it no younger than just used", (t) => {
  const { idleness } = clocked(t, 10);
  t.mock.timers.setTime(2_000_000);
  idleness.use()();
  t.mock.timers.setTime(1_000_000);
  assert.deepEqual(idleness.expiresAt, new Date(1_010_000));
  assert.deepEqual(idleness.lastActivity, new Date(1_000_000));
});
