// `pyro mcp config`: what it prints is what an agent's own parser takes, and it starts a server that answers.
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { parse } from "smol-toml";
import { SETTINGS } from "../../../src/config/settings.ts";

const PYRO = join(import.meta.dirname, "..", "..", "..", "bin", "pyro");
const VALUES: Readonly<Record<string, string>> = {
  PYRO_DRIVER: "qemu",
  PYRO_FIRECRACKER: "/opt/firecracker",
  PYRO_UNCONFINED: "1",
  PYRO_POOL_SIZE: "0",
  PYRO_ENVIRONMENT: "debian:12-base",
  PYRO_LOG: "error",
  PYRO_NETWORK_NAMESPACE: "/run/netns/x",
  PYRO_NAME_SERVERS: "192.0.2.1",
  PYRO_PUBLIC_RANGES: "192.0.2.0/24",
  PYRO_NETWORK_MIB_PER_SECOND: "50",
  PYRO_BROKER_AUTHORITIES: "/etc/company.pem",
};
const ENVIRONMENT = { PATH: process.env.PATH ?? "", HOME: "/nonexistent", PYRO_HOME: "/nonexistent/pyro 'home'" };

interface Printed {
  readonly host: string;
  readonly file: string;
  readonly format: string;
  readonly content: string;
  readonly command: readonly string[] | null;
  readonly withheld: readonly string[];
}

function printed(...args: string[]): Printed {
  return printedWith(ENVIRONMENT, ...args);
}

function printedWith(env: Record<string, string>, ...args: string[]): Printed {
  const options = { encoding: "utf8", env } as const;
  return JSON.parse(execFileSync(PYRO, ["mcp", "config", ...args, "--json"], options)) as Printed;
}

interface Entry {
  readonly command: string;
  readonly args: readonly string[];
  readonly env: Record<string, string>;
}

const serving = ["mcp", "serve", "--profile", "vm-run"];

test("claude-code: JSON of .mcp.json, and the same as a command", () => {
  const { format, content, command } = printed("claude-code", "--profile", "vm-run");
  assert.equal(format, "json");
  const { pyro } = (JSON.parse(content) as { mcpServers: { pyro: Entry } }).mcpServers;
  assert.deepEqual(pyro.args.slice(1), serving);
  assert.deepEqual(pyro.env, { PYRO_HOME: ENVIRONMENT.PYRO_HOME });
  assert.ok(existsSync(pyro.command) && existsSync(pyro.args[0] ?? ""));
  assert.deepEqual(command, [
    ...["claude", "mcp", "add", "pyro", "--scope", "user", "--env", `PYRO_HOME=${ENVIRONMENT.PYRO_HOME}`, "--"],
    ...[pyro.command, ...pyro.args],
  ]);
});

test("codex: a table of TOML, and the same as a command", () => {
  const { format, content, command } = printed("codex", "--profile", "vm-run");
  assert.equal(format, "toml");
  const { pyro } = (parse(content) as unknown as { mcp_servers: { pyro: Entry } }).mcp_servers;
  assert.deepEqual(pyro.args.slice(1), serving);
  assert.deepEqual({ ...pyro.env }, { PYRO_HOME: ENVIRONMENT.PYRO_HOME });
  assert.deepEqual(command?.slice(-5), [...pyro.args]);
});

test("opencode: JSON with the command as one vector", () => {
  const { content, command } = printed("opencode");
  const { pyro } = (JSON.parse(content) as { mcp: { pyro: Record<string, unknown> } }).mcp;
  assert.equal(pyro.type, "local");
  assert.equal(pyro.enabled, true);
  assert.deepEqual((pyro.command as string[]).slice(2), ["mcp", "serve"]);
  assert.deepEqual(pyro.environment, { PYRO_HOME: ENVIRONMENT.PYRO_HOME });
  assert.equal(command, null);
});

test("vscode and cursor: the same entry under each one's own key", () => {
  const vscode = printed("vscode");
  const { pyro } = (JSON.parse(vscode.content) as { servers: { pyro: Entry } }).servers;
  assert.deepEqual(JSON.parse(vscode.command?.[2] ?? ""), { name: "pyro", ...pyro });
  assert.deepEqual((JSON.parse(printed("cursor").content) as { mcpServers: object }).mcpServers, { pyro });
  assert.deepEqual([...pyro.args.slice(1)], ["mcp", "serve"]);
});

interface Check {
  readonly state: string;
  readonly file: string | null;
  readonly works: boolean;
  readonly tools: readonly string[];
  readonly problem: string | null;
}

/** A user's home and a project beside it, in which `check` is called. */
async function agents() {
  const at = await mkdtemp(join(tmpdir(), "pyro-agents-"));
  const [home, project] = [join(at, "home"), join(at, "project")];
  for (const directory of [home, project]) await mkdir(directory);
  const env = { ...ENVIRONMENT, HOME: home };
  const run = (host: string, ...args: string[]) =>
    spawnSync(PYRO, ["mcp", "config", host, "--check", ...args], { encoding: "utf8", env, cwd: project });
  const check = (host: string, ...args: string[]) => {
    const { stdout, status } = run(host, "--json", ...args);
    const { state, file, ...told } = JSON.parse(stdout) as Check;
    return { ...told, found: [status, state, file === null ? null : relative(at, file)] };
  };
  const write = async (name: string, text: string) => {
    await mkdir(dirname(join(at, name)), { recursive: true });
    await writeFile(join(at, name), text);
  };
  return { env, run, check, write, [Symbol.asyncDispose]: () => rm(at, { recursive: true, force: true }) };
}

