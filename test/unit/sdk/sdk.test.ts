// The SDK against a daemon whose answers the test chooses: keys, awaiting, iterating, aborting, and leaving no trace.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { type ErrorCode, Pyro, PyroError, type RunResult } from "../../../src/sdk/index.ts";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { Conversation, greet, listen, runOutput, temporaryHome } from "../client/fake-daemon.ts";

function withCode(code: ErrorCode) {
  return (thrown: unknown) => thrown instanceof PyroError && thrown.code === code;
}

test("keys are camelCase on this side, and records keep theirs", async () => {
  await using home = await temporaryHome();
  let input: unknown;
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    input = talk.head.input;
    talk.output("stdout", 2, "hi");
    talk.finish(runOutput("vm_x", { exit_code: 7, next_cursor: "2", from_the_future: 1 }));
  });
  const pyro = new Pyro({ home: home.directory });
  const env = { MY_VAR: "a_b", snake_key: "1" };
  const result = await pyro.run({ command: ["x"], memMib: 512, timeoutSeconds: 3, env });
  assert.deepEqual((input as { env: unknown }).env, env);
  assert.equal((input as { mem_mib: unknown }).mem_mib, 512);
  const code: number | null = result.exitCode;
  assert.equal(code, 7);
  assert.equal(result.stdout, "hi");
  assert.equal(result.stdoutEncoding, "utf-8");
  assert.equal(result.nextCursor, "2");
  assert.equal((result as unknown as { fromTheFuture: number }).fromTheFuture, 1);
});

test("wrong input rejects in the caller's own keys, and starts nothing", async () => {
  await using home = await temporaryHome();
  const pyro = new Pyro({ home: home.directory });
  const refused = (input: unknown, pattern: RegExp) =>
    assert.rejects(
      () => Promise.resolve(pyro.run(input as { command: string })),
      (thrown) => withCode("INVALID_INPUT")(thrown) && pattern.test((thrown as Error).message),
    );
  await refused({ command: ["x"], memMb: 3 }, /run takes no memMb\. Did you mean memMib/);
  await refused({ command: ["x"], mem_mib: 512 }, /takes no mem_mib \(write memMib\)/);
  await refused({ command: ["x"], waitSeconds: 3 }, /takes no waitSeconds/);
  await refused({ command: [] }, /^command: /);
  await assert.rejects(pyro.listEnvironments({ limit: 0 }), withCode("INVALID_INPUT"));
});

test("check rejects with the result; without it a failure resolves", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.output("stderr", 4, "oops");
    talk.finish(runOutput("vm_x", { exit_code: 3 }));
  });
  const pyro = new Pyro({ home: home.directory });
  assert.equal((await pyro.run({ command: "x" })).exitCode, 3);
  await assert.rejects(Promise.resolve(pyro.run({ command: "x" }, { check: true })), (thrown: unknown) => {
    assert.ok(thrown instanceof PyroError && thrown.code === "COMMAND_FAILED");
    assert.equal((thrown.details.result as RunResult).stderr, "oops");
    return true;
  });
});

/** Echoes stdin until its end. */
async function echo(talk: Conversation): Promise<void> {
  talk.json(ToClient.Event, { type: "started", vm_id: "vm_x", process_id: "proc_1" });
  let seen = 0;
  for (;;) {
    const frame = await talk.next();
    if (frame === undefined || frame.type === ToDaemon.StdinEnd) break;
    if (frame.type !== ToDaemon.Stdin) continue;
    seen += frame.payload.length;
    talk.output("stdout", seen, frame.payload);
    talk.json(ToClient.StdinAck, { stdin_offset: seen, closed: false });
  }
  talk.finish(runOutput("vm_x"));
}

