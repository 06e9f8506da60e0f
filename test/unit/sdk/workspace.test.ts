// Workspaces in the SDK, against a daemon whose answers the test chooses: the handle, its commands, lists, logs that are
// followed, and what is deleted with what.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PyroError } from "../../../src/errors/error.ts";
import { type ErrorCode, type ExecResult, Pyro } from "../../../src/sdk/index.ts";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { temporaryHome } from "../client/fake-daemon.ts";
import { answerRows, control, execOutput, processFacts, workspaceRecord } from "../client/fake-rows.ts";

function withCode(code: ErrorCode) {
  return (thrown: unknown) => thrown instanceof PyroError && thrown.code === code;
}

test("a workspace made, used by its handle and deleted; keys are camelCase, labels and variables keep theirs", async () => {
  await using home = await temporaryHome();
  const labels = { task_id: "a_b", "x/y": "1" };
  await using fake = await answerRows(home, {
    "workspace.create": (_, talk) => {
      talk.json(ToClient.Event, { type: "progress", message: "m", stage: "s", fraction: null, total_bytes: 3 });
      talk.finish(workspaceRecord(talk.head.request_id ?? "", { labels }));
    },
    "workspace.status": () => workspaceRecord("ws_x", { labels, state: "stopped", stop_reason: "idle" }),
    "workspace.update": ({ name }) => workspaceRecord("ws_x", { name }),
    "workspace.delete": () => ({ workspace_id: "ws_x", deleted: true }),
    "workspace.exec": (_, talk) => {
      talk.json(ToClient.Event, { type: "started", workspace_id: "ws_x", process_id: "proc_7" });
      talk.output("stdout", 2, "hi");
      talk.finish(execOutput("ws_x", { process_id: "proc_7", exit_code: 3 }));
    },
    "process.list": () => ({ workspace_id: "ws_x", processes: [processFacts()], next_cursor: null }),
    "process.read": () => execOutput("ws_x", { stdout: "hi" }),
    "process.write": () => ({ workspace_id: "ws_x", process_id: "proc_7", accepted_bytes: 2, closed: false }),
    "process.signal": () => ({ workspace_id: "ws_x", process_id: "proc_7", signal: "INT", delivered: true }),
    "process.wait": (_, talk) => talk.finish({ workspace_id: "ws_x", ...processFacts({ exit_code: 4 }) }),
  });
  const pyro = new Pyro({ home: home.directory });
  const events: unknown[] = [];
  const onEvent = (event: unknown) => events.push(event);
  const made = await pyro.createWorkspace({ labels, memMib: 512, env: { SNAKE_key: "1" } }, { onEvent });
  assert.match(made.workspaceId, /^ws_[a-z2-7]{10}$/);
  assert.deepEqual(made.created?.labels, labels);
  assert.deepEqual(events, [{ type: "progress", message: "m", stage: "s", fraction: null, totalBytes: 3 }]);
  const [create] = fake.asked;
  assert.deepEqual(
    {
      labels: create?.input.labels,
      env: create?.input.env,
      mem: create?.input.mem_mib,
      ephemeral: create?.input.ephemeral,
    },
    { labels, env: { SNAKE_key: "1" }, mem: 512, ephemeral: undefined },
  );

  const ws = pyro.workspace("fix-tests");
  assert.equal(ws.created, undefined);
  const status = await ws.status();
  assert.deepEqual([status.stopReason, status.labels, status.seed.entryCount], ["idle", labels, 0]);
  assert.equal((await ws.update({ name: "other" })).name, "other");

  const command = ws.exec(["make"], { onEvent });
  assert.equal(await command.processId, "proc_7");
  const result: ExecResult = await command;
  assert.deepEqual([result.stdout, result.exitCode, result.workspaceId], ["hi", 3, "ws_x"]);
  assert.deepEqual(events.at(-1), { type: "started", workspaceId: "ws_x", processId: "proc_7" });
  await ws.exec("make");
  await ws.exec({ command: ["make"], cwd: "src", timeoutSeconds: 3 });
  const execs = fake.asked.filter(({ operation }) => operation === "workspace.exec").map(({ input }) => input);
  assert.deepEqual(
    execs.map(({ command, cwd, timeout_seconds, workspace_id }) => [workspace_id, command, cwd, timeout_seconds]),
    [
      ["fix-tests", ["make"], undefined, undefined],
      ["fix-tests", "make", undefined, undefined],
      ["fix-tests", ["make"], "src", 3],
    ],
  );

  assert.equal((await ws.process.list({ all: true })).processes[0]?.processId, "proc_1");
  assert.equal((await ws.process.read("proc_7", { cursor: "2" })).stdout, "hi");
  assert.equal((await ws.process.write("proc_7", { input: "y\n", eof: true })).acceptedBytes, 2);
  assert.equal((await ws.process.signal("proc_7", "SIGINT")).delivered, true);
  await ws.process.signal("proc_7", 2);
  assert.equal((await ws.process.wait("proc_7")).exitCode, 4);
  const signals = fake.asked.filter(({ operation }) => operation === "process.signal").map(({ input }) => input.signal);
  assert.deepEqual(signals, ["SIGINT", "2"]);
  assert.equal((await ws.delete()).deleted, true);
  await assert.rejects(ws.update({ nam: "x" } as object), /updateWorkspace takes no nam/);
});

