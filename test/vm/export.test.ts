// Files of a workspace on their way out, from a real microVM and by all three faces: as they were, whole, and nothing at all
// where something fails or somebody dies in the middle.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { lstat, mkdir, readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro } from "pyro-mcp";
import type { OutputOf } from "../../src/operations/table.ts";
import { ownHome, PYRO, sharedHome, startProgram, VMM } from "./harness.ts";
import { scratch, type Workspace, Workspaces } from "./workspaces.ts";

type Exported = OutputOf<"workspace.export">;

const all = new Workspaces();
const pyro = new Pyro();
const client = new Client({ name: "test", version: "1" });
let ground: { readonly path: string } & AsyncDisposable;
let workspace: Workspace;
const place = (name: string) => join(ground.path, name);

before(async () => {
  ground = await scratch();
  workspace = await all.create();
  await workspace.sh(`
    mkdir -p t/sub t/empty && cd t && echo content > file && chmod 4754 file && ln file hard && ln -s ../nowhere link
    touch -d '2020-02-02 02:02:02.123456' file && printf x > sub/'odd name' && printf y > sub/"$(printf 'o\\377\\376\\nd')"
    truncate -s 20M holes && printf end >> holes && mkfifo fifo && chmod 550 sub && touch -d '2019-01-01' sub
    ln -s /etc out && printf 'n%.0s' $(seq 200) > name && cp name "$(cat name)"`);
  await mkdir(place("tree"));
  execFileSync("git", ["init", "-q", place("tree")]);
  const env = { PATH: process.env.PATH ?? "", PYRO_HOME: sharedHome(), PYRO_POOL_SIZE: "0" };
  await client.connect(
    new StdioClientTransport({
      command: process.execPath,
      args: [PYRO, "mcp", "serve"],
      env,
      cwd: place("tree"),
      stderr: "inherit",
    }),
  );
});

after(async () => {
  await client.close();
  await pyro.close();
  await workspace[Symbol.asyncDispose]();
  execFileSync("chmod", ["-R", "u+rwX", ground.path]);
  await ground[Symbol.asyncDispose]();
});

async function checkTree(top: string): Promise<void> {
  const file = await stat(join(top, "file"));
  // setuid is the guest's business.
  assert.deepEqual([file.mode & 0o7777, Math.floor(file.mtimeMs), file.nlink], [0o754, 1_580_608_922_123, 2]);
  assert.equal((await stat(join(top, "hard"))).ino, file.ino);
  assert.equal(file.uid, process.getuid?.());
  assert.equal(await readlink(join(top, "link")), "../nowhere");
  assert.equal(await readlink(join(top, "out")), "/etc");
  assert.equal(await readFile(join(top, "sub", "odd name"), "utf8"), "x");
  const odd = Buffer.concat([Buffer.from(`${top}/sub/o`), Buffer.from([0xff, 0xfe]), Buffer.from("\nd")]);
  assert.equal(await readFile(odd, "utf8"), "y");
  const sub = await stat(join(top, "sub"));
  assert.deepEqual([sub.mode & 0o7777, sub.mtimeMs], [0o550, 1_546_300_800_000]);
  const holes = await stat(join(top, "holes"));
  assert.deepEqual([holes.size, holes.blocks < 200], [20 * 2 ** 20 + 3, true]);
  assert.equal(await readFile(join(top, "n".repeat(200)), "utf8"), "n".repeat(200));
  assert.deepEqual(
    (await readdir(top)).sort(),
    ["empty", "file", "hard", "holes", "link", "name", "n".repeat(200), "out", "sub"].sort(),
  );
}

test("a directory, as all three faces bring it out", async () => {
  const told = await all.ask<Exported>(["export", workspace.id, "t", "--output", place("cli")]);
  assert.deepEqual(
    [
      told.workspace_path,
      told.output_path,
      told.artifact_type,
      told.entry_count,
      told.skipped_count,
      told.skipped[0]?.path,
    ],
    ["/workspace/t", place("cli"), "directory", 12, 1, "t/fifo"],
  );
  await checkTree(place("cli"));
  await pyro.workspace(workspace.id).export("/workspace/t", place("sdk"));
  await checkTree(place("sdk"));
  const { structuredContent, isError, content } = await client.callTool({
    name: "workspace_export",
    arguments: { workspace_id: workspace.id, path: "t", output_path: ".pyro/out/mcp" },
  });
  assert.notEqual(isError, true, JSON.stringify(content));
  assert.equal((structuredContent as Exported).entry_count, 12);
  await checkTree(join(place("tree"), ".pyro", "out", "mcp"));
});

