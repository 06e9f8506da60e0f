// The log's levels, seen from outside.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";

const LOG = join(import.meta.dirname, "..", "..", "..", "src", "log", "log.ts");

function said(code: string): string[] {
  const program = `import { log, logFrom } from ${JSON.stringify(LOG)}; ${code}`;
  const { stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", program], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stderr.split("\n").filter((line) => line !== "");
}

test("what is less important than the level is left out, and off leaves out all", () => {
  const all = 'log("a", "debug"); log("b"); log("c", "warn"); log("d", "error");';
  const counts = (["debug", "info", "warn", "error", "off"] as const).map(
    (level) => said(`logFrom("${level}");${all}`).length,
  );
  assert.deepEqual(counts, [4, 3, 2, 1, 0]);
  // A library says nothing unless it is asked to.
  assert.deepEqual(said(all), []);
  assert.match(said(`logFrom("info"); log("b");`)[0] ?? "", /^\d{4}-\d\d-\d\dT[\d:.]+Z \d+ info b$/);
});
