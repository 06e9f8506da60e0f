// Versions as programs print them, compared with the oldest that will do.
import assert from "node:assert/strict";
import { test } from "node:test";
import { isBelow, tar } from "../../../src/engine/host-checks.ts";

test("versions are compared by number, not by letter", () => {
  assert.equal(isBelow("0.6.1", [0, 8]), true);
  assert.equal(isBelow("0.8.0", [0, 8]), false);
  assert.equal(isBelow("0.11.0", [0, 8]), false);
  assert.equal(isBelow("10.0.2", [7, 2]), false);
  assert.equal(isBelow("6.2.0+dfsg", [7, 2]), true);
  assert.equal(isBelow("5.2.21-rt", [5, 3]), true);
  assert.equal(isBelow("unknown", [5, 3]), false);
});

test("a tar that is not GNU's is no tar to send directories with", async () => {
  const { signal } = new AbortController();
  assert.equal((await tar(signal)).status, "ok");
  const other = await tar(signal, "/bin/true");
  assert.equal(other.status, "warning");
  assert.match(other.message, /not GNU tar/);
  assert.match(other.fix ?? "", /apt-get install tar/);
});
