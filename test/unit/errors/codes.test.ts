// Every code is fit for both a person and a model, and an error survives the way between processes.
import assert from "node:assert/strict";
import { test } from "node:test";
import { CODES } from "../../../src/errors/codes.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { nearest } from "../../../src/errors/nearest.ts";

for (const [code, { hint, mcpHint }] of Object.entries(CODES)) {
  test(`${code} says what to do, to each face in its own words`, () => {
    assert.match(code, /^[A-Z]+(_[A-Z]+)*$/);
    for (const text of [hint, mcpHint]) assert.match(text, /^(pyro |[`A-Z]).{10,}\.$/);
    // A model would run the command, on the host.
    assert.doesNotMatch(mcpHint, /pyro /);
    assert.doesNotMatch(mcpHint, /--[a-z]/);
  });
}

test("an error goes through JSON and comes back", () => {
  const error = new PyroError("VM_NOT_FOUND", "There is no vm_x.", { hint: "Look.", details: { near: ["vm_y"] } });
  const back = PyroError.fromData(JSON.parse(JSON.stringify(error.toData())));
  assert.deepEqual(back.toData(), error.toData());
  assert.equal(PyroError.from(back), back);
  assert.equal(PyroError.from("odd").code, "INTERNAL");
});

test("near names are slips, not guesses", () => {
  assert.deepEqual(nearest("timeout_second", ["timeout_seconds", "wait_seconds", "env"]), ["timeout_seconds"]);
  assert.deepEqual(nearest("xyzzy", ["timeout_seconds", "env"]), []);
  assert.deepEqual(nearest("", ["env"]), []);
});
