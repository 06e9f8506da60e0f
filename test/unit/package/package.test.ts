// The package as somebody gets it: packed, installed into an empty directory with npm alone, and then looked at, typed and
// loaded from outside. What it does in a microVM is in test/vm/package.test.ts.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { FOR_NPM, nodeOf, OLDEST_NODE, packed } from "../../packed.ts";

const ROOT = join(import.meta.dirname, "..", "..", "..");
const TSC = join(ROOT, "node_modules", ".bin", "tsc");
/** More than this would be noticed by everybody who says `npx pyro-mcp`. */
const MOST_MB = 20;

let project = "";
let installed = "";
let tarballBytes = 0;

before(async () => {
  await using tarball = await packed();
  tarballBytes = (await stat(tarball.tarball)).size;
  project = await mkdtemp(join(tmpdir(), "package-"));
  await writeFile(join(project, "package.json"), '{ "private": true }\n');
  // Nothing else is fetched, and no script is needed.
  const install = ["install", "--offline", "--ignore-scripts", "--no-audit", "--no-fund", tarball.tarball];
  execFileSync("npm", install, { cwd: project, stdio: ["ignore", "ignore", "pipe"], ...FOR_NPM });
  installed = join(project, "node_modules", "pyro-mcp");
});
after(async () => await rm(project, { recursive: true, force: true }));

interface Manifest {
  readonly version: string;
  readonly dependencies?: Record<string, string>;
  readonly scripts: Record<string, string>;
}

async function manifest(): Promise<Manifest> {
  return JSON.parse(await readFile(join(installed, "package.json"), "utf8")) as Manifest;
}

test("it holds what is needed and nothing else, and needs no other package and no script", async () => {
  assert.deepEqual(await readdir(join(project, "node_modules")), [".bin", ".package-lock.json", "pyro-mcp"]);
  const { dependencies, scripts } = await manifest();
  assert.equal(dependencies, undefined);
  for (const name of Object.keys(scripts)) assert.doesNotMatch(name, /install|prepare/);

  const top = ["CHANGELOG.md", "LICENSE", "README.md", "bin", "dist", "docs", "examples", "package.json"];
  assert.deepEqual((await readdir(installed)).sort(), top);
  const built = (await readdir(join(installed, "dist"))).filter((name) => !name.endsWith(".js"));
  assert.deepEqual(built.sort(), ["THIRD-PARTY-NOTICES.txt", "chunks", "guest", "host", "types"]);
  const files = (await readdir(installed, { recursive: true })).filter((name) => /\.(map|log|tsbuildinfo)$/.test(name));
  assert.deepEqual(files, []);
});

test("its programs are static, stripped and can be run", async () => {
  const names = ["pyro-image", "pyro-launch", "pyro-netd", "pyro-vmlinux"];
  assert.deepEqual((await readdir(join(installed, "dist", "host"))).sort(), names);
  for (const name of ["guest/guestd", ...names.map((host) => `host/${host}`)]) {
    const path = join(installed, "dist", name);
    assert.equal((await stat(path)).mode & 0o111, 0o111, name);
    const { interpreter, symbols } = elf(await readFile(path));
    assert.deepEqual({ interpreter, symbols }, { interpreter: false, symbols: false }, name);
  }
});

test("all that is inside it has its licence in it", async () => {
  const notices = await readFile(join(installed, "dist", "THIRD-PARTY-NOTICES.txt"), "utf8");
  for (const name of ["zod", "commander", "@modelcontextprotocol/server", "@xterm/headless", "@bufbuild/protobuf"]) {
    assert.ok(notices.includes(`\n${name} `), name);
  }
  for (const name of ["Go's standard library", "gvisor.dev/gvisor", "google.golang.org/protobuf"]) {
    assert.ok(notices.includes(`\n${name} `), name);
  }
  // The longest texts, in full.
  assert.match(notices, /END OF TERMS AND CONDITIONS/);
  assert.match(notices, /Redistributions in binary form must reproduce/);
});

