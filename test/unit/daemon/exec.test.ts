// What a connection of workspace.exec, workspace.logs and the process calls does, around commands in a guest that the test
// holds: clients that vanish, come back, cancel, or do not wait.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { serveExec } from "../../../src/daemon/exec.ts";
import { serveLogs } from "../../../src/daemon/logs.ts";
import { readProcess, serveWait, signalProcess, writeProcess } from "../../../src/daemon/processes.ts";
import type { Reply, Requests } from "../../../src/daemon/stream.ts";
import type { Engine } from "../../../src/engine/engine.ts";
import { Commands } from "../../../src/engine/workspace/commands.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { parseInput } from "../../../src/operations/check.ts";
import { OPERATIONS, type OperationName, type OutputOf, type ParsedInputOf } from "../../../src/operations/table.ts";
import { encodeJsonFrame, type Frame, type RequestHead, ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { FakeGuest, FakeHost } from "../engine/workspace/fake-guest.ts";

let directory: string;
let guest: FakeGuest;
let host: FakeHost;
let commands: Commands;
let engine: Engine;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-exec-"));
  guest = new FakeGuest();
  host = new FakeHost(directory, guest);
  commands = await Commands.open(host);
  await commands.adopt(undefined);
  const { workspaceId } = host;
  engine = { workspaces: { get: () => ({ workspaceId, commands }) } } as unknown as Engine;
});

afterEach(async () => {
  await commands.abandon(new PyroError("WORKSPACE_NOT_FOUND", "The test is over."));
  await rm(directory, { recursive: true, force: true });
});

/** One connection: what the client sends, and what it was told. */
class Connection {
  readonly told: { type: number; value?: unknown; data?: string; next?: bigint }[] = [];
  readonly #frames: (Frame | undefined)[] = [];
  readonly #gone = new AbortController();
  #wake = Promise.withResolvers<void>();

  readonly reply = {
    json: async (type: number, value: unknown) => void this.told.push({ type, value: structuredClone(value) }),
    output: async (stream: string, next: bigint, data: Uint8Array) => {
      const type = stream === "stdout" ? ToClient.Stdout : ToClient.Stderr;
      this.told.push({ type, next, data: Buffer.from(data).toString() });
    },
  } as unknown as Reply;

  readonly requests = {
    next: async () => {
      while (this.#frames.length === 0) await this.#wake.promise;
      return this.#frames.shift();
    },
  } as unknown as Requests;

  send(type: number, value: unknown): void {
    const payload =
      type === ToDaemon.Stdin ? Buffer.from(value as string) : Buffer.from(encodeJsonFrame(type, value)).subarray(5);
    this.#frames.push({ type, payload });
    this.#wake.resolve();
    this.#wake = Promise.withResolvers();
  }

  vanish(): void {
    this.#gone.abort(new PyroError("CANCELLED", "The caller has gone."));
    this.#frames.push(undefined);
    this.#wake.resolve();
  }

  get gone(): AbortSignal {
    return this.#gone.signal;
  }

  of(type: number): unknown[] {
    return this.told.filter((one) => one.type === type).map((one) => one.value ?? one.data);
  }

  get output(): OutputOf<"workspace.exec"> {
    return this.of(ToClient.Output)[0] as OutputOf<"workspace.exec">;
  }
}

function input<N extends OperationName>(name: N, more: object): ParsedInputOf<N> {
  return parseInput(OPERATIONS[name], { workspace_id: host.workspaceId, ...more }) as ParsedInputOf<N>;
}

const HEAD: RequestHead = { input: {}, attached: true, stdin_closed: false };

function exec(connection: Connection, more: object = {}, head: Partial<RequestHead> = {}): Promise<void> {
  const asked = input("workspace.exec", { command: ["x"], ...more });
  return serveExec(engine, asked, { ...HEAD, ...head }, connection.requests, connection.reply, connection.gone);
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 500, "it does not come");
    await sleep(5);
  }
}

