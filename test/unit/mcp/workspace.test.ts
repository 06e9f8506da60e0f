// Workspaces over MCP as an agent meets them: the official client over stdio, against a daemon whose answers the test
// chooses. Results that fit, host paths, waits that end, and what is cancelled with what.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { PyroError } from "../../../src/errors/error.ts";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { type Conversation, type Home, temporaryHome } from "../client/fake-daemon.ts";
import { answerRows, control, execOutput, type Json, processFacts, workspaceRecord } from "../client/fake-rows.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");
const RESULT_BYTES = 9000;

interface Asked {
  readonly signal?: AbortSignal;
  readonly onprogress?: (progress: { message?: string }) => void;
}

class Session implements AsyncDisposable {
  readonly client: Client;

  private constructor(client: Client) {
    this.client = client;
  }

  static async open(home: Home, cwd = home.directory, profile = "workspace-full"): Promise<Session> {
    const client = new Client({ name: "test", version: "1" });
    const env = { PATH: process.env.PATH ?? "", PYRO_HOME: home.directory, HOME: "/nowhere" };
    const args = [PYRO, "mcp", "serve", "--profile", profile];
    await client.connect(new StdioClientTransport({ command: process.execPath, args, env, cwd, stderr: "inherit" }));
    return new Session(client);
  }

  async ask(name: string, args: Json, options: Asked = {}) {
    const result = await this.client.callTool({ name, arguments: args }, options);
    const [text] = result.content as { text: string }[];
    const told = JSON.parse(text?.text ?? "") as Json;
    const size = Buffer.byteLength(
      JSON.stringify({ content: result.content, structuredContent: result.structuredContent }),
    );
    return { result, told, size };
  }

  /** A result, which says the same twice and fits. */
  async call(name: string, args: Json, options: Asked = {}): Promise<Json> {
    const { result, told, size } = await this.ask(name, args, options);
    assert.notEqual(result.isError, true, JSON.stringify(told));
    assert.deepEqual(result.structuredContent, told);
    if (args.max_bytes === undefined) assert.ok(size <= RESULT_BYTES, `${size} bytes`);
    return told;
  }

  async fails(name: string, args: Json, options: Asked = {}): Promise<Json> {
    const { result, told, size } = await this.ask(name, args, options);
    assert.equal(result.isError, true, JSON.stringify(told));
    assert.ok(size <= RESULT_BYTES, `${size} bytes`);
    const error = told.error as Json;
    assert.doesNotMatch(String(error.hint), /\bpyro\b|--/);
    return error;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.client.close();
  }
}

/** A work tree with a file, outside of any other. */
async function workTree() {
  const directory = await mkdtemp(join(tmpdir(), "pyro-tree-"));
  await mkdir(join(directory, ".git"));
  await writeFile(join(directory, "file"), "content");
  return { directory, [Symbol.asyncDispose]: () => rm(directory, { recursive: true, force: true }) };
}

/** Reads what is sent of the host to its end. */
async function received(talk: Conversation): Promise<{ bytes: number; end: Json }> {
  let bytes = 0;
  for (;;) {
    const frame = await talk.next();
    if (frame === undefined) throw new Error("the caller has gone");
    if (frame.type === ToDaemon.Stdin) bytes += frame.payload.length;
    if (frame.type === ToDaemon.UploadEnd)
      return { bytes, end: JSON.parse(Buffer.from(frame.payload).toString()) as Json };
  }
}