test("it is as small as the README says", async () => {
  const mb = tarballBytes / 1e6;
  assert.ok(mb < MOST_MB, `${mb} MB`);
  const [, said] = /tarball of (\d+) MB/.exec(await readFile(join(installed, "README.md"), "utf8")) ?? [];
  assert.ok(Math.abs(Number(said) - mb) <= 1, `README: ${said} MB, npm pack: ${mb.toFixed(1)} MB`);
});

/** What a caller writes. `header` imports Pyro, PyroError, schemas, pyroTools and types. */
function program(header: string): string {
  return `${header}
const pyro = new Pyro({ home: process.argv[2] ?? "" });

async function work(command: readonly string[]): Promise<ErrorCode | WorkspaceRecord["state"]> {
  await using workspace: Workspace = await pyro.createWorkspace({ ephemeral: true, memMib: 512, labels: { a: "b" } });
  const running = workspace.exec(command, { check: true, signal: AbortSignal.timeout(1000) });
  for await (const { stream, data } of running) process[stream].write(data satisfies Uint8Array);
  const { exitCode, stdout } = await running;
  for await (const { workspaceId } of pyro.listWorkspaces()) workspaceId.trim();
  for await (const entry of workspace.logs({ follow: true })) entry.stdout.trim();
  await using shell = await workspace.shell.open({ cols: 80 });
  await shell.write("exit");
  const service = await workspace.service.start({ serviceName: "web", command: ["serve"] });
  await service.stop();
  const { patch } = await workspace.diff();
  // @ts-expect-error there is no such field
  await workspace.update({ nam: "x" });
  // @ts-expect-error there is no such signal
  running.signal("NOPE");
  const failed: unknown = [exitCode, stdout, patch];
  return failed instanceof PyroError ? failed.code : (await workspace.status()).state;
}

const run: OperationSchemas = schemas["run"];
// @ts-expect-error there is no such operation
schemas["walk"] satisfies unknown;
const name: OperationName = "workspace.exec";
const called = (tool: PyroTool): Promise<Record<string, unknown>> => tool.execute({});
const facts = [typeof work, typeof called, typeof pyroTools, typeof run.input, Object.keys(schemas).includes(name), new PyroError("INVALID_INPUT", "x").code];
console.log(JSON.stringify(facts));
`;
}

const NAMES = "type ErrorCode, type OperationName, Pyro, PyroError, type Workspace, type WorkspaceRecord";
const HEADERS = {
  "esm.mts": `import { ${NAMES} } from "pyro-mcp";\nimport { type OperationSchemas, schemas } from "pyro-mcp/schemas";
import { type PyroTool, pyroTools } from "pyro-mcp/ai";
// @ts-expect-error nothing else is exported
import type {} from "pyro-mcp/dist/sdk.js";`,
  "cjs.cts": `import { ${NAMES} } from "pyro-mcp";\nimport { type OperationSchemas, schemas } from "pyro-mcp/schemas";
import { type PyroTool, pyroTools } from "pyro-mcp/ai";`,
  "required.cts": `import pyroMcp = require("pyro-mcp");\nimport pyroSchemas = require("pyro-mcp/schemas");
import pyroAi = require("pyro-mcp/ai");
import type { PyroTool } from "pyro-mcp/ai";
import type { ErrorCode, OperationName, Workspace, WorkspaceRecord } from "pyro-mcp";
import type { OperationSchemas } from "pyro-mcp/schemas";
const { Pyro, PyroError } = pyroMcp;\nconst { schemas } = pyroSchemas;\nconst { pyroTools } = pyroAi;`,
} as const;

