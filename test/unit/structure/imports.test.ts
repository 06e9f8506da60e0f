// The house keeps its shape: calls flow one way, every module says what it owns, and names say what things are.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { test } from "node:test";

const SOURCE = join(import.meta.dirname, "..", "..", "..", "src");
const MAX_LINES = 420;

/** What each part may import of the others. A path names one module. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  abort: [],
  config: ["errors", "log"],
  errors: [],
  log: [],
  operations: ["errors"],
  text: [],
  wire: [],
  gen: [],
  host: ["errors"],
  client: ["config", "engine/paths.ts", "errors", "host", "log", "operations", "wire"],
  cli: ["client", "errors", "host", "log", "mcp/server.ts", "operations", "text", "wire/ids.ts"],
  sdk: ["client", "errors", "host", "operations"],
  tools: ["client", "errors", "operations", "text"],
  mcp: ["client", "host", "operations", "tools"],
  ai: ["errors", "operations", "sdk", "tools"],
  daemon: ["abort", "config", "engine", "errors", "host", "log", "operations", "wire"],
  engine: [
    "abort",
    "config",
    "drivers",
    "environments",
    "errors",
    "gen",
    "guest",
    "host",
    "launcher",
    "operations",
    "text",
    "wire",
  ],
  environments: ["abort", "engine/paths.ts", "errors", "host", "log"],
  drivers: ["errors", "guest", "host", "launcher"],
  guest: ["abort", "errors", "gen", "rpc"],
  launcher: ["errors", "gen", "rpc"],
  rpc: [],
};

const FORBIDDEN_NAMES = /^(utils?|helpers?|manager|misc|common|types-utils)(\.|-|$)/;

interface Module {
  readonly path: string;
  readonly part: string;
  readonly text: string;
}

const modules: Module[] = readdirSync(SOURCE, { recursive: true, withFileTypes: true })
  .filter((entry) => entry.isFile() && entry.name.endsWith(".ts"))
  .map((entry) => {
    const file = join(entry.parentPath, entry.name);
    const path = relative(SOURCE, file);
    return { path, part: path.split("/")[0] ?? "", text: readFileSync(file, "utf8") };
  })
  .filter(({ part }) => part !== "gen");

/** Paths below src that a module imports, statically, dynamically or for types. */
export function importsOf({ path, text }: Module): string[] {
  return [...text.matchAll(/(?:from|import)\s*\(?\s*"(\.[^"]+)"/g)].map(([, target]) =>
    join(dirname(path), target ?? ""),
  );
}

test("there are modules to look at, in parts that are known", () => {
  assert.ok(modules.length > 40);
  for (const { path, part } of modules) assert.ok(part in MAY_IMPORT, `${path} lies in a part that has no rule`);
});

test("imports go the one way", () => {
  const wrong: string[] = [];
  for (const module of modules) {
    for (const target of importsOf(module)) {
      const part = target.split("/")[0] ?? "";
      const allowed = MAY_IMPORT[module.part] ?? [];
      if (part !== module.part && !allowed.includes(part) && !allowed.includes(target)) {
        wrong.push(`${module.path} imports ${target}`);
      }
    }
  }
  assert.deepEqual(wrong, []);
});

test("an import the wrong way would be seen", () => {
  const bad = {
    path: "engine/x.ts",
    part: "engine",
    text: 'import { a } from "../daemon/server.ts";\nawait import("../cli/main.ts");',
  };
  assert.deepEqual(importsOf(bad), ["daemon/server.ts", "cli/main.ts"]);
});

test("every module begins by saying what it owns, and is short enough to read", () => {
  for (const { path, text } of modules) {
    assert.match(text, /^\/\/ \S.{20,}/, `${path} has no header comment`);
    assert.ok(text.split("\n").length <= MAX_LINES, `${path} is too long`);
  }
});

test("no default exports, no console and no process.exit outside the CLI, no vague names", () => {
  for (const { path, part, text } of modules) {
    assert.doesNotMatch(text, /^export default/m, path);
    assert.doesNotMatch(basename(path), FORBIDDEN_NAMES, path);
    if (part !== "cli")
      assert.doesNotMatch(text, /(?<![.\w])console\.(log|error|warn|info|debug)\(|\bprocess\.exit\(/, path);
  }
});
