// Places at a gate: never more than there are, in order, and none lost to those who give up.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { Gate } from "../../../src/engine/gate.ts";

test("never more than its places at once, in the order of coming", async () => {
  const gate = new Gate(2);
  const order: number[] = [];
  let inside = 0;
  let most = 0;
  const passes = Array.from({ length: 7 }, (_, index) =>
    gate.pass(async () => {
      order.push(index);
      most = Math.max(most, ++inside);
      await turn();
      inside--;
    }, new AbortController().signal),
  );
  await Promise.all(passes);
  assert.equal(most, 2);
  assert.deepEqual(order, [0, 1, 2, 3, 4, 5, 6]);
});

test("one that gives up takes no place with it, whenever it does", async () => {
  const gate = new Gate(1);
  const never = new AbortController().signal;
  const first = Promise.withResolvers<void>();
  const holding = gate.pass(() => first.promise, never);
  const waiting = new AbortController();
  const leaving = gate.pass(async () => assert.fail("it had given up"), waiting.signal);
  const last = gate.pass(async () => "through", never);
  waiting.abort(new Error("enough"));
  await assert.rejects(leaving, /enough/);
  // One more in the very moment in which its turn comes.
  const late = new AbortController();
  const racing = gate.pass(async () => "raced", late.signal).catch((error: Error) => error.message);
  first.resolve();
  await holding;
  assert.equal(await last, "through");
  late.abort(new Error("too late"));
  assert.match(await racing, /raced|too late/);
  assert.equal(await gate.pass(async () => "free", never), "free");
  await assert.rejects(
    gate.pass(async () => Promise.reject(new Error("thrown")), never),
    /thrown/,
  );
  assert.equal(await gate.pass(async () => "still free", never), "still free");
});
