// Every recipe has its page, which shows what is printed and names the programs; and its scripts are scripts.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { FORMS, recipes } from "../../../scripts/testing/recipes.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");

test("each recipe has a page, which shows what its programs print", () => {
  const names = recipes(ROOT);
  assert.deepEqual(
    globSync("docs/recipes/*.md", { cwd: ROOT }).sort(),
    names.map((name) => `docs/recipes/${name}.md`),
  );
  for (const name of names) {
    const page = readFileSync(join(ROOT, "docs", "recipes", `${name}.md`), "utf8");
    const directory = join("examples", "recipes", name);
    assert.ok(page.includes(`\n\`\`\`\n${readFileSync(join(ROOT, directory, "expected.txt"), "utf8")}\`\`\`\n`), name);
    for (const form of Object.values(FORMS)) assert.ok(page.includes(join(directory, form)), `${name}: ${form}`);
  }
});

test("the scripts of the recipes are understood by sh", () => {
  const scripts = globSync("examples/**/*.sh", { cwd: ROOT });
  assert.ok(scripts.length >= 2 * recipes(ROOT).length);
  for (const script of scripts) execFileSync("sh", ["-n", join(ROOT, script)]);
});