test("a file, a link, and what is refused, with nothing left", async () => {
  const file = await all.ask<Exported>(["export", workspace.id, "t/file", "--output", place("file")]);
  assert.deepEqual([file.artifact_type, file.entry_count, file.bytes_written], ["file", 1, 8]);
  assert.equal(await readFile(place("file"), "utf8"), "content\n");
  assert.equal(
    (await all.ask<Exported>(["export", workspace.id, "t/out", "--output", place("link")])).artifact_type,
    "symlink",
  );
  assert.ok((await lstat(place("link"))).isSymbolicLink());
  const before = await readdir(ground.path);
  const refused = (path: string, output: string, ...more: string[]) =>
    all.refused(["export", workspace.id, path, "--output", output, ...more]).then(({ code }) => code);
  assert.equal(await refused("t", place("file")), "OUTPUT_EXISTS");
  assert.equal(await refused("t/none", place("none")), "FILE_NOT_FOUND");
  assert.equal(await refused("../etc", place("none")), "PATH_OUTSIDE");
  assert.equal(await refused("t/out/passwd", place("none")), "PATH_OUTSIDE");
  assert.equal(await refused("t/fifo", place("none")), "FILE_WRONG_KIND");
  assert.equal(await refused("t", place("none"), "--max-entries", "3"), "LIMIT_EXCEEDED");
  assert.equal(await refused("t", place("none"), "--max-transfer-mib", "1"), "LIMIT_EXCEEDED");
  assert.equal(await refused("t", join(place("no"), "where")), "HOST_IO_FAILED");
  assert.equal(await refused("t", join(place("file"), "below")), "HOST_IO_FAILED");
  const outside = await client.callTool({
    name: "workspace_export",
    arguments: { workspace_id: workspace.id, path: "t", output_path: place("mcp") },
  });
  assert.match(JSON.stringify(outside.content), /HOST_PATH_FORBIDDEN/);
  assert.deepEqual(await readdir(ground.path), before);
});

test("a host's disk that is full is an error, and nothing stays on it", async () => {
  await mkdir(place("small"));
  await workspace.sh("head -c 4000000 /dev/urandom > noise");
  const script = `mount -t tmpfs -o size=1m tmpfs "$1" && cd "$1" && "$2" "$3" workspace export "$4" noise --output out --json; echo "$?"; ls -A "$1"`;
  const ran = await startProgram("unshare", [
    "--user",
    "--map-current-user",
    "--keep-caps",
    "--mount",
    "sh",
    "-c",
    script,
    "sh",
    place("small"),
    process.execPath,
    PYRO,
    workspace.id,
  ]).finished;
  assert.match(ran.stdout.toString(), /"HOST_DISK_FULL".*\n1\n$/s, `${ran.stdout}${ran.stderr}`);
});

test("whoever dies in the middle leaves nothing at the output", { timeout: 300_000 }, async () => {
  await using home = await ownHome({ templates: true });
  const own = new Workspaces(home.env);
  await using one = await own.create();
  await one.sh("truncate -s 12G large");
  const begin = async (output: string) => {
    const started = own.start(["export", one.id, "large", "--output", join(place("killed"), output), "--json"]);
    // Its bytes come.
    for (let left = 600; ; left--) {
      const [temporary] = (await readdir(place("killed"))).filter((name) => name.startsWith(`.${output}.`));
      if (temporary !== undefined) break;
      assert.ok(left > 0 && started.child.exitCode === null, "the export did not begin");
      await sleep(50);
    }
    await sleep(300);
    return started;
  };
  await mkdir(place("killed"));
  const interrupted = await begin("interrupted");
  interrupted.child.kill("SIGINT");
  assert.equal((await interrupted.finished).status, 130);
  assert.deepEqual(await readdir(place("killed")), []);

  const daemonless = await begin("daemonless");
  process.kill(await home.pid(), "SIGKILL");
  const lost = await daemonless.finished;
  assert.match(`${lost.status} ${lost.stdout}`, /^1 .*"DAEMON_UNREACHABLE"/s);
  assert.deepEqual(await readdir(place("killed")), []);

  const killed = await begin("killed");
  killed.child.kill("SIGKILL");
  await killed.finished;
  assert.ok((await readdir(place("killed"))).every((name) => name.startsWith(".killed.pyro-")));
  execFileSync("find", [place("killed"), "-mindepth", "1", "-delete"]);

  const vmless = await begin("vmless");
  for (const pid of await home.processes(VMM)) process.kill(pid, "SIGKILL");
  const gone = await vmless.finished;
  assert.match(`${gone.status} ${gone.stdout}`, /^1 .*"MICROVM_LOST"/s);
  assert.deepEqual(await readdir(place("killed")), []);
  // And the workspace is none the worse.
  await one.untilState("stopped");
  await one.sh("echo still there > small");
  await own.ask(["export", one.id, "small", "--output", join(place("killed"), "small")]);
});