test("a client has the start, the output, its stdin taken, and the end", async () => {
  const connection = new Connection();
  const served = exec(connection);
  await until(() => guest.starts.length === 1);
  connection.send(ToDaemon.Stdin, "in");
  const process = guest.process("proc_1");
  await until(() => process.stdin.toString() === "in");
  process.print("out");
  process.print("err", 2);
  process.exit(4);
  await served;
  const [started] = connection.of(ToClient.Event);
  assert.deepEqual(started, { type: "started", workspace_id: host.workspaceId, process_id: "proc_1" });
  assert.deepEqual(connection.of(ToClient.Stdout), ["out"]);
  assert.deepEqual(connection.of(ToClient.Stderr), ["err"]);
  assert.deepEqual(connection.of(ToClient.StdinAck), [{ stdin_offset: 2, closed: false }]);
  assert.equal(connection.output.exit_code, 4);
  assert.equal(connection.output.stdout, "");
  assert.equal(connection.output.next_cursor, "c6");
});

test("a client that vanishes leaves the command running; the same request takes it up where it was", async () => {
  const head = { request_id: "rq_aaaaaaaaaa" };
  const first = new Connection();
  const served = exec(first, {}, head);
  await until(() => guest.starts.length === 1);
  const process = guest.process("proc_1");
  process.print("one ");
  first.send(ToDaemon.Stdin, "abc");
  await until(() => first.of(ToClient.Stdout).length === 1 && first.of(ToClient.StdinAck).length === 1);
  first.vanish();
  await served;
  assert.equal(commands.running, 1);
  const second = new Connection();
  const again = exec(second, {}, { ...head, resume: { cursor: "4", stdin_offset: 1 } });
  second.send(ToDaemon.Stdin, "bcd");
  await until(() => process.stdin.toString() === "abcd");
  process.print("two");
  process.exit(0);
  await again;
  assert.deepEqual(second.of(ToClient.Stdout), ["two"]);
  assert.deepEqual(guest.starts, ["proc_1"]);
  // A client that was told of output is never given another command.
  const third = exec(new Connection(), {}, { request_id: "rq_bbbbbbbbbb", resume: { cursor: "4", stdin_offset: 0 } });
  await assert.rejects(third, { code: "MICROVM_LOST" });
  await assert.rejects(exec(new Connection(), {}, { request_id: "../../x" }), { code: "INVALID_INPUT" });
});

test("a cancel kills the tree and says so; one that comes while the workspace starts leaves nothing", async () => {
  const connection = new Connection();
  const served = exec(connection);
  await until(() => commands.running === 1 && guest.starts.length === 1);
  connection.send(ToDaemon.Control, { type: "cancel" });
  await assert.rejects(served, { code: "CANCELLED" });
  await commands.ended();
  assert.equal((await commands.get("proc_1")).facts.end?.signal, "SIGKILL");

  host.onEnter = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const early = new Connection();
  const starting = exec(early);
  early.send(ToDaemon.Control, { type: "cancel" });
  await assert.rejects(starting, { code: "CANCELLED" });
  await commands.ended();
  assert.equal(commands.count, 1);
});

test("a cancel is answered when the command is dead, or says that it is not yet", async () => {
  const connection = new Connection();
  const served = exec(connection);
  await until(() => guest.starts.length === 1);
  guest.hold();
  connection.send(ToDaemon.Control, { type: "cancel" });
  await sleep(50);
  assert.equal(commands.running, 1);
  setTimeout(() => guest.unhold(), 50);
  await assert.rejects(served, { code: "CANCELLED", message: "The command was cancelled." });
  assert.equal(commands.running, 0);

  const stuck = new Connection();
  const waiting = exec(stuck);
  await until(() => guest.starts.length === 2);
  guest.hold();
  stuck.send(ToDaemon.Control, { type: "cancel" });
  await assert.rejects(waiting, { code: "CANCELLED", message: /proc_2 is still being killed/ });
});