test("a profile says what it is for, and schemas hold for what is inside", async () => {
  await using home = await temporaryHome();
  await using core = await Session.open(home, home.directory, "workspace-core");
  await using run = await Session.open(home, home.directory, "vm-run");
  assert.match(core.client.getInstructions() ?? "", /workspace_sync_push/);
  assert.doesNotMatch(run.client.getInstructions() ?? "", /workspace_/);
  const { tools } = await core.client.listTools();
  const hints = Object.fromEntries(
    tools.map(({ name, annotations: a }) => [name, [a?.readOnlyHint, a?.destructiveHint, a?.idempotentHint]]),
  );
  assert.deepEqual(hints.workspace_delete, [false, true, false]);
  assert.deepEqual(hints.workspace_exec, [false, false, false]);
  assert.deepEqual(hints.workspace_status, [true, false, true]);
  const logs = tools.find(({ name }) => name === "workspace_logs");
  assert.deepEqual(Object.keys(logs?.inputSchema.properties ?? {}), ["workspace_id", "limit", "cursor", "max_bytes"]);
  const { entries } = (logs?.outputSchema?.properties ?? {}) as { entries?: { items: { properties: Json } } };
  const properties = entries?.items.properties as Record<string, Json>;
  assert.equal(properties.stdout_lossy?.type, "boolean");
  assert.equal(properties.stdout_encoding?.const, "utf-8");
  assert.match(String(properties.omitted_bytes?.description), /left out/);
  for (const { name, outputSchema } of tools) {
    assert.doesNotMatch(JSON.stringify(outputSchema), /"additionalProperties":false/, name);
  }
});

test("exec answers within its wait with a cursor; cancelled it ends, dropped it goes on, detached its stdin stays open for who may write to it", async () => {
  await using home = await temporaryHome();
  const heads: Json[] = [];
  const ended = Promise.withResolvers<unknown>();
  const dropped = Promise.withResolvers<unknown>();
  const hanging = Promise.withResolvers<void>();
  await using _fake = await answerRows(home, {
    "workspace.exec": async ({ command, wait_seconds, workspace_id }, talk) => {
      const { attached, stdin_closed } = talk.head;
      heads.push({ attached, stdin_closed, wait_seconds, workspace_id });
      talk.json(ToClient.Event, { type: "started", workspace_id: "ws_x", process_id: "proc_3" });
      if (command === "cancel") {
        talk.json(ToClient.Event, { type: "progress", message: "up", stage: "s", fraction: null });
        ended.resolve(await control(talk));
        return talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
      }
      if (command === "drop") {
        hanging.resolve();
        return dropped.resolve(await control(talk));
      }
      talk.output("stdout", 20_000, Buffer.alloc(20_000, 120));
      talk.output("stderr", 20_003, Buffer.from([0x61, 0xff, 0x62]));
      talk.finish(
        execOutput("ws_x", { process_id: "proc_3", state: "running", exit_code: null, next_cursor: "20003" }),
      );
    },
  });
  const session = await Session.open(home);
  const result = await session.call("workspace_exec", { workspace_id: "fix", command: "make", wait_seconds: 7 });
  assert.deepEqual([result.state, result.next_cursor, result.process_id], ["running", "20003", "proc_3"]);
  assert.match(String(result.stdout), /^x+\n\[\d+ bytes omitted\]\nx+$/);
  assert.deepEqual([result.stderr, result.stderr_lossy], ["a\ufffdb", true]);
  const [head] = heads;
  assert.deepEqual([head?.attached, head?.stdin_closed, head?.workspace_id], [false, true, "fix"]);
  assert.ok(Number(head?.wait_seconds) > 5 && Number(head?.wait_seconds) <= 7, String(head?.wait_seconds));
  await session.call("workspace_exec", { workspace_id: "fix", command: ["x"], detach: true });
  assert.equal(heads.at(-1)?.stdin_closed, false);
  await using core = await Session.open(home, home.directory, "workspace-core");
  await core.call("workspace_exec", { workspace_id: "fix", command: ["x"], detach: true });
  assert.equal(heads.at(-1)?.stdin_closed, true, "nobody could ever write to it");
  const long = "y".repeat(50_000);
  const command = new Array(200).fill(long.slice(0, 300));
  const words = await session.call("workspace_exec", { workspace_id: "fix", command, max_bytes: undefined });
  assert.equal(words.stdout_truncated, true);

  const abort = new AbortController();
  const onprogress = () => abort.abort();
  await assert.rejects(
    session.ask("workspace_exec", { workspace_id: "fix", command: "cancel" }, { signal: abort.signal, onprogress }),
  );
  assert.deepEqual(await ended.promise, { type: "cancel" });

  const lost = session.ask("workspace_exec", { workspace_id: "fix", command: "drop" }).catch(() => {});
  await hanging.promise;
  await session.client.close();
  await lost;
  assert.equal(await dropped.promise, undefined, "nobody asked for its end");
});

