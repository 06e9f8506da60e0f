// Services in the SDK, against a daemon whose answers the test chooses: the handle, its log as a page and as a loop, and
// what ends when a loop is left or a client closed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PyroError } from "../../../src/errors/error.ts";
import { Pyro } from "../../../src/sdk/index.ts";
import { ToClient } from "../../../src/wire/protocol.ts";
import { temporaryHome } from "../client/fake-daemon.ts";
import { answerRows, control, type Json } from "../client/fake-rows.ts";

function record(change: Json = {}): Json {
  const times = { started_at: "2026-01-01T00:00:00Z", ready_at: null, ended_at: null, exit_code: null };
  const service = { workspace_id: "ws_x", service_name: "web", state: "running", command: ["x"], cwd: "/workspace" };
  return { ...service, ...times, readiness: null, stop_reason: null, failure: null, published_ports: [], ...change };
}

function page(change: Json = {}): Json {
  const log = { workspace_id: "ws_x", service_name: "web", state: "running", exit_code: null };
  return {
    ...log,
    output: "",
    output_encoding: "utf-8",
    omitted_bytes: 0,
    next_cursor: "c7",
    redacted: false,
    ...change,
  };
}

test("a service by its handle: keys are camelCase, and what a tail is may be a number", async () => {
  await using home = await temporaryHome();
  await using fake = await answerRows(home, {
    "service.start": ({ service_name }, talk) => {
      if (service_name === "bad") {
        const details = { log_tail: "why\n", log_tail_encoding: "utf-8", service: record({ state: "failed" }) };
        return talk.json(ToClient.Error, new PyroError("SERVICE_FAILED", "It failed.", { details }).toData());
      }
      talk.json(ToClient.Event, { type: "progress", stage: "ready", message: "not yet", fraction: null });
      talk.finish(
        record({ readiness: { type: "tcp", target: "a:1", timeout_seconds: 5, interval_ms: 9, last_reason: null } }),
      );
    },
    "service.status": () => record({ state: "exited", exit_code: 3 }),
    "service.stop": (_, talk) => talk.finish(record({ state: "stopped", stop_reason: "requested" })),
    "service.logs": (_, talk) => talk.finish(page({ output: "x\n" })),
    "service.list": ({ cursor }) => ({
      workspace_id: "ws_x",
      services: [record({ service_name: cursor === "a" ? "b" : "a" })],
      next_cursor: cursor === "a" ? null : "a",
    }),
  });
  const pyro = new Pyro({ home: home.directory });
  const ws = pyro.workspace("w");
  const said: unknown[] = [];
  const input = {
    serviceName: "web",
    command: ["x"],
    env: { SNAKE_key: "1" },
    readyTcp: "a:1",
    readyTimeoutSeconds: 5,
  };
  const web = await ws.service.start(input, { onEvent: (event) => said.push(event.message) });
  assert.deepEqual([web.serviceName, web.started?.readiness?.intervalMs, said], ["web", 9, ["not yet"]]);
  const [start] = fake.asked;
  assert.deepEqual(start?.input.env, { SNAKE_key: "1" });
  assert.deepEqual([start?.input.ready_tcp, start?.input.ready_timeout_seconds], ["a:1", 5]);
  assert.equal((await web.status()).exitCode, 3);
  assert.equal((await web.stop({ graceSeconds: 2 })).stopReason, "requested");
  assert.deepEqual((await web.logs({ tail: 3 })).output, "x\n");
  assert.deepEqual((await web.logs({ tail: "all", maxBytes: 10, cursor: "c3" })).nextCursor, "c7");
  const asked = fake.asked.filter(({ operation }) => operation === "service.logs").map(({ input: given }) => given);
  const ids = { workspace_id: "w", service_name: "web", follow: false };
  assert.deepEqual(asked, [
    { ...ids, tail: "3", max_bytes: 65_536 },
    { ...ids, tail: "all", max_bytes: 10, cursor: "c3" },
  ]);
  const names: string[] = [];
  for await (const { serviceName } of ws.service.list()) names.push(serviceName);
  assert.deepEqual(names, ["a", "b"]);
  await assert.rejects(
    ws.service.start({ serviceName: "bad", command: "x" }),
    (thrown) => thrown instanceof PyroError && thrown.code === "SERVICE_FAILED" && thrown.details.log_tail === "why\n",
  );
  for (const wrong of [
    { serviceName: "a/b" },
    { serviceName: "a", readyIntervalMs: 1 },
    { serviceName: "a", readyPort: 1 },
  ]) {
    await assert.rejects(ws.service.start({ command: "x", ...wrong } as never), { code: "INVALID_INPUT" });
  }
});

test("a log that is followed is a loop; leaving it, and closing the client, end the call", async () => {
  await using home = await temporaryHome();
  const heard: unknown[] = [];
  await using _fake = await answerRows(home, {
    "service.logs": async ({ service_name }, talk) => {
      talk.output("stdout", 2, "a\n");
      talk.output("stderr", 4, "b\n");
      if (service_name === "ends") return talk.finish(page({ state: "exited" }));
      heard.push(await control(talk));
      talk.json(ToClient.Error, new PyroError("CANCELLED", "Cancelled.").toData());
    },
  });
  const pyro = new Pyro({ home: home.directory });
  const told: string[] = [];
  for await (const { stream, data } of pyro.logsService({ workspaceId: "w", serviceName: "ends", follow: true })) {
    told.push(`${stream} ${Buffer.from(data)}`);
  }
  assert.deepEqual(told, ["stdout a\n", "stderr b\n"]);
  for await (const _ of pyro.logsService({ workspaceId: "w", serviceName: "left", follow: true })) break;
  const loop = (async () => {
    for await (const _ of pyro.logsService({ workspaceId: "w", serviceName: "closed", follow: true }))
      told.push("more");
  })();
  while (told.length < 4) await new Promise((resolve) => setTimeout(resolve, 10));
  await Promise.all([pyro.close(), assert.rejects(loop, { code: "CANCELLED" })]);
  assert.deepEqual(heard, [{ type: "cancel" }, { type: "cancel" }]);
});
