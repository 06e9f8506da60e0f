// The client against a daemon that breaks off, keeps silent, talks nonsense or comes back as another process.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { call, daemonStatus, stopDaemon } from "../../../src/client/call.ts";
import { openStream } from "../../../src/client/stream.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { newVmId, VM_ID_PATTERN } from "../../../src/wire/ids.ts";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { Conversation, greet, listen, runOutput, temporaryHome } from "./fake-daemon.ts";

function withCode(code: string) {
  return (thrown: unknown) => thrown instanceof PyroError && thrown.code === code;
}

const RUN = { command: ["cat"], environment: "debian:12" };

test("a vm_id is what the protocol asks for", () => {
  for (let turn = 0; turn < 100; turn++) assert.match(newVmId(), VM_ID_PATTERN);
});

test("an input that no frame holds is refused in words of its own, and asked of nobody", async () => {
  await using home = await temporaryHome();
  let asked = 0;
  await using _fake = await listen(home.where, () => {
    asked++;
  });
  const command = new Array(11).fill("x".repeat(100_000));
  await assert.rejects(
    openStream(home.where, "run", { ...RUN, command }).result,
    (thrown) => withCode("INVALID_INPUT")(thrown) && /1048576 is the most/.test(String(thrown)),
  );
  assert.equal(asked, 0);
});

test("a broken run is taken up where it stopped: output once, stdin from what was acknowledged", async () => {
  await using home = await temporaryHome();
  const stdin = randomBytes(300_000);
  const got: Buffer[] = [];
  let connections = 0;
  let secondHead: unknown;
  const received: Buffer[] = [];
  await using _fake = await listen(home.where, async (request, response) => {
    connections++;
    const talk = await Conversation.open(request, response);
    if (connections === 1) {
      talk.json(ToClient.Event, { type: "started", vm_id: talk.head.vm_id, process_id: "proc_1" });
      talk.output("stdout", 5, "hello");
      // Acknowledges in the middle of a piece, then dies.
      let seen = 0;
      while (seen < 100_000) {
        const frame = await talk.next();
        if (frame?.type === ToDaemon.Stdin) seen += frame.payload.length;
      }
      talk.json(ToClient.StdinAck, { stdin_offset: 100_000, closed: false });
      setTimeout(() => talk.drop(), 50);
      return;
    }
    secondHead = talk.head;
    talk.output("stdout", 5, "hello");
    talk.output("stderr", 11, " again");
    for (;;) {
      const frame = await talk.next();
      if (frame?.type === ToDaemon.Stdin) received.push(Buffer.from(frame.payload));
      if (frame === undefined || frame.type === ToDaemon.StdinEnd) break;
    }
    talk.finish(runOutput(talk.head.vm_id ?? ""));
  });
  const stream = openStream(home.where, "run", RUN, {
    stdin: true,
    onOutput: (name, data) => {
      got.push(Buffer.from(`${name}:${data}`));
    },
  });
  assert.equal(await stream.write(stdin), true);
  await stream.end();
  const output = await stream.result;
  assert.equal(output.exit_code, 0);
  assert.equal(connections, 2);
  assert.deepEqual(secondHead, {
    input: RUN,
    vm_id: stream.id,
    resume: { cursor: "5", stdin_offset: 100_000 },
    attached: true,
    stdin_closed: false,
  });
  assert.ok(Buffer.concat(received).equals(stdin.subarray(100_000)));
  assert.equal(Buffer.concat(got).toString(), "stdout:hellostderr: again");
});

test("stdin stays within the window until it is acknowledged", async () => {
  await using home = await temporaryHome();
  let sent = 0;
  let release = () => {};
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    let gated = false;
    for (;;) {
      const frame = await talk.next();
      if (frame === undefined || frame.type === ToDaemon.StdinEnd) break;
      if (frame.type === ToDaemon.Stdin) sent += frame.payload.length;
      if (sent >= 1 << 20 && !gated) {
        gated = true;
        await gate;
      }
      if (gated) talk.json(ToClient.StdinAck, { stdin_offset: sent, closed: false });
    }
    talk.finish(runOutput("vm_x"));
  });
  const stream = openStream(home.where, "run", RUN, { stdin: true });
  const written = stream.write(randomBytes(3 << 20));
  await new Promise((resolve) => setTimeout(resolve, 300));
  assert.equal(sent, 1 << 20);
  release();
  assert.equal(await written, true);
  await stream.end();
  await stream.result;
  assert.equal(sent, 3 << 20);
});

test("a command that reads no more ends the writing", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.json(ToClient.StdinAck, { stdin_offset: 0, closed: true });
    setTimeout(() => talk.finish(runOutput("vm_x")), 100);
  });
  const stream = openStream(home.where, "run", RUN, { stdin: true });
  assert.equal(await stream.write(randomBytes(3 << 20)), false);
  await stream.result;
});

