// What tools may ask of a network: never more than the server was started with.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PyroError } from "../../../src/errors/error.ts";
import { withinPolicy } from "../../../src/tools/network.ts";

const forbidden = (thrown: unknown) => thrown instanceof PyroError && thrown.code === "POLICY_FORBIDDEN";

test("a policy beyond the server's is refused", () => {
  const egress = { network_policy: "egress" };
  assert.throws(() => withinPolicy("run", egress, "off"), forbidden);
  assert.throws(() => withinPolicy("workspace.create", egress, "off"), forbidden);
  assert.deepEqual(withinPolicy("workspace.create", egress, "egress"), egress);
  assert.deepEqual(withinPolicy("run", { network_policy: "off" }, "off"), { network_policy: "off" });
});

test("a change of the list is always one that narrows", () => {
  assert.deepEqual(withinPolicy("network.set", { allow_hosts: [], narrow_only: false }, "egress"), {
    allow_hosts: [],
    narrow_only: true,
  });
});
