// Recipes of examples/recipes, one in each form; `make smoke` runs all of them in all forms.
import assert from "node:assert/strict";
import { test } from "node:test";
import { runRecipe, SHORT } from "../../scripts/testing/recipes.ts";
import { ROOT } from "./harness.ts";
import { Workspaces } from "./workspaces.ts";

for (const [recipe, form] of SHORT) {
  test(`the recipe ${recipe}, as ${form}`, { timeout: 240_000 }, async () => {
    const { status, stdout, stderr, expected, taken } = await runRecipe(ROOT, recipe, form);
    assert.equal(stdout, expected, stderr);
    assert.equal(status, 0, stderr);
    // A conversation that grows is a tool that has become worse to use.
    if (taken) assert.ok(taken.calls <= 18 && taken.answeredBytes < 24_000, JSON.stringify(taken));
    assert.equal(taken !== undefined, form === "mcp");
    assert.deepEqual(await new Workspaces().list(["--label", `recipe=${recipe}`]), []);
  });
}
