// Two microVMs of one template are two machines: nothing that should be their own is shared, and both know the time.
import assert from "node:assert/strict";
import { test } from "node:test";
import { runOk } from "./harness.ts";

const SCRIPT = `cat /etc/machine-id; hostname; cat /proc/sys/kernel/random/boot_id
head -c 32 /dev/urandom | sha256sum; python3 -c 'import os, random; print(os.getrandom(16).hex(), random.random())'
cat /proc/sys/kernel/random/uuid; date +%s.%N`;

test("machine id, hostname, boot id and random numbers differ; the clock is right", async () => {
  const seen: string[][] = [];
  for (let round = 0; round < 3; round++) {
    const before = Date.now() / 1000;
    const lines = (await runOk(["--", "sh", "-c", SCRIPT])).trimEnd().split("\n");
    const after = Date.now() / 1000;
    assert.equal(lines.length, 7);
    assert.match(lines[0] ?? "", /^[0-9a-f]{32}$/);
    const clock = Number(lines.pop());
    assert.ok(clock > before - 1 && clock < after + 1, `clock ${clock}, host ${before} to ${after}`);
    seen.push(lines);
  }
  const all = seen.flat();
  assert.equal(new Set(all).size, all.length, `shared: ${all.join("\n")}`);
});