test("an abort cancels over the wire and rejects with its reason", async () => {
  await using home = await temporaryHome();
  let control: unknown;
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.json(ToClient.Event, { type: "started", vm_id: "vm_x", process_id: "proc_1" });
    for (;;) {
      const frame = await talk.next();
      if (frame === undefined) return;
      if (frame.type !== ToDaemon.Control) continue;
      control = JSON.parse(Buffer.from(frame.payload).toString());
      talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled.", hint: "-", retryable: true, details: {} });
    }
  });
  const abort = new AbortController();
  const reason = new Error("enough");
  const stream = openStream(home.where, "run", RUN, { signal: abort.signal, onEvent: () => abort.abort(reason) });
  await assert.rejects(stream.result, (thrown) => thrown === reason);
  assert.deepEqual(control, { type: "cancel" });
});

test("an abort is heard while nobody takes the output, and when the daemon does not answer it", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.output("stdout", 1, "x");
    await new Promise(() => {});
  });
  const abort = new AbortController();
  const stream = openStream(home.where, "run", RUN, {
    signal: abort.signal,
    onOutput: () => {
      setTimeout(() => abort.abort(new Error("enough")), 20);
      return new Promise(() => {});
    },
  });
  const began = Date.now();
  await assert.rejects(stream.result, /enough/);
  assert.ok(Date.now() - began < 7000);
});

test("garbage is DAEMON_UNREACHABLE or DAEMON_INCOMPATIBLE, never a hang", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, (request, response) => {
    if (request.url === "/v1/env.list") {
      greet(response, 200);
      response.end("{not json");
    } else {
      response.end("hello");
    }
  });
  await assert.rejects(call(home.where, "env.list", {}), withCode("DAEMON_UNREACHABLE"));
  await assert.rejects(
    call(home.where, "process.read", { vm_id: "vm_x", process_id: "p" }),
    withCode("DAEMON_INCOMPATIBLE"),
  );
  await assert.rejects(openStream(home.where, "run", RUN).result, withCode("DAEMON_INCOMPATIBLE"));
});

test("nonsense in frames breaks the connection, and an idempotent stream gives up after three", async () => {
  await using home = await temporaryHome();
  let connections = 0;
  await using _fake = await listen(home.where, async (request, response) => {
    connections++;
    const talk = await Conversation.open(request, response);
    if (connections === 1) talk.raw(ToClient.Event, Buffer.from("{"));
    else if (connections === 2) response.write(Buffer.from([3, 0xff, 0xff, 0xff, 0xff]));
    else talk.raw(ToClient.Stdout, Buffer.from("short"));
  });
  await assert.rejects(openStream(home.where, "env.pull", { environment: "x" }).result, withCode("DAEMON_UNREACHABLE"));
  assert.equal(connections, 3);
});

test("an error of the daemon keeps its code, hint and details; an unknown code is INTERNAL", async () => {
  await using home = await temporaryHome();
  let code = "VM_NOT_FOUND";
  await using _fake = await listen(home.where, (_request, response) => {
    greet(response, 404);
    response.end(
      JSON.stringify({ error: { code, message: "No.", hint: "Look.", retryable: false, details: { near: ["a"] } } }),
    );
  });
  const read = () => call(home.where, "process.read", { vm_id: "vm_x", process_id: "p" });
  await assert.rejects(read(), (thrown: unknown) => {
    assert.ok(thrown instanceof PyroError);
    assert.deepEqual(thrown.toData(), {
      code: "VM_NOT_FOUND",
      message: "No.",
      hint: "Look.",
      retryable: false,
      details: { near: ["a"] },
    });
    return true;
  });
  code = "FROM_THE_FUTURE";
  await assert.rejects(read(), withCode("INTERNAL"));
});

test("an idempotent call is asked again once when the connection drops", async () => {
  await using home = await temporaryHome();
  let asked = 0;
  await using _fake = await listen(home.where, (_request, response) => {
    asked++;
    if (asked === 1) return void response.destroy();
    greet(response);
    response.end('{"environments":[],"next_cursor":null}');
  });
  assert.deepEqual(await call(home.where, "env.list", {}), { environments: [], next_cursor: null });
  assert.equal(asked, 2);
});

test("another protocol is refused by name, and a daemon that speaks it can still be stopped", async () => {
  await using home = await temporaryHome();
  const protocols: unknown[] = [];
  const fake = await listen(home.where, async (request, response) => {
    protocols.push(request.headers["pyro-protocol"]);
    for await (const _ of request);
    if (request.headers["pyro-protocol"] !== "7") {
      greet(response, 409, "7");
      response.end('{"error":{"code":"DAEMON_INCOMPATIBLE","message":"x","hint":"y"}}');
      return;
    }
    greet(response, 200, "7");
    response.end("{}", () => void fake.crash());
  });
  await assert.rejects(call(home.where, "env.list", {}), (thrown: unknown) => {
    assert.ok(thrown instanceof PyroError);
    assert.equal(thrown.code, "DAEMON_INCOMPATIBLE");
    assert.match(thrown.message, /pyro 9\.9\.9 and speaks protocol 7/);
    return true;
  });
  assert.equal(await stopDaemon(home.where), true);
  assert.deepEqual(protocols, ["1", "1", "7"]);
});

test("without a daemon, status and stop say so and start none", async () => {
  await using home = await temporaryHome();
  assert.equal(await daemonStatus(home.where), undefined);
  assert.equal(await stopDaemon(home.where), false);
  const fake = await listen(home.where, () => {});
  await fake.crash();
  assert.equal(await daemonStatus(home.where), undefined);
});
