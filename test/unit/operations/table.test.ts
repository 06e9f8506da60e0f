// Walks the table: every row is in all three faces, or says why not, and is fit for each.
import assert from "node:assert/strict";
import { test } from "node:test";
import { z } from "zod";
import { flagsOf } from "../../../src/cli/from-operation.ts";
import { cliRows, rowNamed } from "../../../src/cli/program.ts";
import { VIEWS } from "../../../src/cli/views/view.ts";
import { ALWAYS_POSSIBLE, CODES } from "../../../src/errors/codes.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { parseInput } from "../../../src/operations/check.ts";
import type { Operation } from "../../../src/operations/define.ts";
import { FACTS } from "../../../src/operations/facts.ts";
import { OPERATIONS } from "../../../src/operations/table.ts";
import { Pyro } from "../../../src/sdk/index.ts";

const rows: [string, Operation][] = Object.entries(OPERATIONS);

for (const [name, row] of rows) {
  test(`${name} is whole`, () => {
    assert.equal(row.name, name);
    assert.match(name, /^[a-z_]+(\.[a-z_]+)?$/);
    assert.ok(row.summary.length > 10 && !row.summary.endsWith("."), "a summary is one line without a full stop");
    for (const code of row.errors) {
      assert.ok(code in CODES);
      assert.ok(!(ALWAYS_POSSIBLE as readonly string[]).includes(code), `${code} may come from any row`);
    }
    for (const io of ["input", "output"] as const) {
      // Throws for what JSON Schema cannot carry, a transform above all.
      const schema = z.toJSONSchema(row[io], { io: io === "input" ? "input" : "output" });
      for (const key of Object.keys(schema.properties ?? {})) assert.match(key, /^[a-z][a-z0-9]*(_[a-z0-9]+)*$/);
    }
  });

  test(`${name} on the command line`, () => {
    if ("absent" in row.cli) return assert.ok(row.cli.absent.length > 20);
    const shape = row.cli;
    const found = rowNamed(["--json", ...shape.path]);
    assert.equal(found?.facts.name, name);
    const keys = Object.keys(row.input.shape);
    const positional = (shape.positional ?? []).flatMap((key) => key.split("|"));
    for (const key of [...positional, ...(shape.omit ?? []), ...Object.keys(shape.flags ?? {})]) {
      assert.ok(keys.includes(key), `${key} is no input of ${name}`);
    }
    const facts = FACTS[name as keyof typeof FACTS];
    const flags = flagsOf(facts, shape).map(({ flags: text }) => /--[a-z-]+/.exec(text)?.[0]);
    assert.equal(new Set(flags).size, flags.length);
    for (const { flags: text, description } of flagsOf(facts, shape)) assert.ok(description.length > 5, text);
    assert.equal(typeof VIEWS[name as keyof typeof VIEWS], "function");
  });

  test(`${name} in the SDK`, () => {
    if ("absent" in row.sdk) return assert.ok(row.sdk.absent.length > 20);
    const method = (Pyro.prototype as unknown as Record<string, unknown>)[row.sdk.method];
    assert.equal(typeof method, "function", `Pyro has no ${row.sdk.method}`);
  });

  test(`${name} over MCP`, () => {
    if ("absent" in row.mcp) return assert.ok(row.mcp.absent.length > 20);
    assert.match(row.mcp.tool, /^[a-z]+(_[a-z]+)*$/);
    assert.match(row.mcp.description, /^Use this /, "when to use it comes first");
    assert.ok(row.mcp.description.length <= 1500);
    assert.doesNotMatch(row.mcp.description, /pyro \w/);
    assert.ok(row.profiles.length > 0);
    for (const key of row.mcp.omit ?? []) assert.ok(key in row.input.shape);
  });
}

test("no two rows share a command, a method or a tool", () => {
  const distinct = (names: string[]) => assert.equal(new Set(names).size, names.length);
  distinct(cliRows().map(({ shape }) => shape.path.join(" ")));
  distinct(rows.flatMap(([, row]) => ("method" in row.sdk ? [row.sdk.method] : [])));
  distinct(rows.flatMap(([, row]) => ("tool" in row.mcp ? [row.mcp.tool] : [])));
});

test("facts are plain data: the bundle holds them as JSON", () => {
  assert.deepEqual(JSON.parse(JSON.stringify(FACTS)), FACTS);
});

test("rowNamed knows the alias and nothing else", () => {
  assert.equal(rowNamed(["ws", "process", "read", "vm_x"])?.facts.name, "process.read");
  assert.equal(rowNamed(["workspace"]), undefined);
  assert.equal(rowNamed([]), undefined);
});

test("an input is checked in the caller's words, with near names for a misspelt key", () => {
  const refuse = (input: unknown, pattern: RegExp) =>
    assert.throws(
      () => parseInput(OPERATIONS.run, input, (key) => `--${key}`),
      (thrown) => thrown instanceof PyroError && thrown.code === "INVALID_INPUT" && pattern.test(thrown.message),
    );
  refuse({ command: ["x"], mem_mbi: 3 }, /takes no --mem_mbi\. Did you mean --mem_mib\?/);
  refuse({ command: ["x"], mem_mib: 3 }, /^--mem_mib: /);
  refuse({ command: ["x"], env: { "A=B": "" } }, /^--env\[A=B\]: /);
  refuse({ command: ["x"], env: { "A=B": "" } }, /: a variable has a name, without = and NUL\.$/);
  refuse({ command: ["x"], cwd: "" }, /^--cwd: it must not be empty\.$/);
  refuse({}, /^--command: /);
  refuse(null, /./);
  refuse([], /./);
  const parsed = parseInput(OPERATIONS.run, { command: ["x"] });
  assert.deepEqual(parsed, {
    command: ["x"],
    environment: "debian:12",
    vcpu_count: 1,
    mem_mib: 1024,
    disk_mib: 16_384,
    network_policy: "off",
    tty: false,
    no_stdin: false,
  });
});

test("an update that names no change is refused", () => {
  const row = OPERATIONS["workspace.update"];
  for (const nothing of [{}, { clear_name: false }, { labels: {}, clear_labels: [] }, { name: undefined }]) {
    assert.throws(
      () => parseInput(row, { workspace_id: "x", ...nothing }),
      (thrown) => thrown instanceof PyroError && /said what is to change/.test(thrown.message),
    );
  }
  for (const change of [{ ttl_seconds: 0 }, { clear_name: true }, { labels: { a: "" } }, { clear_labels: ["a"] }]) {
    parseInput(row, { workspace_id: "x", ...change });
  }
});
