// Secrets of workspaces and runs through the command, the SDK and MCP, in real microVMs: where a value is, and where it is
// not. Every value is random, so that finding it anywhere means that it got there.
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro, type Workspace as SdkWorkspace } from "pyro-mcp";
import { type OwnHome, ownHome, PYRO } from "./harness.ts";
import { Workspace, Workspaces } from "./workspaces.ts";

type Json = Record<string, unknown>;

const value = (name: string) => `${name}-${randomBytes(12).toString("hex")}`;
const TOKEN = value("tok/en+");
const FROM_FILE = value("file");
const TYPED = value("typed");
/** As a test may wait for what comes within moments, ms. */
const SOON_MS = 60_000;

let home: OwnHome;
let cli: Workspaces;
let sdk: Pyro;
let workspace: Workspace;
let handle: SdkWorkspace;
let source: string;

before(async () => {
  home = await ownHome({ templates: true });
  source = join(home.path, "value-of-the-user");
  await writeFile(source, `${FROM_FILE}\n`);
  cli = new Workspaces({ ...home.env, TOKEN });
  sdk = new Pyro({ home: home.path });
  const given = ["--secret", "TOKEN", "--secret", `FILE=file:${source}`, "--secret", "TYPED=-"];
  const made = cli.start(["create", "--name", "keeper", "--ttl-seconds", "0", "--disk-mib", "128", ...given], {
    input: TYPED,
  });
  const { status, stderr } = await made.finished;
  assert.equal(status, 0, stderr.toString());
  workspace = new Workspace(cli, await cli.status("keeper"));
  handle = sdk.workspace("keeper");
});

after(async () => {
  await sdk.close();
  await home[Symbol.asyncDispose]();
});

/** A script in the guest; it has the secrets that it names. */
async function sh(script: string, secretEnv: string[] = []) {
  return await sdk.execWorkspace({ workspaceId: "keeper", command: ["sh", "-c", script], secretEnv });
}

async function read(processId: string) {
  return await sdk.readProcess({ workspaceId: "keeper", processId });
}

async function untilPrinted(processId: string, text: string): Promise<void> {
  const deadline = Date.now() + SOON_MS;
  for (;;) {
    const { stdout } = await read(processId);
    if (stdout.includes(text)) return;
    assert.ok(Date.now() < deadline, `no ${text} in ${stdout.slice(-500)}`);
    await sleep(100);
  }
}

/** Fails for a value in a text, whole or without its first characters. */
function clean(text: string): void {
  for (const secret of [TOKEN, FROM_FILE, TYPED]) assert.ok(!text.includes(secret.slice(8)), text.slice(-500));
}

test("a value is in the guest's memory, in the processes that name it, and nowhere else", async () => {
  const listed = await sh("stat -c '%n %a %U' /run/pyro/secrets /run/pyro/secrets/*; stat -f -c %T /run/pyro/secrets");
  const files = ["FILE", "TOKEN", "TYPED"].map((name) => `/run/pyro/secrets/${name} 400 root\n`);
  assert.equal(listed.stdout, `/run/pyro/secrets 700 root\n${files.join("")}tmpfs\n`);
  assert.deepEqual((await workspace.status()).secrets, [
    { name: "TOKEN", source: "env:TOKEN", hosts: [] },
    { name: "FILE", source: `file:${source}`, hosts: [] },
    { name: "TYPED", source: "stdin", hosts: [] },
  ]);
  const digest = (text: string) => createHash("sha256").update(text).digest("hex");
  const hashes = await sh(
    'printf %s "$TOKEN" | sha256sum; printf %s "$AS" | sha256sum; sha256sum < /run/pyro/secrets/FILE',
    ["TOKEN", "FILE=AS"],
  );
  const expected = [TOKEN, FROM_FILE, `${FROM_FILE}\n`].map((text) => `${digest(text)}  -\n`);
  assert.equal(hashes.stdout, expected.join(""));
  // A value that was printed in the meantime, and a process that has one in its environment.
  const sleeper = await sdk.execWorkspace({
    workspaceId: "keeper",
    command: ["sh", "-c", 'echo "$TOKEN"; cat /run/pyro/secrets/*; exec sleep 1000'],
    secretEnv: ["TOKEN"],
    detach: true,
  });
  await untilPrinted(sleeper.processId, "[redacted:TYPED]");
  const others = await sh("grep -l -e tok/en -e file- -e typed- /proc/[0-9]*/environ | wc -l");
  assert.equal(others.stdout.trim(), "1", "the process that asked is the only one");
  await everywhere();
  await sdk.signalProcess({ workspaceId: "keeper", processId: sleeper.processId, signal: "KILL" });
});

