// The short form of `make smoke` in real Firecracker: a recipe from the command line, one by the SDK, one over MCP.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { runRecipe, SHORT } from "../../../scripts/testing/recipes.ts";
import { ROOT } from "../../vm/harness.ts";
import { checkLab, STEP_MS } from "../lab.ts";

before(checkLab);

for (const [recipe, form] of SHORT) {
  test(`the recipe ${recipe}, as ${form}`, { timeout: 4 * STEP_MS }, async () => {
    const { status, stdout, stderr, expected } = await runRecipe(ROOT, recipe, form);
    assert.equal(stdout, expected, stderr);
    assert.equal(status, 0, stderr);
  });
}
