// The last look at what callers are told: words of others lose the values of their workspace's secrets, and pyro's own are
// left alone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Redaction } from "../../../src/daemon/redaction.ts";
import type { Engine } from "../../../src/engine/engine.ts";
import { Secrets } from "../../../src/engine/secrets/secrets.ts";
import { PyroError } from "../../../src/errors/error.ts";

const one = { secrets: Secrets.given([{ name: "ONE", value: "started" }]) };
const two = { secrets: Secrets.given([{ name: "TWO", value: "other-value" }]) };
const engine = {
  workspaces: { find: (id: string) => ({ ws_one: one, ws_two: two })[id] },
  runs: { find: (id: string) => ({ vm_one: one })[id] },
} as unknown as Engine;

test("words of others are looked at, in whichever workspace they are of", () => {
  const redaction = new Redaction(engine, { workspace_id: "ws_one" });
  const told = redaction.told({
    workspace_id: "ws_one",
    state: "started",
    last_command: { command: ["echo", "it started"], state: "exited" },
    entries: [{ path: "/workspace/started", next: null, size: 3 }],
    failure: { stage: "start", message: "not started", console_tail: "started\n" },
    others: [{ workspace_id: "ws_two", command: ["started", "other-value"] }],
  });
  assert.deepEqual(told, {
    workspace_id: "ws_one",
    state: "started",
    last_command: { command: ["echo", "it [redacted:ONE]"], state: "exited" },
    entries: [{ path: "/workspace/[redacted:ONE]", next: null, size: 3 }],
    failure: { stage: "start", message: "not [redacted:ONE]", console_tail: "[redacted:ONE]\n" },
    others: [{ workspace_id: "ws_two", command: ["started", "[redacted:TWO]"] }],
  });
  assert.deepEqual(new Redaction(engine, { vm_id: "vm_one" }).told({ reason: "started" }), {
    reason: "[redacted:ONE]",
  });
  assert.deepEqual(new Redaction(engine, { vm_id: "vm_two" }).told({ reason: "started" }), { reason: "started" });
});

test("errors keep their code and lose values everywhere, of secrets too that were only just sent", () => {
  const thrown = new PyroError("PATCH_REJECTED", "There stands other-value.", { details: { found: ["other-value"] } });
  const error = new Redaction(engine, { workspace_id: "ws_two" }).error(thrown);
  assert.deepEqual([error.code, error.message], ["PATCH_REJECTED", "There stands [redacted:TWO]."]);
  assert.deepEqual(error.details, { found: ["[redacted:TWO]"] });
  const secrets = [{ name: "NEW", value: Buffer.from("just-sent").toString("base64"), value_encoding: "base64" }];
  const fault = new Redaction(engine, { secrets }).error(new Error("about just-sent"));
  assert.deepEqual([fault.code, fault.message], ["INTERNAL", "about [redacted:NEW]"]);
  assert.doesNotMatch(fault.stack ?? "", /just-sent/);
  // What cannot be secrets is refused elsewhere.
  const wrong = new Redaction(engine, { secrets: [{ name: "9", value: "just-sent" }] });
  assert.equal(wrong.error(new Error("plain")).message, "plain");
});