test("its types hold for strict programs, and what they become runs on the oldest Node and on this one", async () => {
  for (const [name, header] of Object.entries(HEADERS)) await writeFile(join(project, name), program(header));
  const files = Object.keys(HEADERS);
  const strict = ["--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--skipLibCheck", "false"];
  const types = ["--target", "es2022", "--types", "node", "--typeRoots", join(ROOT, "node_modules", "@types")];
  const compiled = tsc(...strict, ...types, "--module", "nodenext", ...files);
  assert.equal(compiled, "");
  // As bundlers and older projects have it: everything becomes require.
  await writeFile(join(project, "commonjs.ts"), program(HEADERS["cjs.cts"]));
  const older = ["--module", "commonjs", "--moduleResolution", "bundler", "--esModuleInterop"];
  assert.equal(tsc(...strict, ...types, ...older, "commonjs.ts"), "");

  const expected = `${JSON.stringify(["function", "function", "function", "object", true, "INVALID_INPUT"])}\n`;
  const oldest = join(await nodeOf(OLDEST_NODE), "bin", "node");
  assert.equal(execFileSync(oldest, ["--version"], { encoding: "utf8" }), `v${OLDEST_NODE}\n`);
  for (const node of [oldest, process.execPath]) {
    for (const script of ["esm.mjs", "cjs.cjs", "required.cjs", "commonjs.js"]) {
      // It ends by itself: a client that waits for nothing keeps nothing alive.
      const { status, stdout, stderr } = spawnSync(node, [script], { cwd: project, encoding: "utf8", timeout: 20_000 });
      assert.deepEqual({ status, stdout }, { status: 0, stdout: expected }, `${node} ${script}: ${stderr}`);
      // That Node's own warning about require of a module went with 22.13.
      if (node !== oldest) assert.equal(stderr, "", script);
    }
  }
});

test("what is not exported cannot be loaded, and package.json can", async () => {
  const script = `const { version } = require("pyro-mcp/package.json");
    const codes = ["pyro-mcp/dist/sdk.js", "pyro-mcp/src/sdk/index.ts"].map((path) => {
      try { require(path); } catch (error) { return error.code; }
    });
    console.log(version, ...codes);`;
  const { version } = await manifest();
  const refused = "ERR_PACKAGE_PATH_NOT_EXPORTED";
  const printed = execFileSync(process.execPath, ["-e", script], { cwd: project, encoding: "utf8" });
  assert.equal(printed, `${version} ${refused} ${refused}\n`);
});

test("its command runs on the oldest Node, and an older one is refused in a sentence", async () => {
  const { version } = await manifest();
  const command = join(project, "node_modules", ".bin", "pyro");
  const oldest = join(await nodeOf(OLDEST_NODE), "bin");
  const ask = (PATH: string) =>
    spawnSync(command, ["--version"], { cwd: project, encoding: "utf8", env: { PATH, HOME: project } });
  const { status, stdout, stderr } = ask(`${oldest}:/usr/bin:/bin`);
  assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: `pyro ${version}\n`, stderr: "" });

  // A Node that says it is older; what follows from that is all there is to see.
  const preload = join(project, "older.cjs");
  await writeFile(preload, 'Object.defineProperty(process.versions, "node", { value: "22.11.0" });');
  const old = spawnSync(process.execPath, ["--require", preload, join(installed, "bin", "pyro.js"), "--version"]);
  assert.equal(old.status, 1);
  assert.match(old.stderr.toString(), /^pyro needs Node 22\.12 or newer, and this is v/);
});

function tsc(...args: string[]): string {
  const { status, stdout, error } = spawnSync(TSC, ["--ignoreConfig", ...args], { cwd: project, encoding: "utf8" });
  if (error) throw error;
  return status === 0 ? "" : `${status}: ${stdout}`;
}

/** Whether a program of 64 bits asks for a dynamic loader, and has a table of symbols. */
function elf(file: Buffer): { interpreter: boolean; symbols: boolean } {
  assert.equal(file.toString("latin1", 0, 4), "\x7fELF");
  const types = (offset: number, size: number, count: number, at: number) =>
    Array.from({ length: count }, (_, index) => file.readUInt32LE(offset + index * size + at));
  const segments = types(Number(file.readBigUInt64LE(32)), file.readUInt16LE(54), file.readUInt16LE(56), 0);
  const sections = types(Number(file.readBigUInt64LE(40)), file.readUInt16LE(58), file.readUInt16LE(60), 4);
  const [PT_INTERP, SHT_SYMTAB] = [3, 2];
  return { interpreter: segments.includes(PT_INTERP), symbols: sections.includes(SHT_SYMTAB) };
}