test("logs fit by asking again: less of each, then fewer, and the cursor goes on where the answer ends", async () => {
  await using home = await temporaryHome();
  const asked: Json[] = [];
  const whole = "\u0001é\n".repeat(40_000);
  await using _fake = await answerRows(home, {
    "workspace.logs": (input, talk) => {
      asked.push(input);
      const { limit, max_bytes, cursor } = input as { limit: number; max_bytes: number; cursor?: string };
      const from = Number(cursor ?? 0);
      const entries = Array.from({ length: Math.min(limit, 100 - from) }, (_, index) =>
        execOutput("ws_x", {
          sequence: from + index + 1,
          stdout: Buffer.from(`\u0001\xff${whole}`, "latin1").subarray(0, max_bytes).toString("base64"),
          stdout_encoding: "base64",
        }),
      );
      const end = from + entries.length;
      talk.finish({ workspace_id: "ws_x", entries, next_cursor: end < 100 ? String(end) : null });
    },
  });
  await using session = await Session.open(home);
  const seen: unknown[] = [];
  for (let cursor: unknown; cursor !== null; ) {
    const page = await session.call("workspace_logs", { workspace_id: "ws_x", ...(cursor ? { cursor } : {}) });
    for (const entry of page.entries as Json[]) {
      seen.push(entry.sequence);
      assert.ok(Buffer.byteLength(String(entry.stdout)) >= 200);
      assert.deepEqual([entry.stdout_lossy, entry.stdout_encoding, entry.stderr_lossy], [true, "utf-8", false]);
    }
    cursor = page.next_cursor;
  }
  assert.deepEqual(
    seen,
    Array.from({ length: 100 }, (_, index) => index + 1),
  );
  assert.equal(asked[0]?.limit, 50);
  const much = await session.call("workspace_logs", { workspace_id: "ws_x", max_bytes: 20_000 });
  assert.ok((much.entries as Json[]).length >= 1);
  const last = asked.at(-1) as { max_bytes: number };
  assert.ok(last.max_bytes > 5000, "who asks for much of each gets fewer");
});

test("lists fit by fewer, one record by shorter words; ids and cursors are never cut", async () => {
  await using home = await temporaryHome();
  const labels = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [`key-${index}`, "v".repeat(256)]));
  const skipped = Array.from({ length: 100 }, (_, index) => ({ path: `${index}${"p".repeat(400)}`, reason: "socket" }));
  const seed = { mode: "directory", seed_path: "/x", entry_count: 1, bytes_written: 1, skipped, skipped_count: 100 };
  const id = `ws_${"a".repeat(90)}`;
  const digest = `sha256:${"0".repeat(64)}`;
  const record = workspaceRecord(id, {
    labels,
    seed,
    environment_digest: digest,
    failure: { stage: "seed", message: "m".repeat(9000), console_tail: "c".repeat(9000) },
  });
  await using _fake = await answerRows(home, {
    "workspace.status": () => record,
    "workspace.list": ({ limit }) => ({
      workspaces: Array.from({ length: Math.min(Number(limit), 30) }, () => record),
      next_cursor: `after-${limit}`,
    }),
    "process.list": ({ limit }) => ({
      workspace_id: id,
      processes: Array.from({ length: Number(limit) }, (_, index) =>
        processFacts({ sequence: index + 1, command: ["w".repeat(2000)] }),
      ),
      next_cursor: `after-${limit}`,
    }),
  });
  await using session = await Session.open(home);
  const status = await session.call("workspace_status", { workspace_id: "x" });
  assert.equal(status.workspace_id, id);
  assert.equal(status.environment_digest, digest);
  assert.equal((status.seed as Json).skipped_count, 100);
  assert.match(String((status.labels as Json)["..."]), /^\d+ more$/);
  const list = await session.call("workspace_list", {});
  assert.deepEqual([list.next_cursor, (list.workspaces as Json[]).length], ["after-1", 1]);
  const processes = await session.call("process_list", { workspace_id: "x" });
  const count = (processes.processes as Json[]).length;
  assert.ok(count > 1);
  assert.equal(processes.next_cursor, `after-${count}`);
});

