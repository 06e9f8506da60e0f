import assert from "node:assert/strict";
import { test } from "node:test";
import { checkState } from "../../../src/daemon/legality.ts";
import { PyroError } from "../../../src/errors/error.ts";
import type { Operation, WorkspaceState } from "../../../src/operations/define.ts";
import { OPERATIONS, type OperationName } from "../../../src/operations/table.ts";

const STATES: readonly WorkspaceState[] = ["creating", "started", "stopped", "failed"];
const rows = Object.entries<Operation>(OPERATIONS).filter(([, { input }]) => "workspace_id" in input.shape);

function refusalOf(name: string, state: WorkspaceState): string | undefined {
  const failure = state === "failed" ? { message: "It broke." } : null;
  try {
    checkState({ get: (workspaceId) => ({ workspaceId, state, failure }) }, name as OperationName, {
      workspace_id: "ws_a",
    });
    return undefined;
  } catch (error) {
    assert.ok(error instanceof PyroError && /ws_a/.test(error.message), String(error));
    return error.code;
  }
}

for (const [name, { legalIn }] of rows) {
  test(`${name} is possible where the table says so, and refused by name elsewhere`, () => {
    assert.ok(legalIn.length > 0, "a row about a workspace says in which states it is legal");
    for (const state of STATES) {
      const refusal = state === "failed" ? "WORKSPACE_FAILED" : "WORKSPACE_STATE";
      assert.equal(refusalOf(name, state), legalIn.includes(state) ? undefined : refusal, state);
    }
  });
}

test("some states refuse something, and rows about no workspace are always possible", () => {
  assert.equal(refusalOf("workspace.exec", "creating"), "WORKSPACE_STATE");
  assert.equal(refusalOf("env.list", "failed"), undefined);
});

test("a workspace that is not there is refused by whoever looks for it", () => {
  const nowhere = () => {
    throw new PyroError("WORKSPACE_NOT_FOUND", "There is no workspace x.");
  };
  assert.throws(() => checkState({ get: nowhere }, "workspace.status", { workspace_id: "x" }), {
    code: "WORKSPACE_NOT_FOUND",
  });
});