test("exec: check, abort and leaving the loop; detach keeps stdin open and refuses what would need the end", async () => {
  await using home = await temporaryHome();
  const heads: { detach: unknown; stdin_closed: boolean }[] = [];
  const controls: unknown[] = [];
  const left = Promise.withResolvers<void>();
  await using _fake = await answerRows(home, {
    "workspace.exec": async ({ command, detach }, talk) => {
      heads.push({ detach, stdin_closed: talk.head.stdin_closed });
      assert.match(talk.head.request_id ?? "", /^rq_/);
      assert.equal(talk.head.vm_id, undefined);
      talk.json(ToClient.Event, { type: "started", workspace_id: "ws_x", process_id: "proc_2" });
      const said = String(command);
      if (said === "lost") return talk.finish(execOutput("ws_x", { exit_code: null, lost_reason: "the VMM died" }));
      if (detach) {
        // Whoever awaits a detached command must not have ended its stdin.
        await new Promise((resolve) => setTimeout(resolve, 50));
        return talk.finish(execOutput("ws_x", { state: "running", exit_code: null }));
      }
      talk.output("stdout", 1, "x");
      if (said === "leave") {
        await left.promise;
        talk.output("stdout", 2, "y");
        return talk.finish(execOutput("ws_x"));
      }
      controls.push(await control(talk));
      talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    },
  });
  const pyro = new Pyro({ home: home.directory });
  const ws = pyro.workspace("ws_x");
  const reason = new Error("enough");
  const abort = new AbortController();
  await assert.rejects(
    async () => {
      for await (const _ of ws.exec("abort", { signal: abort.signal })) abort.abort(reason);
    },
    (thrown) => thrown === reason,
  );
  assert.deepEqual(controls, [{ type: "cancel" }]);

  const leaving = ws.exec("leave");
  for await (const { stream } of leaving) {
    assert.equal(stream, "stdout");
    break;
  }
  left.resolve();
  assert.equal((await leaving).stdout, "xy");
  assert.equal(controls.length, 1);

  await assert.rejects(Promise.resolve(ws.exec("lost", { check: true })), (thrown: unknown) => {
    assert.ok(withCode("COMMAND_FAILED")(thrown));
    assert.match((thrown as Error).message, /was lost: the VMM died/);
    return true;
  });
  const detached = await ws.exec({ command: "long", detach: true });
  assert.equal(detached.state, "running");
  assert.deepEqual(heads.at(-1), { detach: true, stdin_closed: false });
  await assert.rejects(
    Promise.resolve(ws.exec({ command: "x", detach: true }, { check: true })),
    withCode("INVALID_INPUT"),
  );
  const refused = ws.exec({ command: "x", detach: true }, { stdin: "x" });
  await assert.rejects(Promise.resolve(refused), withCode("INVALID_INPUT"));
  await assert.rejects(refused.processId, withCode("INVALID_INPUT"));
});

test("a list is a page, or every item of every page", async () => {
  await using home = await temporaryHome();
  await using fake = await answerRows(home, {
    "workspace.list": ({ cursor }) =>
      cursor === "c2"
        ? { workspaces: [workspaceRecord("ws_3")], next_cursor: null }
        : { workspaces: [workspaceRecord("ws_1"), workspaceRecord("ws_2")], next_cursor: "c2" },
    "workspace.logs": (_, talk) =>
      talk.finish({ workspace_id: "ws_1", entries: [execOutput("ws_1", { stdout: "hi" })], next_cursor: null }),
  });
  const pyro = new Pyro({ home: home.directory });
  const page = await pyro.listWorkspaces({ limit: 2 });
  assert.equal(page.nextCursor, "c2");
  assert.equal(page.workspaces.length, 2);
  const ids: string[] = [];
  for await (const { workspaceId } of pyro.listWorkspaces({ labels: { a: "b" }, limit: 2 })) ids.push(workspaceId);
  assert.deepEqual(ids, ["ws_1", "ws_2", "ws_3"]);
  assert.deepEqual(fake.asked.at(-1)?.input, { labels: { a: "b" }, limit: 2, cursor: "c2" });
  await assert.rejects(async () => {
    for await (const _ of pyro.listWorkspaces({ limit: 0 }));
  }, withCode("INVALID_INPUT"));
  const logs = await pyro.workspace("ws_1").logs({ limit: 5 });
  assert.equal(logs.entries[0]?.stdout, "hi");
});