test("--check finds what was printed and starts it, tells what is another, and says where it looked", async () => {
  await using at = await agents();
  const files = {
    "claude-code": "home/.claude.json",
    codex: "home/.codex/config.toml",
    opencode: "home/.config/opencode/opencode.json",
    vscode: "project/.vscode/mcp.json",
    cursor: "home/.cursor/mcp.json",
  };
  for (const [host, name] of Object.entries(files)) {
    assert.deepEqual(at.check(host).found, [1, "missing", null]);
    const { content, format } = printedWith(at.env, host, "--profile", "vm-run");
    const toml = format === "toml";
    await at.write(
      name,
      toml ? `model = "x"\n\n${content}\n[mcp_servers.other]\ncommand = "y"\n` : `// mine\n${content}`,
    );
    const { found, works, tools, problem } = at.check(host, "--profile", "vm-run");
    assert.deepEqual([found, works, problem], [[0, "same", name], true, null]);
    assert.deepEqual([...tools].sort(), ["process_read", "vm_run"]);
    await at.write(name, toml ? "[mcp_servers.other]\n" : "{}");
    assert.deepEqual(at.check(host).found, [1, "missing", null]);
    await at.write(name, toml ? "[mcp_servers" : "{");
    assert.deepEqual(at.check(host).found, [1, "unreadable", name]);
    await rm(join(dirname(at.env.HOME), name));
  }
  // A variable that is not carried any more makes it another server; it works all the same.
  await at.write(files.codex, printedWith({ ...at.env, PYRO_LOG: "debug" }, "codex").content);
  const { found, works } = at.check("codex");
  assert.deepEqual([found, works], [[1, "other", files.codex], true]);
  const { stdout, status } = at.run("codex");
  assert.match(
    stdout,
    /^\S+config\.toml has pyro with other words .*\nIt runs: .* mcp serve\nIt works: it offers \d+ tools, /,
  );
  assert.equal(status, 1);
});