/** Looks for values in all that this home has on disk but the files that hold them, and in the arguments of processes. */
async function everywhere(): Promise<void> {
  const secrets = [TOKEN, FROM_FILE, TYPED].map((text) => text.slice(8));
  let seen = 0;
  const look = async (path: string) => {
    const bytes = await readFile(path).catch(() => Buffer.alloc(0));
    seen++;
    for (const secret of secrets) assert.ok(!bytes.includes(secret), `a value is in ${path}`);
  };
  for (const entry of await readdir(home.path, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const parts = path.slice(home.path.length).split("/");
    // The environments and templates were there before; /secrets/ is where values are.
    if (!entry.isFile() || parts[1] === "environments" || parts[1] === "cache" || path === source) continue;
    if (parts.includes("secrets")) assert.equal((await stat(path)).mode & 0o777, 0o600);
    else await look(path);
  }
  for (const pid of await readdir("/proc")) if (/^\d+$/.test(pid)) await look(`/proc/${pid}/cmdline`);
  assert.ok(seen > 20);
}

test("whatever is printed, however it is cut, comes out without values", async () => {
  const script = `
import base64, sys, time, urllib.parse
value = open("/run/pyro/secrets/TOKEN").read()
out = sys.stdout
def say(text): out.write(text); out.flush()
for cut in range(1, len(value)):
    say(value[:cut]); sys.stderr.write("."); sys.stderr.flush(); say(value[cut:] + "|")
say("\\n" + value[:9]); time.sleep(0.7); say(value[9:])
for before in ("", "a", "ab"):
    say("\\n" + base64.b64encode((before + value).encode()).decode() + "\\n" + base64.urlsafe_b64encode((before + value).encode()).decode())
say("\\n" + urllib.parse.quote(value, safe="") + "\\n" + urllib.parse.quote_plus(value).lower() + "\\n")
say("x" * 200000 + value + "\\n")
`;
  const chunks: string[] = [];
  const running = handle.exec(["python3", "-c", script]);
  for await (const { stream, data } of running) if (stream === "stdout") chunks.push(Buffer.from(data).toString());
  const result = await running;
  assert.equal(result.exitCode, 0, result.stderr);
  assert.equal(result.redacted, true);
  const mark = "[redacted:TOKEN]";
  const lines = chunks.join("").split("\n");
  assert.equal(lines[0], `${mark}|`.repeat(TOKEN.length - 1));
  assert.equal(lines[1], mark);
  // Digits beside it are shared with its neighbours.
  for (const line of lines.slice(2, 8)) assert.match(line, /^.{0,4}\[redacted:TOKEN\].{0,3}$/);
  assert.deepEqual(lines.slice(8), [mark, mark, `${"x".repeat(200_000)}${mark}`, ""]);
  clean(chunks.join(""));

  // The same, read again, from anywhere.
  const { processId } = result;
  const all = await read(processId);
  assert.equal(all.redacted, true);
  for (let cursor = 0; cursor < 3 * TOKEN.length; cursor += 7) {
    const part = await sdk.readProcess({ workspaceId: "keeper", processId, cursor: `c${cursor}`, maxBytes: 200 });
    clean(part.stdout);
  }
  const logged = (await workspace.logs()).find((entry) => entry.process_id === processId);
  assert.equal(logged?.redacted, true);
  clean(JSON.stringify(logged));
  clean((await workspace.exec(["sh", "-c", "cat /run/pyro/secrets/*"])).stdout.toString());
  assert.equal((await sh("echo nothing")).redacted, false);
});

test("a value whose printing the daemon does not survive is none the less replaced", async () => {
  const begun = await sdk.execWorkspace({
    workspaceId: "keeper",
    command: [
      "sh",
      "-c",
      `printf %s "before $(cut -c1-12 /run/pyro/secrets/TOKEN)"; until [ -e /tmp/go ]; do sleep 0.1; done; cut -c13- /run/pyro/secrets/TOKEN`,
    ],
    detach: true,
  });
  await untilPrinted(begun.processId, "before ");
  assert.equal((await read(begun.processId)).stdout, "before ");
  process.kill(await home.pid(), "SIGKILL");
  await sh("touch /tmp/go");
  await untilPrinted(begun.processId, "[redacted:TOKEN]");
  assert.equal((await read(begun.processId)).stdout, "before [redacted:TOKEN]\n");
});

test("a shell shows no value: bytes, text, screen, and what is typed into it", async () => {
  await using shell = await handle.shell.open({ cols: 20, rows: 12, secretEnv: ["TOKEN"] });
  await shell.write('echo "[$TOKEN]"; cat /run/pyro/secrets/FILE');
  await shell.write(`echo ${TYPED}`);
  const deadline = Date.now() + SOON_MS;
  for (;;) {
    const { output, redacted } = await shell.read({ plain: true });
    clean(output);
    if (output.split("[redacted:TYPED]").length > 2 && output.includes("[redacted:FILE]")) {
      assert.equal(redacted, true);
      break;
    }
    assert.ok(Date.now() < deadline, output);
    await sleep(100);
  }
  clean((await shell.read({})).output);
  const shown = await shell.read({ screen: true });
  assert.match(shown.output.replaceAll("\n", ""), /\[redacted:TYPED\]/);
  clean(shown.output.replaceAll("\n", ""));
  assert.equal(shown.redacted, true);
});

test("services: their variables, those of what looks whether they are ready, logs and failures", async () => {
  const web = await handle.service.start({
    serviceName: "web",
    command: 'echo "started with $TOKEN"; exec sleep 1000',
    secretEnv: ["TOKEN"],
    readyCommand: 'test -n "$TOKEN"',
  });
  assert.equal(web.started?.state, "running");
  const log = await web.logs();
  assert.deepEqual([log.output, log.redacted], ["started with [redacted:TOKEN]\n", true]);
  await web.stop({ graceSeconds: 0 });
  const failing = handle.service.start({
    serviceName: "failing",
    command: 'echo "no $TOKEN"; exit 3',
    secretEnv: ["TOKEN"],
    readyFile: "/nowhere",
  });
  const error = (await failing.catch((thrown: unknown) => thrown)) as { code: string; message: string; details: Json };
  assert.equal(error.code, "SERVICE_FAILED");
  assert.match(JSON.stringify(error.details), /no \[redacted:TOKEN\]/);
  clean(error.message + JSON.stringify(error.details));
});

test("files: any part of one, their names, and what a patch is refused with", async () => {
  await sh(
    'printf "%s" "before:$(cat /run/pyro/secrets/TOKEN):behind" > cut; { echo first; cat /run/pyro/secrets/FILE; echo last; } > lines; touch "named $(cat /run/pyro/secrets/TYPED)"',
  );
  const length = `before:${TOKEN}:behind`.length;
  for (let offset = 0; offset < length; offset += 3) {
    for (const maxBytes of [1, 5, 40]) {
      const { content, redacted, nextOffset } = await handle.file.read("cut", { offset, maxBytes });
      const end = Math.min(length, offset + maxBytes);
      const inside = offset < 7 + TOKEN.length && end > 7;
      assert.equal(redacted, inside);
      assert.equal(content.includes("[redacted:TOKEN]"), inside);
      assert.equal(nextOffset, end < length ? end : null);
    }
  }
  const whole = await handle.file.read("cut");
  assert.equal(whole.content, "before:[redacted:TOKEN]:behind");
  const line = await handle.file.read("lines", { lines: "2:2" });
  assert.deepEqual([line.content, line.redacted], ["[redacted:FILE]\n", true]);
  const names = (await handle.file.list()).entries.map(({ path }) => path);
  assert.ok(names.includes("/workspace/named [redacted:TYPED]"), names.join(" "));
  const patch = "--- a/lines\n+++ b/lines\n@@ -1,3 +1,3 @@\n first\n-nothing\n+new\n last\n";
  const refused = (await handle.patch.apply(patch).catch((thrown: unknown) => thrown)) as {
    code: string;
    message: string;
  };
  assert.equal(refused.code, "PATCH_REJECTED");
  assert.match(refused.message, /\[redacted:FILE\]/);
  clean(JSON.stringify(refused));
});

test("a stopped workspace has its secrets again, wherever they once came from", async () => {
  await rm(source);
  await sdk.updateWorkspace({ workspaceId: "keeper", ttlSeconds: 1 });
  await workspace.untilState("stopped");
  await sdk.updateWorkspace({ workspaceId: "keeper", ttlSeconds: 3600 });
  const again = await sh('test "$(cat /run/pyro/secrets/FILE)" = "$FILE" && stat -c %a /run/pyro/secrets/TOKEN', [
    "FILE",
  ]);
  assert.equal(again.stdout, "400\n");
});

test("what cannot be is refused in words that repeat no value", async () => {
  const literal = value("literal");
  const long = join(home.path, "too-long");
  await writeFile(long, randomBytes(65_537));
  const cases: [string[], string][] = [
    [["--secret", `A=${literal}`], "SECRET_LITERAL"],
    [["--secret", `A=env:${literal}`], "SECRET_LITERAL"],
    [["--secret", literal], "SECRET_INVALID"],
    [["--secret", "A=env:NOT_THERE"], "SECRET_UNREADABLE"],
    [["--secret", "A=file:/not/there"], "SECRET_UNREADABLE"],
    [["--secret", `A=file:${long}`], "SECRET_INVALID"],
    [["--secret", "TOKEN", "--secret", "TOKEN"], "SECRET_INVALID"],
  ];
  for (const [args, code] of cases) {
    const { status, stdout, stderr } = await cli.finish(["create", "--json", ...args]);
    assert.notEqual(status, 0);
    const said = stdout.toString() + stderr;
    assert.equal((JSON.parse(stdout.toString()) as { error: Json }).error.code, code, said);
    assert.ok(!said.includes(literal.slice(8)), said);
  }
  const unknown = await cli.refused(["exec", "keeper", "--secret-env", "TOKE", "--", "true"], "SECRET_UNKNOWN");
  assert.match(unknown.message, /Did you mean TOKEN\?/);
  const short = sdk.createWorkspace({ secrets: [{ name: "SHORT", value: "12345" }] });
  await assert.rejects(short, { code: "SECRET_INVALID" });
  const strange = sdk.createWorkspace({ secrets: [{ name: "../x", value: literal }] });
  await assert.rejects(strange, (error: Error) => !error.message.includes(literal));
});

test("a run has its own", async () => {
  const result = await sdk.run({
    command: 'echo "$A"; cat /run/pyro/secrets/B',
    secrets: [
      { name: "A", value: TYPED },
      { name: "B", value: FROM_FILE },
    ],
    secretEnv: ["A"],
  });
  assert.deepEqual([result.stdout, result.redacted], ["[redacted:A]\n[redacted:B]", true]);
});

test("tools name the secrets of their server, and hold no value", async () => {
  const client = new Client({ name: "test", version: "1" });
  const env = { PATH: process.env.PATH ?? "", TMPDIR: process.env.TMPDIR ?? "/tmp", ...home.env, OURS: TOKEN };
  const args = [PYRO, "mcp", "serve", "--profile", "workspace-full", "--secret", "TOKEN=env:OURS"];
  const command = { command: process.execPath, args, env: env as Record<string, string>, stderr: "inherit" } as const;
  await client.connect(new StdioClientTransport(command));
  const call = async (name: string, input: Json) => {
    const result = await client.callTool({ name, arguments: input });
    clean(JSON.stringify(result));
    const [text] = result.content as { text: string }[];
    return JSON.parse(text?.text ?? "") as Json & { error?: Json };
  };
  try {
    const { tools } = await client.listTools();
    const create = tools.find(({ name }) => name === "workspace_create");
    const given = (create?.inputSchema.properties as Record<string, Json> | undefined)?.secrets;
    assert.deepEqual(given?.items, { type: "string", maxLength: 256 });
    const command = ["sh", "-c", 'echo "$TOKEN"'];
    const made = await call("workspace_create", { name: "tools", seed: "empty", secrets: ["TOKEN"] });
    assert.deepEqual(made.secrets, [{ name: "TOKEN", source: "env:OURS", hosts: [] }]);
    const said = await call("workspace_exec", { workspace_id: "tools", command, secret_env: ["TOKEN"] });
    assert.deepEqual([said.stdout, said.redacted], ["[redacted:TOKEN]\n", true]);
    const read = await call("process_read", { workspace_id: "tools", process_id: said.process_id });
    assert.equal(read.stdout, "[redacted:TOKEN]\n");
    const literal = value("literal");
    for (const [secrets, code] of [
      [["OTHER"], "SECRET_UNKNOWN"],
      [[`TOKEN=${literal}`], "SECRET_LITERAL"],
      [[{ name: "TOKEN", value: literal }], "INVALID_INPUT"],
    ] as const) {
      const { error } = await call("workspace_create", { secrets });
      assert.equal(error?.code, code);
      assert.ok(!JSON.stringify(error).includes(literal));
    }
  } finally {
    await client.close();
  }
});