test("detached and bounded waits are answered with what runs, whose stdin stays open for others", async () => {
  const detached = new Connection();
  await exec(detached, { detach: true }, { stdin_closed: true });
  assert.equal(detached.output.state, "running");
  assert.equal(guest.process("proc_1").noStdin, false);
  const waiting = new Connection();
  const served = exec(waiting, { wait_seconds: 0.1 }, { stdin_closed: true });
  await until(() => guest.starts.length === 2);
  guest.process("proc_2").print("so far");
  await served;
  assert.equal(waiting.output.state, "running");
  assert.equal(waiting.output.next_cursor, "c6");
  assert.equal(guest.process("proc_2").noStdin, true);
  const never = new AbortController().signal;
  const wrote = await writeProcess(
    engine,
    input("process.write", { process_id: "proc_1", input: "eWVz", input_encoding: "base64" }),
    never,
  );
  assert.deepEqual([wrote.accepted_bytes, wrote.closed], [3, false]);
  assert.equal(guest.process("proc_1").stdin.toString(), "yes");
  const wrong = input("process.write", { process_id: "proc_1", input: "e*", input_encoding: "base64" });
  await assert.rejects(writeProcess(engine, wrong, never), { code: "INVALID_INPUT" });
  const both = input("process.read", { process_id: "proc_1", vm_id: "vm_aaaaaaaaaa" });
  await assert.rejects(readProcess(engine, both, never), { code: "INVALID_INPUT" });
  assert.equal((await readProcess(engine, input("process.read", { process_id: "proc_2" }), never)).stdout, "so far");
  const sent = await signalProcess(engine, input("process.signal", { process_id: "proc_1", signal: "9" }));
  assert.deepEqual([sent.signal, sent.delivered], ["SIGKILL", true]);
});

test("a wait ends with the command or with its own time", async () => {
  await exec(new Connection(), { detach: true });
  const short = new Connection();
  const asked = input("process.wait", { process_id: "proc_1", wait_seconds: 0.05 });
  await serveWait(engine, asked, HEAD, short.requests, short.reply, short.gone);
  assert.equal((short.of(ToClient.Output)[0] as OutputOf<"process.wait">).state, "running");
  const long = new Connection();
  const waited = serveWait(
    engine,
    input("process.wait", { process_id: "proc_1" }),
    HEAD,
    long.requests,
    long.reply,
    long.gone,
  );
  guest.process("proc_1").exit(2);
  await waited;
  assert.equal((long.of(ToClient.Output)[0] as OutputOf<"process.wait">).exit_code, 2);
  const lost = new Connection();
  await exec(new Connection(), { detach: true });
  const losing = serveWait(
    engine,
    input("process.wait", { process_id: "proc_2" }),
    HEAD,
    lost.requests,
    lost.reply,
    lost.gone,
  );
  guest.lose();
  await losing;
  assert.match((lost.of(ToClient.Output)[0] as OutputOf<"process.wait">).lost_reason ?? "", /microVM ended/);
});

test("a log that is followed tells of each end, until the caller cancels or the workspace goes", async () => {
  guest.immediate = true;
  await exec(new Connection());
  const page = new Connection();
  const asked = input("workspace.logs", {});
  await serveLogs(engine, asked, HEAD, page.requests, page.reply, page.gone);
  assert.equal((page.of(ToClient.Output)[0] as OutputOf<"workspace.logs">).entries.length, 1);
  const follow = input("workspace.logs", { follow: true });
  const cancelling = new Connection();
  const cancelled = serveLogs(engine, follow, HEAD, cancelling.requests, cancelling.reply, cancelling.gone);
  const lasting = new Connection();
  const served = serveLogs(engine, follow, HEAD, lasting.requests, lasting.reply, lasting.gone);
  await exec(new Connection());
  await until(() => cancelling.of(ToClient.Event).length === 2 && lasting.of(ToClient.Event).length === 2);
  cancelling.send(ToDaemon.Control, { type: "cancel" });
  await assert.rejects(cancelled, { code: "CANCELLED" });
  await commands.abandon(new PyroError("WORKSPACE_NOT_FOUND", "deleted"));
  await served;
  const output = lasting.of(ToClient.Output)[0] as OutputOf<"workspace.logs">;
  assert.deepEqual(output, { workspace_id: host.workspaceId, entries: [], next_cursor: null });
});
