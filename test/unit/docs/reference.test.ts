// The reference pages are what the table says now.
import assert from "node:assert/strict";
import { test } from "node:test";
import { pages, stalePages } from "../../../scripts/docs.ts";
import { CODES } from "../../../src/errors/codes.ts";
import { OPERATIONS } from "../../../src/operations/table.ts";

test("docs/reference is not stale (scripts/docs.ts writes it)", async () => {
  assert.deepEqual(await stalePages(), []);
});

test("every row and every code is on its pages", () => {
  const { "cli.md": cli = "", "sdk.md": sdk = "", "mcp.md": mcp = "", "errors.md": errors = "" } = pages();
  for (const row of Object.values(OPERATIONS)) {
    assert.ok(cli.includes(`## \`pyro ${row.cli.path.join(" ")}\``), row.name);
    assert.ok(sdk.includes(`pyro.${row.sdk.method}(`), row.name);
    assert.ok(mcp.includes("tool" in row.mcp ? `## \`${row.mcp.tool}\`` : `## ${row.name}`), row.name);
  }
  for (const code of Object.keys(CODES)) assert.ok(errors.includes(`\`${code}\``), code);
});