test("create sends a directory of the work tree, with progress, and no other path; push the same", async () => {
  await using home = await temporaryHome();
  await using tree = await workTree();
  await using other = await workTree();
  await symlink(other.directory, join(tree.directory, "link"));
  const uploads: Json[] = [];
  await using fake = await answerRows(home, {
    "workspace.create": async (input, talk) => {
      talk.json(ToClient.Event, { type: "progress", message: "sending", stage: "seed", fraction: 0.5 });
      uploads.push({ upload: talk.head.upload, path: input.seed_path, ...(await received(talk)) });
      talk.finish(workspaceRecord(talk.head.request_id ?? ""));
    },
    "workspace.sync_push": async (input, talk) => {
      uploads.push({ upload: talk.head.upload, path: input.source_path, ...(await received(talk)) });
      const { source_path, destination, workspace_id } = input;
      const counts = { entry_count: 1, bytes_written: 7, skipped: [], skipped_count: 0 };
      talk.finish({ workspace_id, mode: "directory", source_path, destination, ...counts });
    },
  });
  await using session = await Session.open(home, tree.directory);
  const told: unknown[] = [];
  const onprogress = ({ message }: { message?: string }) => told.push(message);
  const made = await session.call("workspace_create", { seed_path: ".", exclude: ["link"] }, { onprogress });
  assert.match(String(made.workspace_id), /^ws_[a-z2-7]{10}$/);
  assert.ok(told.includes("sending"));
  const [seed] = uploads;
  assert.deepEqual(
    [seed?.upload, seed?.path, (seed?.end as Json | undefined)?.mode],
    [true, tree.directory, "directory"],
  );
  assert.ok(Number(seed?.bytes) >= 1024);
  const pushed = await session.call("workspace_sync_push", { workspace_id: "x", source_path: "file" });
  assert.equal(pushed.source_path, join(tree.directory, "file"));
  assert.equal((uploads[1]?.end as Json | undefined)?.mode, "file");

  const before = fake.asked.length;
  for (const seed_path of [other.directory, "..", "link", "/etc/passwd", join(tree.directory, "..", "nothing-there")]) {
    const error = await session.fails("workspace_create", { seed_path });
    assert.equal(error.code, "HOST_PATH_FORBIDDEN", seed_path);
    const push = await session.fails("workspace_sync_push", { workspace_id: "x", source_path: seed_path });
    assert.equal(push.code, "HOST_PATH_FORBIDDEN", seed_path);
  }
  assert.equal(fake.asked.length, before, "the daemon was told nothing of it");
  assert.equal((await session.fails("workspace_create", { seed_path: "nothing" })).code, "SOURCE_NOT_FOUND");

  // Outside of a work tree there is nothing to be read.
  await using nowhere = await Session.open(home, home.directory);
  const error = await nowhere.fails("workspace_create", { seed_path: "." });
  assert.equal(error.code, "HOST_PATH_FORBIDDEN");
  assert.match(String(error.message), /no path of the host/);
});

test("create: an environment that is prepared is the daemon's to say; a long seed goes on, and its failure is kept", async () => {
  await using home = await temporaryHome();
  await using tree = await workTree();
  const fail = Promise.withResolvers<void>();
  const failed = Promise.withResolvers<void>();
  const ids: Record<string, string> = {};
  let state: Json | undefined;
  await using _fake = await answerRows(home, {
    "workspace.create": async ({ name }, talk) => {
      ids[String(name)] = talk.head.request_id ?? "";
      if (name === "preparing") {
        state = workspaceRecord("ws_x", { state: "creating", environment_digest: null });
        await sleep(1500);
        throw new PyroError("ENVIRONMENT_PREPARING", "Being built.");
      }
      if (name === "ready-late") {
        state = undefined;
        await sleep(1500);
        return talk.finish(workspaceRecord(talk.head.request_id ?? ""));
      }
      state = workspaceRecord(talk.head.request_id ?? "", { state: "creating" });
      await fail.promise;
      state = undefined;
      talk.json(ToClient.Error, new PyroError("GUEST_DISK_FULL", "The disk is full.").toData());
      failed.resolve();
    },
    "workspace.status": () => {
      if (state === undefined) throw new PyroError("WORKSPACE_NOT_FOUND", "There is no such workspace.");
      return state;
    },
  });
  await using session = await Session.open(home, tree.directory);
  const preparing = await session.fails("workspace_create", { name: "preparing", wait_seconds: 1 });
  assert.equal(preparing.code, "ENVIRONMENT_PREPARING");
  const late = await session.call("workspace_create", { name: "ready-late", wait_seconds: 1 });
  assert.equal(late.workspace_id, ids["ready-late"]);
  const began = Date.now();
  const going = await session.call("workspace_create", { name: "big", seed_path: ".", wait_seconds: 1 });
  assert.ok(Date.now() - began < 4000);
  assert.deepEqual([going.state, going.workspace_id], ["creating", ids.big]);
  assert.equal((await session.call("workspace_status", { workspace_id: "big" })).state, "creating");
  fail.resolve();
  await failed.promise;
  await sleep(100);
  for (const workspace_id of [ids.big, "big"]) {
    const error = await session.fails("workspace_status", { workspace_id });
    assert.equal(error.code, "GUEST_DISK_FULL");
    assert.match(String(error.message), /could not be created: The disk is full/);
  }
  assert.equal((await session.fails("workspace_status", { workspace_id: "none" })).code, "WORKSPACE_NOT_FOUND");
});