test("logs are followed until the loop is left, an entry at a time, each once although the connection broke", async () => {
  await using home = await temporaryHome();
  let connections = 0;
  const gone = Promise.withResolvers<unknown>();
  await using _fake = await answerRows(home, {
    "workspace.logs": async (input, talk) => {
      assert.equal(input.follow, true);
      connections++;
      const entry = (sequence: number) =>
        talk.json(ToClient.Event, { type: "entry", entry: execOutput("ws_x", { sequence }) });
      entry(1);
      if (connections === 1) {
        await new Promise((resolve) => setTimeout(resolve, 50));
        return talk.drop();
      }
      entry(2);
      gone.resolve(await control(talk));
      talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    },
  });
  const pyro = new Pyro({ home: home.directory });
  const seen: number[] = [];
  for await (const { sequence, workspaceId } of pyro.workspace("ws_x").logs({ follow: true })) {
    assert.equal(workspaceId, "ws_x");
    seen.push(sequence);
    if (sequence === 2) break;
  }
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(await gone.promise, { type: "cancel" });

  const reason = new Error("enough");
  await assert.rejects(
    async () => {
      for await (const _ of pyro.logsWorkspace(
        { workspaceId: "x", follow: true },
        { signal: AbortSignal.abort(reason) },
      ));
    },
    (thrown) => thrown === reason,
  );
});

test("await using deletes what was made ephemeral, and only that; deleting it before is fine", async () => {
  await using home = await temporaryHome();
  const deleted: unknown[] = [];
  await using _fake = await answerRows(home, {
    "workspace.create": (_, talk) => talk.finish(workspaceRecord(talk.head.request_id ?? "")),
    "workspace.delete": ({ workspace_id }) => {
      if (deleted.includes(workspace_id)) throw new PyroError("WORKSPACE_NOT_FOUND", "None.");
      deleted.push(workspace_id);
      return { workspace_id, deleted: true };
    },
  });
  const pyro = new Pyro({ home: home.directory });
  let id = "";
  {
    await using ws = await pyro.createWorkspace({ ephemeral: true });
    id = ws.workspaceId;
  }
  assert.deepEqual(deleted, [id]);
  {
    await using _kept = await pyro.createWorkspace();
    await using _other = pyro.workspace("other");
  }
  assert.equal(deleted.length, 1);
  {
    await using ws = await pyro.createWorkspace({ ephemeral: true });
    await ws.delete();
  }
  {
    await using ws = await pyro.createWorkspace({ ephemeral: true });
    await new Pyro({ home: home.directory }).deleteWorkspace({ workspaceId: ws.workspaceId });
  }
  assert.equal(deleted.length, 3);
  {
    await using _ws = await pyro.createWorkspace({ ephemeral: true });
    // A client that was closed before its workspace is disposed of leaves it no less deleted.
    await pyro.close();
  }
  assert.equal(deleted.length, 4);
});

test("an ephemeral create that is aborted or fails leaves nothing, one that is not ephemeral is left to its owner", async () => {
  await using home = await temporaryHome();
  const asked: unknown[] = [];
  const deleted: unknown[] = [];
  const begun: (() => void)[] = [];
  await using _fake = await answerRows(home, {
    "workspace.create": async ({ name }, talk) => {
      asked.push(talk.head.request_id);
      if (name === "fails") throw new PyroError("MICROVM_LOST", "Gone.");
      begun.shift()?.();
      for (;;) {
        const frame = await talk.next();
        if (frame === undefined) return;
        // It was done before the cancel came.
        if (frame.type === ToDaemon.Control) talk.finish(workspaceRecord(talk.head.request_id ?? ""));
      }
    },
    "workspace.delete": ({ workspace_id }) => {
      deleted.push(workspace_id);
      return { workspace_id, deleted: true };
    },
  });
  const pyro = new Pyro({ home: home.directory });
  const reason = new Error("enough");
  const abort = new AbortController();
  begun.push(() => abort.abort(reason));
  await assert.rejects(
    pyro.createWorkspace({ ephemeral: true }, { signal: abort.signal }),
    (thrown) => thrown === reason,
  );
  assert.equal(asked.length, 1);
  assert.deepEqual(deleted, asked);
  await assert.rejects(pyro.createWorkspace({ ephemeral: true, name: "fails" }), withCode("MICROVM_LOST"));
  assert.deepEqual(deleted, asked);
  await assert.rejects(pyro.createWorkspace({ name: "fails" }), withCode("MICROVM_LOST"));
  assert.equal(deleted.length, 2);
  await assert.rejects(pyro.createWorkspace({ ephemeral: true, memMib: 1 }), withCode("INVALID_INPUT"));

  // Closing the client waits for what it has to delete.
  const closing = new Pyro({ home: home.directory });
  const ready = new Promise<void>((resolve) => begun.push(resolve));
  const last = assert.rejects(closing.createWorkspace({ ephemeral: true }), withCode("CANCELLED"));
  await ready;
  await closing.close();
  assert.equal(deleted.length, 3);
  await last;
});