test("--check knows how each agent may write it, says why what is there does not work, and runs nothing of a repository", async () => {
  await using at = await agents();
  const json = (value: unknown) => JSON.stringify(value);
  const { mcp } = JSON.parse(printedWith(at.env, "opencode").content) as { mcp: { pyro: object } };
  const { enabled: _, ...own } = mcp.pyro as { enabled: boolean };
  await at.write("project/.opencode/opencode.jsonc", json({ mcp: { servers: { pyro: own } } }));
  assert.deepEqual(at.check("opencode").found, [0, "same", "project/.opencode/opencode.jsonc"]);
  await at.write("project/.opencode/opencode.jsonc", json({ mcp: { servers: { pyro: { ...own, disabled: true } } } }));
  assert.match(at.check("opencode").problem ?? "", /switched off/);

  const ran = join(dirname(at.env.HOME), "ran");
  const touch = { command: "touch", args: [ran] };
  await at.write("project/.mcp.json", json({ mcpServers: { pyro: touch } }));
  await at.write("project/.codex/config.toml", `[mcp_servers.pyro]\ncommand = "touch"\nargs = ["${ran}"]\n`);
  for (const [host, file] of [
    ["claude-code", "project/.mcp.json"],
    ["codex", "project/.codex/config.toml"],
  ] as const) {
    const { found, works, problem } = at.check(host);
    assert.deepEqual([found, works], [[1, "other", file], false]);
    assert.match(problem ?? "", /not started: it is the project's file/);
  }
  assert.equal(existsSync(ran), false);
  // Claude Code's own entry for the project goes before the project's file, and the user's is the user's.
  const project = join(dirname(at.env.HOME), "project");
  const ofProject = { projects: { [project]: { mcpServers: { pyro: { command: "/no/such/program" } } } } };
  await at.write("home/.claude.json", json(ofProject));
  const { found, problem } = at.check("claude-code");
  assert.deepEqual(found, [1, "other", "home/.claude.json"]);
  assert.match(problem ?? "", /^It does not work: .*ENOENT/);
  await at.write(
    "home/.cursor/mcp.json",
    json({ mcpServers: { pyro: { command: "sh", args: ["-c", "echo no key >&2; exit 3"] } } }),
  );
  assert.match(at.check("cursor").problem ?? "", /^It does not work: no key$/);
  await at.write("home/.cursor/mcp.json", json({ mcpServers: { pyro: { url: "http://localhost" } } }));
  assert.match(at.check("cursor").problem ?? "", /no command/);
  await at.write("home/.cursor/mcp.json", json({ mcpServers: { pyro: { command: `$\{env:X}/x` } } }));
  assert.match(at.check("cursor").problem ?? "", /only the agent fills in/);
});

test("for a person: what to paste on stdout, where on stderr, and a command that a shell reads back", () => {
  const { stdout, stderr, status } = spawnSync(PYRO, ["mcp", "config", "codex"], {
    encoding: "utf8",
    env: ENVIRONMENT,
  });
  assert.equal(status, 0);
  assert.equal(stdout, printed("codex").content);
  const [first = "", line = ""] = stderr.split("\n");
  assert.match(first, /^pyro: Put this into ~\/\.codex\/config\.toml, or .*, or run:$/);
  const words = execFileSync("sh", ["-c", `printf '%s\\n' ${line}`], { encoding: "utf8" })
    .trimEnd()
    .split("\n");
  assert.deepEqual(words, printed("codex").command);
});

test("every setting that is made here, and the way to the network, hold for the server too; no password does", () => {
  const settings = Object.fromEntries(
    Object.values(SETTINGS).flatMap(({ variable }) => (variable === null ? [] : [[variable, VALUES[variable] ?? ""]])),
  );
  assert.deepEqual(Object.keys(settings).sort(), Object.keys(VALUES).sort(), "a value for each setting");
  const given = {
    ...settings,
    XDG_CONFIG_HOME: "/nonexistent/config",
    https_proxy: "http://proxy.example:3128",
    NO_PROXY: "localhost",
    DOCKER_CONFIG: "/nonexistent/docker",
  };
  const secret = { HTTP_PROXY: "http://me:secret@proxy.example:3128", all_proxy: "me:secret@proxy.example" };
  const other = { AWS_SECRET_ACCESS_KEY: "secret", PYRO_SEED: "7" };
  const { content, withheld } = printedWith({ ...ENVIRONMENT, ...given, ...secret, ...other }, "claude-code");
  const { env } = (JSON.parse(content) as { mcpServers: { pyro: Entry } }).mcpServers.pyro;
  assert.deepEqual(env, { PYRO_HOME: ENVIRONMENT.PYRO_HOME, ...given });
  assert.deepEqual([...withheld].sort(), ["HTTP_PROXY", "all_proxy"]);
  const { stdout, stderr } = spawnSync(PYRO, ["mcp", "config", "codex"], {
    encoding: "utf8",
    env: { ...ENVIRONMENT, ...secret },
  });
  assert.match(stderr, /HTTP_PROXY and all_proxy held a password and was left out|all_proxy and HTTP_PROXY/);
  assert.doesNotMatch(stdout + stderr, /secret/);
});

test("what was printed starts a server with the profile's tools", async () => {
  const { content } = printed("claude-code", "--profile", "vm-run");
  const { command, args, env } = (JSON.parse(content) as { mcpServers: { pyro: Entry } }).mcpServers.pyro;
  const client = new Client({ name: "test", version: "0" });
  await client.connect(new StdioClientTransport({ command, args: [...args], env, cwd: "/" }));
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map(({ name }) => name).sort(), ["process_read", "vm_run"]);
  await client.close();
});

test("directories are passed on to the server, absolute, and --help tells of them", () => {
  const { content } = printed("claude-code", "--allow-read", "src", "--allow-read", "/opt/x y", "--allow-write=out");
  const { args } = (JSON.parse(content) as { mcpServers: { pyro: { args: string[] } } }).mcpServers.pyro;
  assert.deepEqual(args.slice(args.indexOf("serve") + 1), [
    "--allow-read",
    resolve("src"),
    "--allow-read",
    "/opt/x y",
    "--allow-write",
    resolve("out"),
  ]);
  const { stdout } = spawnSync(PYRO, ["mcp", "serve", "--help"], { encoding: "utf8", env: ENVIRONMENT });
  assert.match(stdout, /--allow-read <dir>/);
  assert.match(stdout, /--allow-write <dir>/);
});

test("the project is passed on, absolute", () => {
  const { content } = printed("claude-code", "--project-path", "src", "--no-project-source");
  const { args } = (JSON.parse(content) as { mcpServers: { pyro: { args: string[] } } }).mcpServers.pyro;
  assert.deepEqual(args.slice(args.indexOf("serve") + 1), ["--project-path", resolve("src"), "--no-project-source"]);
});

test("secrets are passed on as references, and a value is refused without a word of it", () => {
  const { content } = printed("claude-code", "--secret", "TOKEN", "--secret", "KEY=file:keys/deploy");
  const { args } = (JSON.parse(content) as { mcpServers: { pyro: { args: string[] } } }).mcpServers.pyro;
  const references = ["--secret", "TOKEN", "--secret", `KEY=file:${resolve("keys/deploy")}`];
  assert.deepEqual(args.slice(args.indexOf("serve") + 1), references);
  const words = ["mcp", "config", "claude-code", "--json", "--secret", "TOKEN=hunter2hunter2"];
  const refused = spawnSync(PYRO, words, { encoding: "utf8", env: ENVIRONMENT });
  assert.equal((JSON.parse(refused.stdout) as { error: { code: string } }).error.code, "SECRET_LITERAL");
  assert.doesNotMatch(refused.stdout + refused.stderr, /hunter2/);
});
