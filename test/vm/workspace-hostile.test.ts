// Archives that try to write where they may not, that are damaged, or that are too much: each fails whole, with the code
// of what is wrong with it, from the command line, the SDK and over MCP. The tree stays as it was, and of a workspace
// that could not be seeded nothing is left.
import assert from "node:assert/strict";
import { symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { type ErrorCode, Pyro, PyroError } from "pyro-mcp";
import { archive, type Entry, paxPath } from "./archives.ts";
import { ownHome, PYRO, pyro } from "./harness.ts";
import { untilAtRest } from "./remains.ts";
import { scratch, type Workspace, Workspaces } from "./workspaces.ts";

interface Hostile {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly code: ErrorCode;
  /** Ends the file's name; .tar when left out. */
  readonly suffix?: string;
  /** Wrong only where the workspace has something in the way. */
  readonly onlyPush?: boolean;
}

const MIB = 1 << 20;
/** What every call here may send at most. */
const MOST = { maxTransferMib: 16, maxEntries: 1000 } as const;

/** Every archive begins with what is good and would be seen: a new file, and one in the place of an old one. */
const GOOD: readonly Entry[] = [
  { name: "innocent", data: "new\n" },
  { name: "kept", data: "replaced\n" },
];
const OWNED = { data: "owned\n" } as const;

function of(...entries: Entry[]): Buffer {
  return archive([...GOOD, ...entries]);
}

const whole = of({ name: "large", data: Buffer.alloc(100_000, "x") });

const ARCHIVES: readonly Hostile[] = [
  { name: "an absolute name", code: "PATH_OUTSIDE", bytes: of({ name: "/etc/owned", ...OWNED }) },
  {
    name: "an absolute name in an extended header",
    code: "PATH_OUTSIDE",
    bytes: of(paxPath("/etc/owned"), { name: "x", ...OWNED }),
  },
  { name: "a name that climbs out", code: "PATH_OUTSIDE", bytes: of({ name: "../owned", ...OWNED }) },
  {
    name: "a name that climbs out from below",
    code: "PATH_OUTSIDE",
    bytes: of({ name: "a/b/../../../owned", ...OWNED }),
  },
  { name: "a name that is the parent", code: "PATH_OUTSIDE", bytes: of({ name: "..", type: "5" }) },
  {
    name: "a parent that the archive made a link to elsewhere",
    code: "PATH_OUTSIDE",
    bytes: of({ name: "link", type: "2", link: "/etc" }, { name: "link/owned", ...OWNED }),
  },
  {
    name: "a parent that the archive made a link to a place inside",
    code: "PATH_OUTSIDE",
    bytes: of({ name: "d", type: "5" }, { name: "link", type: "2", link: "d" }, { name: "link/owned", ...OWNED }),
  },
  {
    name: "a parent that is a link in the workspace",
    code: "PATH_OUTSIDE",
    onlyPush: true,
    bytes: of({ name: "out/owned", ...OWNED }),
  },
  {
    name: "a hard link to an absolute name",
    code: "PATH_OUTSIDE",
    bytes: of({ name: "owned", type: "1", link: "/etc/passwd" }),
  },
  {
    name: "a hard link that climbs out",
    code: "PATH_OUTSIDE",
    bytes: of({ name: "owned", type: "1", link: "../etc/passwd" }),
  },
  {
    name: "a hard link to what is not in the archive",
    code: "ARCHIVE_INVALID",
    bytes: of({ name: "owned", type: "1", link: "secret" }),
  },
  { name: "a character device", code: "ARCHIVE_INVALID", bytes: of({ name: "owned", type: "3" }) },
  { name: "a block device", code: "ARCHIVE_INVALID", bytes: of({ name: "owned", type: "4" }) },
  { name: "a fifo", code: "ARCHIVE_INVALID", bytes: of({ name: "owned", type: "6" }) },
  {
    name: "a file over a directory",
    code: "PATH_CONFLICT",
    onlyPush: true,
    bytes: of({ name: "directory", ...OWNED }),
  },
  { name: "a directory over a file", code: "PATH_CONFLICT", onlyPush: true, bytes: of({ name: "other", type: "5" }) },
  { name: "one that ends in the middle", code: "ARCHIVE_INVALID", bytes: whole.subarray(0, 50_000) },
  { name: "a header that is damaged", code: "ARCHIVE_INVALID", bytes: of({ name: "owned", broken: true, ...OWNED }) },
  {
    name: "a length that is not there",
    code: "ARCHIVE_INVALID",
    bytes: of({ name: "owned", size: 12 * MIB, ...OWNED }),
  },
  { name: "no archive at all", code: "ARCHIVE_INVALID", bytes: Buffer.from("this is no archive ".repeat(500)) },
  {
    name: "a compressed one that is not compressed",
    suffix: ".tar.gz",
    code: "ARCHIVE_INVALID",
    bytes: Buffer.from("no gzip ".repeat(500)),
  },
  {
    name: "a compressed one that ends in the middle",
    suffix: ".tgz",
    code: "ARCHIVE_INVALID",
    bytes: gzipSync(whole).subarray(0, 200),
  },
  {
    name: "a bomb",
    suffix: ".tar.gz",
    code: "LIMIT_EXCEEDED",
    bytes: gzipSync(of({ name: "owned", data: Buffer.alloc(64 * MIB) })),
  },
  {
    name: "too many entries",
    code: "LIMIT_EXCEEDED",
    bytes: of(...Array.from({ length: MOST.maxEntries }, (_, index) => ({ name: `owned-${index}` }))),
  },
];

/** Of /workspace, all that an archive could change. */
const CONTENT = "find . -printf '%p %y %m %n %s %T@ %l\\n' | sort; find . -type f | sort | xargs sha256sum";
/** Anywhere else, every file that is newer than the mark, or has a name that none but an archive gives. */
const ELSEWHERE =
  "find / -xdev \\( -newer /root/mark -o -name 'owned*' \\) ! -type d ! -path /root/mark | sort; ls -A / /tmp /run";

async function everything(workspace: Workspace): Promise<string> {
  return await workspace.sh(`${CONTENT}; ${ELSEWHERE}`);
}

test("hostile archives fail whole, from every face", { timeout: 900_000 }, async (context) => {
  await using home = await ownHome({ templates: true });
  await pyro(["env", "list"], { env: home.env });
  const all = new Workspaces(home.env);
  await using tree = await scratch();
  const paths = new Map<Hostile, string>();
  for (const [index, hostile] of ARCHIVES.entries()) {
    const path = join(tree.path, `archive-${index}${hostile.suffix ?? ".tar"}`);
    await writeFile(path, hostile.bytes);
    paths.set(hostile, path);
  }
  await using old = await scratch();
  for (const name of ["kept", "other", "secret"]) await writeFile(join(old.path, name), `${name}\n`);
  await symlink("/tmp", join(old.path, "out"));

  await using workspace = await all.create(["--seed-path", old.path]);
  await workspace.sh("mkdir /workspace/directory && touch /workspace/directory/x && sleep 1 && touch /root/mark");
  const before = await everything(workspace);
  const content = await workspace.sh(CONTENT);
  const unchanged = async (name: string) => assert.equal(await everything(workspace), before, name);
  const onlyOne = async () => await untilAtRest(home, () => ({ vms: 1, runs: 0, workspaces: 1 }));
  const most = ["--max-transfer-mib", String(MOST.maxTransferMib), "--max-entries", String(MOST.maxEntries)];

  await context.test("pushed by the command", async () => {
    for (const [{ name, code }, path] of paths) {
      const error = await all.refused(["sync", "push", workspace.id, path, ...most]);
      assert.equal(error.code, code, `${name}: ${error.message}`);
      assert.equal(await workspace.sh(CONTENT), content, name);
    }
    await unchanged("pushed by the command");
  });

  await context.test("as the seed of a new workspace, by the command", async () => {
    for (const [{ name, code, onlyPush }, path] of paths) {
      if (onlyPush) continue;
      const error = await all.refused(["create", "--seed-path", path, ...most]);
      assert.equal(error.code, code, `${name}: ${error.message}`);
    }
    assert.deepEqual(
      (await all.list()).map(({ workspace_id }) => workspace_id),
      [workspace.id],
    );
    await onlyOne();
  });

  await context.test("by the SDK", async () => {
    await using client = new Pyro({ home: home.path });
    const withCode = (name: string, code: ErrorCode) => (thrown: unknown) => {
      assert.ok(thrown instanceof PyroError, String(thrown));
      assert.equal(thrown.code, code, `${name}: ${thrown.message}`);
      assert.notEqual(thrown.hint, "");
      return true;
    };
    for (const [{ name, code, onlyPush }, path] of paths) {
      const input = { workspaceId: workspace.id, sourcePath: path, ...MOST };
      await assert.rejects(client.syncPushWorkspace(input), withCode(name, code), name);
      if (!onlyPush)
        await assert.rejects(client.createWorkspace({ seedPath: path, ...MOST }), withCode(name, code), name);
    }
    await unchanged("by the SDK");
    await onlyOne();
  });

  await context.test("over MCP", async () => {
    const mcp = new Client({ name: "test", version: "1" });
    const env = { ...(process.env as Record<string, string>), ...(home.env as Record<string, string>) };
    const args = [PYRO, "mcp", "serve", "--allow-read", tree.path];
    await mcp.connect(new StdioClientTransport({ command: process.execPath, args, env, stderr: "inherit" }));
    try {
      const refused = async (name: string, tool: string, input: Record<string, unknown>) => {
        const limits = { max_transfer_mib: MOST.maxTransferMib, max_entries: MOST.maxEntries };
        const result = await mcp.callTool({ name: tool, arguments: { ...input, ...limits } });
        const [text] = result.content as { text: string }[];
        assert.equal(result.isError, true, `${name}: ${text?.text}`);
        return (JSON.parse(text?.text ?? "") as { error: { code: string; message: string } }).error;
      };
      for (const [{ name, code, onlyPush }, path] of paths) {
        const push = { workspace_id: workspace.id, source_path: path };
        const error = await refused(name, "workspace_sync_push", push);
        assert.equal(error.code, code, `${name}: ${error.message}`);
        if (onlyPush) continue;
        const create = await refused(name, "workspace_create", { seed_path: path });
        assert.equal(create.code, code, `${name}: ${create.message}`);
      }
    } finally {
      await mcp.close();
    }
    await unchanged("over MCP");
    await onlyOne();
  });

  // The same path, without what was wrong with it, does go in.
  const good = join(tree.path, "good.tar");
  await writeFile(good, archive(GOOD));
  assert.equal((await workspace.push(good)).entry_count, GOOD.length);
  assert.equal(await workspace.sh("cat innocent kept"), "new\nreplaced\n");
});