test("write, end, iterate and await one run; stdin given at once; awaited without stdin it ends", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) =>
    echo(await Conversation.open(request, response)),
  );
  const pyro = new Pyro({ home: home.directory });
  const run = pyro.run({ command: ["cat"] });
  assert.equal(await run.write("one "), true);
  void run.write(Buffer.from("two"));
  void run.end();
  const chunks: string[] = [];
  for await (const { stream, data } of run) {
    assert.ok(data instanceof Uint8Array);
    chunks.push(`${stream}:${Buffer.from(data)}`);
  }
  assert.equal(chunks.join("").replaceAll("stdout:", ""), "one two");
  assert.equal((await run).stdout, "one two");
  assert.equal((await pyro.run({ command: ["cat"] }, { stdin: "three" })).stdout, "three");
  assert.equal((await pyro.run({ command: ["cat"] })).stdout, "");
  assert.equal((await pyro.run({ command: ["cat"] }, { stdin: "x".repeat(100), collectBytes: 10 })).omittedBytes, 90);
  assert.throws(() => run.signal("NOPE" as "TERM"), withCode("INVALID_INPUT"));
});

test("an abort rejects with its reason, awaited or iterated, and close ends what runs", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.output("stdout", 1, "x");
    for (;;) {
      const frame = await talk.next();
      if (frame === undefined) return;
      if (frame.type === ToDaemon.Control) talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    }
  });
  const pyro = new Pyro({ home: home.directory });
  const reason = new Error("enough");
  const abort = new AbortController();
  const run = pyro.run({ command: ["x"] }, { signal: abort.signal });
  await assert.rejects(
    async () => {
      for await (const _ of run) abort.abort(reason);
    },
    (thrown) => thrown === reason,
  );
  await assert.rejects(Promise.resolve(run), (thrown) => thrown === reason);
  await assert.rejects(
    Promise.resolve(pyro.run({ command: ["x"] }, { signal: AbortSignal.abort(reason) })),
    (thrown) => thrown === reason,
  );
  const last = pyro.run({ command: ["x"] });
  const ended = assert.rejects(Promise.resolve(last), withCode("CANCELLED"));
  await pyro.close();
  await ended;
  await assert.rejects(pyro.listEnvironments(), withCode("CANCELLED"));
});

test("events and results of streaming methods", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    if (request.url === "/v1/env.list") {
      greet(response);
      const environments = [{ environment: "debian:12", digest: null, installed: false, size_bytes: null }];
      return void response.end(JSON.stringify({ environments, next_cursor: null }));
    }
    const talk = await Conversation.open(request, response);
    talk.json(ToClient.Event, { type: "progress", message: "m", stage: "s", fraction: 0.5 });
    talk.finish({ environment: "debian:12", digest: "d", installed: true, size_bytes: 3 });
  });
  await using pyro = new Pyro({ home: home.directory });
  const events: unknown[] = [];
  const onEvent = (event: unknown) => events.push(event);
  const pulled = await pyro.pullEnvironment({ environment: "debian:12" }, { onEvent });
  assert.equal(pulled.sizeBytes, 3);
  assert.deepEqual(events, [{ type: "progress", message: "m", stage: "s", fraction: 0.5 }]);
  const { environments, nextCursor } = await pyro.listEnvironments();
  assert.equal(environments[0]?.sizeBytes, null);
  assert.equal(nextCursor, null);
});

test("an idle client, and a run that fails while nobody looks, neither keep nor kill the process", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.json(ToClient.Error, { code: "MICROVM_LOST", message: "Gone." });
  });
  const source = `
    import { Pyro } from ${JSON.stringify(join(import.meta.dirname, "..", "..", "..", "src", "sdk", "index.ts"))};
    const pyro = new Pyro({ home: ${JSON.stringify(home.directory)} });
    pyro.run({ command: ["x"] });
    try { for await (const _ of pyro.run({ command: ["x"] })); } catch (error) { console.log(error.code); }
  `;
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  const chunks: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
  const [status] = await once(child, "close");
  assert.equal(status, 0);
  assert.equal(Buffer.concat(chunks).toString(), "MICROVM_LOST\n");
});
