// Nothing that was promised is gone, and what is new is written down; and that a break would be seen.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, test } from "node:test";
import { breaks } from "../../../scripts/surface/compare.ts";
import { missed, presentSurface, promisedSurface, type Surface } from "../../../scripts/surface.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
let present: Surface;
let promised: Surface;
before(async () => {
  [present, promised] = await Promise.all([presentSurface(), promisedSurface()]);
});

test("nothing is gone that was promised (docs/releases.md)", () => {
  assert.deepEqual(missed(promised, present), []);
});

test("all that is promised is written down (`npm run docs` does it)", () => {
  assert.deepEqual(present, promised);
});

test("the surface has every face in it", () => {
  for (const line of [
    "package exports ./schemas",
    "environment has PYRO_DRIVER",
    "error WORKSPACE_NOT_FOUND: exit 1",
    "cli pyro ws",
    "cli pyro workspace exec takes --cwd?: value",
    "cli pyro workspace exec takes argument 1: value",
    "cli pyro mcp serve takes --allow-read?: value",
    "json workspace.exec gives exit_code: integer | null",
    'json workspace.status gives state: "creating" | "failed" | "started" | "stopped"',
    "json workspace.list gives workspaces[].workspace_id: string",
    "mcp workspace_exec is in workspace-core",
    "mcp workspace_exec takes command: array | string",
    "sdk Pyro.run: (input: t.RunInput, options?: t.RunOptions): Run",
    "sdk Pyro.listWorkspaces: (input?: t.WorkspaceListInput, options?: t.CallOptions): t.Listing<t.WorkspaceList, t.WorkspaceRecord>",
    'sdk type RunInput: SdkInput<"run">',
    "sdk class PyroError",
    "sdk Workspace.process: readonly WorkspaceProcesses",
    "sdk ai function pyroTools: (of: Pyro | Workspace, options?: PyroToolsOptions): Promise<Record<string, PyroTool>>",
    "sdk schemas const schemas: Readonly<Record<OperationName, OperationSchemas>>",
  ]) {
    assert.ok(present.lines.includes(line), line);
  }
});

test("whatever would break somebody is seen, and what would not is not", () => {
  const before = [
    "cli pyro x",
    'cli pyro x takes --to?: "a" | "b"',
    "json x",
    "json x takes path?: string",
    "json x takes names?: array",
    "json x takes names[]: string",
    'json x gives state: "on" | "off"',
    "json x gives size: integer",
    "json x gives end?: string",
    "error X: exit 1",
    "sdk Pyro.x: (input: X): Promise<void>",
  ];
  const changed = (from: string, ...to: string[]) =>
    breaks(
      before,
      before.flatMap((line) => (line === from ? to : line)),
    );
  for (const line of before) assert.match(changed(line).join(), /^is gone: /, line);
  const worse: [from: string, to: string, seen: RegExp][] = [
    ['cli pyro x takes --to?: "a" | "b"', 'cli pyro x takes --to?: "a"', /^takes "b" no more/],
    ["json x takes path?: string", "json x takes path: string", /^must be given now/],
    ["json x takes path?: string", "json x takes path?: array", /^takes string no more/],
    ['json x gives state: "on" | "off"', 'json x gives state: "on"', /^is never "off" any more/],
    ["json x gives size: integer", "json x gives size: integer | null", /^may be null now/],
    ["json x gives size: integer", "json x gives size?: integer", /^may be missing now/],
    ["error X: exit 1", "error X: exit 2", /^has changed/],
    ["sdk Pyro.x: (input: X): Promise<void>", "sdk Pyro.x: (input: Y): Promise<void>", /^has changed/],
  ];
  for (const [from, to, seen] of worse) assert.match(changed(from, to).join(), seen, to);
  assert.match(breaks(before, [...before, "json x takes more: string"]).join(), /^must be given now/);

  const better: [from: string, to: string][] = [
    ['cli pyro x takes --to?: "a" | "b"', "cli pyro x takes --to?: value"],
    ['cli pyro x takes --to?: "a" | "b"', 'cli pyro x takes --to?: "a" | "b" | "c"'],
    ["json x takes path?: string", "json x takes path?: array | string"],
    ['json x gives state: "on" | "off"', 'json x gives state: "on" | "off" | "unsure"'],
    ["json x gives end?: string", "json x gives end: string"],
  ];
  for (const [from, to] of better) assert.deepEqual(changed(from, to), [], to);
  const added = ["json y", "json y takes it: string", "json x takes more?: object", "json x takes more.inner: string"];
  assert.deepEqual(breaks(before, [...before, ...added, "json x gives extra: string"]), []);
});

test("a new major version may break, and no other", () => {
  const old = { version: "3.4.5", lines: ["cli pyro x"] };
  assert.deepEqual(missed(old, { version: "3.5.0", lines: [] }), ["is gone: cli pyro x"]);
  assert.deepEqual(missed(old, { version: "4.0.0", lines: [] }), []);
});

test("the version has its entry in the changelog, and the lock file has it too", () => {
  assert.match(readFileSync(join(ROOT, "CHANGELOG.md"), "utf8"), new RegExp(`^## \\[${present.version}\\] - `, "m"));
  const lock = JSON.parse(readFileSync(join(ROOT, "package-lock.json"), "utf8")) as { version: string };
  assert.equal(lock.version, present.version);
});