test("what still goes on when the server ends is taken back", async () => {
  await using home = await temporaryHome();
  await using tree = await workTree();
  const cancelled = Promise.withResolvers<unknown>();
  await using _fake = await answerRows(home, {
    "workspace.create": async (_, talk) => {
      cancelled.resolve(await control(talk));
      talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    },
    "workspace.status": ({ workspace_id }) => workspaceRecord(String(workspace_id), { state: "creating" }),
  });
  {
    await using session = await Session.open(home, tree.directory);
    const { state } = await session.call("workspace_create", { seed_path: ".", wait_seconds: 0 });
    assert.equal(state, "creating");
  }
  assert.deepEqual(await cancelled.promise, { type: "cancel" });
});

test("a push that is not done within the wait is cancelled, or done when that came too late", async () => {
  await using home = await temporaryHome();
  await using tree = await workTree();
  await using _fake = await answerRows(home, {
    "workspace.sync_push": async ({ workspace_id, source_path, destination }, talk) => {
      assert.deepEqual(await control(talk), { type: "cancel" });
      if (workspace_id === "early") return talk.json(ToClient.Error, new PyroError("CANCELLED", "Cancelled.").toData());
      const counts = { entry_count: 1, bytes_written: 7, skipped: [], skipped_count: 0 };
      talk.finish({ workspace_id, mode: "directory", source_path, destination, ...counts });
    },
  });
  await using session = await Session.open(home, tree.directory);
  const push = (workspace_id: string) => ({ workspace_id, source_path: ".", wait_seconds: 1 });
  const error = await session.fails("workspace_sync_push", push("early"));
  assert.equal(error.code, "LIMIT_EXCEEDED");
  assert.match(String(error.message), /nothing was changed/);
  assert.match(String(error.hint), /exclude or gitignore/);
  assert.equal((await session.call("workspace_sync_push", push("late"))).entry_count, 1);
});

test("process_wait says how it stands, process_write what was taken; a daemon that says nothing is not waited for", async () => {
  await using home = await temporaryHome();
  await using _fake = await answerRows(home, {
    "process.wait": ({ wait_seconds, workspace_id }, talk) => {
      if (workspace_id === "mute") return;
      assert.ok(Number(wait_seconds) <= 3);
      talk.finish({ workspace_id: "ws_x", ...processFacts({ state: "running", exit_code: null }) });
    },
    "process.write": ({ input }) => {
      assert.equal(input, "y\n");
      return { workspace_id: "ws_x", process_id: "proc_1", accepted_bytes: 2, closed: false };
    },
  });
  await using session = await Session.open(home);
  const ids = { workspace_id: "ws_x", process_id: "proc_1" };
  assert.equal((await session.call("process_wait", { ...ids, wait_seconds: 3 })).state, "running");
  assert.equal((await session.call("process_write", { ...ids, input: "y\n" })).accepted_bytes, 2);
  const began = Date.now();
  const error = await session.fails("process_wait", { ...ids, workspace_id: "mute", wait_seconds: 0 });
  assert.equal(error.code, "DAEMON_UNREACHABLE");
  assert.ok(Date.now() - began < 10_000);
});
