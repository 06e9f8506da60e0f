// The commands of a workspace in a guest that the test holds: begun once whatever dies, their logs, lists and ends.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { appendFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { Commands } from "../../../../src/engine/workspace/commands.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import { parseInput } from "../../../../src/operations/check.ts";
import { OPERATIONS, type ParsedInputOf } from "../../../../src/operations/table.ts";
import { FakeGuest, FakeHost } from "./fake-guest.ts";

let directory: string;
let guest: FakeGuest;
let host: FakeHost;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-commands-"));
  guest = new FakeGuest();
  host = new FakeHost(directory, guest);
});

afterEach(async () => {
  for (const commands of made.splice(0)) await commands.abandon(new PyroError("CANCELLED", "The test is over."));
  await rm(directory, { recursive: true, force: true });
});

const never = new AbortController().signal;

function asked(command: string | string[], more: object = {}): ParsedInputOf<"workspace.exec"> {
  const input = { workspace_id: "ws_aaaaaaaaaa", command, ...more };
  return parseInput(OPERATIONS["workspace.exec"], input) as ParsedInputOf<"workspace.exec">;
}

function begin(commands: Commands, command: string | string[], requestId?: string, more: object = {}) {
  return commands.begin({ requestId, input: asked(command, more), stdinClosed: false });
}

const made: Commands[] = [];

async function opened(machineId: string | null = host.machineId): Promise<Commands> {
  const commands = await Commands.open(host);
  made.push(commands);
  await commands.adopt(machineId ?? undefined);
  return commands;
}

/** A daemon is killed: what it had begun stays where it was, and the test sees to it that it goes no further. */
function forget(): void {
  host = new FakeHost(directory, guest);
}

function withCode(code: string) {
  return (error: unknown) => error instanceof PyroError && error.code === code;
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 500, "it does not come");
    await sleep(5);
  }
}

test("a command runs with its environment, and its end, output and record are there", async () => {
  const commands = await opened();
  const command = begin(commands, ["echo", "hi"], undefined, { env: { FROM: "call", OWN: "1" }, cwd: "src" });
  await command.started;
  const process = guest.process("proc_1");
  assert.deepEqual(process.argv, ["echo", "hi"]);
  assert.deepEqual(process.env.sort(), ["FROM=call", "HOME=/root", "LANG=C", "OWN=1", "PATH=/bin"]);
  assert.equal(commands.running, 1);
  assert.equal(commands.last?.sequence, 1);
  process.print("hi\n");
  process.print("oops\n", 2);
  process.exit(3);
  assert.equal((await command.ended).exitCode, 3);
  await command.settled;
  assert.deepEqual(guest.removed, ["proc_1"]);
  assert.deepEqual([host.inside, host.left], [0, 1]);
  assert.equal(commands.running, 0);
  const { entries, next_cursor } = await commands.entries({ limit: 10 });
  assert.equal(next_cursor, null);
  assert.equal(entries[0]?.stdout, "hi\n");
  assert.equal(entries[0]?.stderr, "oops\n");
  assert.equal(entries[0]?.exit_code, 3);
  assert.equal(entries[0]?.cwd, "/workspace/src");
  assert.equal(entries[0]?.lost_reason, null);
  await commands.release();

  const again = await opened();
  assert.deepEqual((await again.entries({ limit: 10 })).entries, entries);
  assert.equal(again.count, 1);
  assert.equal(again.last?.exit_code, 3);
  const next = begin(again, "echo two");
  await next.started;
  assert.equal(next.processId, "proc_2");
  assert.deepEqual(guest.process("proc_2").argv, ["sh", "-lc", "echo two"]);
  await again.abandon(new PyroError("CANCELLED", "over"));
});

test("a call that comes twice, at once or after the end or to another daemon, begins one command", async () => {
  const commands = await opened();
  const one = begin(commands, ["a"], "rq_aaaaaaaaaa");
  assert.equal(begin(commands, ["a"], "rq_aaaaaaaaaa"), one);
  await one.started;
  guest.process("proc_1").print("out");
  guest.process("proc_1").exit(0);
  await one.settled;
  const after = begin(commands, ["a"], "rq_aaaaaaaaaa");
  assert.equal((await after.ended).exitCode, 0);
  assert.equal(after.sequence, 1);
  await commands.release();
  const others = await opened();
  const later = begin(others, ["a"], "rq_aaaaaaaaaa");
  await later.started;
  assert.equal(later.spool.end, 3n);
  assert.equal((await later.ended).exitCode, 0);
  assert.deepEqual(guest.starts, ["proc_1"]);
  assert.throws(
    () => others.begin({ requestId: "rq_bbbbbbbbbb", input: asked("x"), stdinClosed: true, mustExist: true }),
    withCode("MICROVM_LOST"),
  );
});

test("killed before the guest is asked, the command never was; the same call begins it anew", async () => {
  const entering = Promise.withResolvers<void>();
  host.onEnter = () => entering.promise;
  const commands = await opened();
  const killed = begin(commands, ["a"], "rq_aaaaaaaaaa");
  await until(() => commands.running === 1);
  await sleep(20);
  assert.deepEqual(await readdir(directory), ["00000001"]);
  forget();
  const next = await opened();
  assert.deepEqual(await readdir(directory), []);
  assert.equal(next.count, 0);
  const command = begin(next, ["a"], "rq_aaaaaaaaaa");
  await command.started;
  guest.process(command.processId).exit(0);
  await command.ended;
  assert.deepEqual(guest.starts, ["proc_1"]);
  entering.reject(new Error("killed"));
  await killed.settled;
});

test("killed between record and start, or after it, the command is started once and its output is whole", async () => {
  for (const killed of ["before the answer", "after it"]) {
    const started = guest.starts.length;
    const answer = Promise.withResolvers<void>();
    if (killed === "before the answer") guest.onStart = () => answer.promise;
    const commands = await opened();
    const request = `rq_${killed === "after it" ? "b" : "a"}aaaaaaaaa`;
    const first = begin(commands, ["a"], request);
    await until(() => guest.starts.length === started + 1);
    const process = guest.process(first.processId);
    process.print("one ");
    if (killed === "after it") await first.started;
    await sleep(30);
    forget();
    guest.onStart = async () => {};
    process.print("two");
    const next = await opened();
    const command = begin(next, ["a"], request);
    assert.equal(command.sequence, first.sequence);
    await command.started;
    process.exit(5);
    assert.equal((await command.ended).exitCode, 5);
    await command.settled;
    const entry = await next.read({ processId: command.processId }, never);
    assert.equal(entry.stdout, "one two");
    assert.equal(guest.starts.length, started + 1);
    await next.release();
    answer.resolve();
    await first.settled;
  }
});

test("a record that was written, and a guest that was not asked yet: the next daemon asks it", async () => {
  guest.onStart = () => new Promise(() => {});
  begin(await opened(), ["a"]);
  await until(() => guest.starts.length === 1);
  forget();
  guest.processes.clear();
  guest.starts.length = 0;
  guest.onStart = async () => {};
  const next = await opened();
  const command = await next.get("proc_1");
  await command.started;
  assert.deepEqual(guest.starts, ["proc_1"]);
  guest.process("proc_1").exit(0);
  await command.ended;
});

test("killed after the end and before its record, the end is asked of the guest again", async () => {
  const commands = await opened();
  const command = begin(commands, ["a"]);
  await command.started;
  const record = await readFile(join(directory, "00000001", "command.json"));
  const process = guest.process("proc_1");
  process.print("all of it");
  process.exit(4);
  await command.settled;
  await commands.release();
  await writeFile(join(directory, "00000001", "command.json"), record);
  await rm(join(directory, "ended"));
  guest.processes.set("proc_1", process);
  const next = await opened();
  assert.equal((await (await next.get("proc_1")).ended).exitCode, 4);
  assert.equal((await next.read({ processId: "proc_1" }, never)).stdout, "all of it");
  assert.deepEqual(guest.starts, ["proc_1"]);
});

test("a microVM that is gone, or is another by now, has lost its commands and starts none of them", async () => {
  for (const machine of [null, "vm_2"]) {
    const commands = await opened();
    const command = begin(commands, ["a"]);
    await command.started;
    guest.process(command.processId).print("so far");
    await until(() => command.spool.end === 6n);
    forget();
    host.machineId = machine ?? "vm_1";
    const before = guest.starts.length;
    const next = await opened(machine);
    assert.equal(next.running, 0);
    const [entry] = (await next.entries({ limit: 1, cursor: String(command.sequence - 1) })).entries;
    assert.equal(entry?.state, "exited");
    assert.equal(entry?.exit_code, null);
    assert.match(entry?.lost_reason ?? "", /ended while no daemon/);
    assert.equal(entry?.stdout, "so far");
    await assert.rejects((await next.get(command.processId)).ended, withCode("MICROVM_LOST"));
    assert.equal(guest.starts.length, before);
    await next.release();
  }
});

test("a microVM that ends under them is noticed by themselves or told, once, and all output is there", async () => {
  for (const how of ["noticed", "told"]) {
    const commands = await opened();
    const command = begin(commands, ["a"]);
    await command.started;
    guest.process(command.processId).print("last words");
    await until(() => command.spool.end === 10n);
    const reason = new PyroError("MICROVM_LOST", "The microVM ended: told.");
    if (how === "noticed") guest.lose();
    else await commands.lose(reason.message);
    await assert.rejects(command.ended, withCode("MICROVM_LOST"));
    await commands.lose(reason.message);
    await commands.ended();
    await command.settled;
    const entry = await commands.read({ processId: command.processId }, never);
    assert.equal(entry.stdout, "last words");
    assert.equal(entry.lost_reason, how === "noticed" ? "The microVM ended: killed." : reason.message);
    assert.equal(host.inside, 0);
    await commands.release();
    const again = await opened();
    assert.equal((await again.get(command.processId)).facts.lost?.message, entry.lost_reason);
    guest = new FakeGuest();
    host = new FakeHost(directory, guest);
  }
});

test("what the guest refuses, what cannot be entered and what is cancelled first never was", async () => {
  const commands = await opened();
  guest.refuse = new ConnectError("cwd: no such directory", Code.NotFound);
  await assert.rejects(begin(commands, ["a"], "rq_aaaaaaaaaa").started, withCode("CWD_NOT_FOUND"));
  guest.refuse = undefined;
  host.onEnter = async () => {
    throw new PyroError("WORKSPACE_FAILED", "no");
  };
  await assert.rejects(begin(commands, ["a"]).ended, withCode("WORKSPACE_FAILED"));
  host.onEnter = (signal) => new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  const waiting = begin(commands, ["a"]);
  await sleep(10);
  waiting.cancel(new PyroError("CANCELLED", "enough"));
  await assert.rejects(waiting.ended, withCode("CANCELLED"));
  await waiting.settled;
  await until(() => host.inside === 0);
  assert.equal(commands.count, 0);
  assert.equal(commands.last, undefined);
  assert.deepEqual(await readdir(directory), []);
  await assert.rejects(commands.get("proc_1"), withCode("PROCESS_NOT_FOUND"));
  host.onEnter = async () => {};
  const fine = begin(commands, ["a"], "rq_aaaaaaaaaa");
  await fine.started;
  assert.equal(fine.sequence, 4);
  assert.throws(() => begin(commands, ["a\0b"]), withCode("INVALID_INPUT"));
  await commands.release();
});

test("a guest that does not answer a start leaves a command that is lost, and its number is not given again", async () => {
  guest.onStart = async () => {
    throw new PyroError("GUEST_UNRESPONSIVE", "no answer");
  };
  const commands = await opened();
  const command = begin(commands, ["a"]);
  await assert.rejects(command.ended, withCode("GUEST_UNRESPONSIVE"));
  await command.settled;
  assert.equal(commands.count, 1);
  await commands.release();
  const next = await opened();
  assert.equal(begin(next, ["b"]).sequence, 2);
});

test("a cancel kills the whole tree, and the end is recorded", async () => {
  const commands = await opened();
  const command = begin(commands, ["a"]);
  await command.started;
  command.cancel(new PyroError("CANCELLED", "enough"));
  assert.equal((await command.ended).signal, "SIGKILL");
  const starting = Promise.withResolvers<void>();
  guest.onStart = () => starting.promise;
  const second = begin(commands, ["b"]);
  await until(() => guest.starts.length === 2);
  second.cancel(new PyroError("CANCELLED", "enough"));
  starting.resolve();
  assert.equal((await second.ended).signal, "SIGKILL");
});

test("a hundred at once keep their own logs and order; those that never end hold up none", async () => {
  const commands = await opened();
  const all = Array.from({ length: 100 }, (_, at) => begin(commands, ["echo", String(at)]));
  assert.deepEqual(
    all.map(({ sequence }) => sequence),
    all.map((_, at) => at + 1),
  );
  await Promise.all(all.map(({ started }) => started));
  for (const command of all) {
    const process = guest.process(command.processId);
    for (let line = 0; line < 20; line++) process.print(`${command.sequence}:${line}\n`);
    if (command.sequence !== 7) process.exit(0);
  }
  await Promise.all(all.filter(({ sequence }) => sequence !== 7).map(({ settled }) => settled));
  assert.equal(commands.running, 1);
  const { outcomes, running, newest } = await commands.review(2);
  assert.deepEqual([outcomes, running], [{ succeeded: 99, failed: 0, lost: 0 }, 1]);
  assert.deepEqual(
    newest.map(({ process_id, state }) => `${process_id} ${state}`),
    ["proc_7 running", "proc_99 exited", "proc_100 exited"],
  );
  assert.deepEqual(
    (await commands.list({ all: false, limit: 100 })).processes.map((one) => one.sequence),
    [7],
  );
  const seen: number[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await commands.entries({ limit: 30, cursor });
    for (const entry of page.entries) {
      seen.push(entry.sequence);
      assert.equal(entry.stdout, Array.from({ length: 20 }, (_, line) => `${entry.sequence}:${line}\n`).join(""));
      assert.equal(entry.state, entry.sequence === 7 ? "running" : "exited");
    }
    if (page.next_cursor === null) break;
    cursor = page.next_cursor;
  }
  assert.deepEqual(
    seen,
    all.map(({ sequence }) => sequence),
  );
  await assert.rejects(commands.entries({ limit: 1, cursor: "c7" }), withCode("CURSOR_INVALID"));
  await commands.release();
  // The one that never ends goes on under the next daemon.
  const next = await opened();
  assert.equal(next.count, 100);
  guest.process("proc_7").exit(0);
  await next.ended();
  assert.equal((await next.list({ all: true, limit: 1000 })).processes.length, 100);
});

test("an answer is one frame: large entries take more pages, and output left out is behind its cursor", async () => {
  const commands = await opened();
  guest.immediate = true;
  const words = ["x".repeat(120_000), "\u0001".repeat(100_000), ...Array<string>(4).fill("y".repeat(100_000))];
  for (const argv of [["a"], ["b"], words, ["c"]]) await begin(commands, argv).settled;
  guest.immediate = false;
  const noisy = begin(commands, ["noise"]);
  await noisy.started;
  for (let at = 0; at < 20; at++) guest.process(noisy.processId).print(Buffer.alloc(10_000, 1));
  guest.process(noisy.processId).exit(0);
  await noisy.settled;
  const seen: number[] = [];
  for (let cursor: string | undefined; ; ) {
    const page = await commands.entries({ limit: 100, cursor });
    assert.ok(JSON.stringify(page).length < 1 << 20);
    seen.push(...page.entries.map(({ sequence }) => sequence));
    const last = page.entries.at(-1);
    if (last?.sequence === 5) {
      assert.equal(last.stdout.length, 65_536);
      assert.ok(last.stdout_truncated);
      const rest = await commands.read({ processId: "proc_5", cursor: last.next_cursor }, never);
      assert.equal(rest.stdout.length, 65_536);
    }
    if (page.next_cursor === null) break;
    cursor = page.next_cursor;
  }
  assert.deepEqual(seen, [1, 2, 3, 4, 5]);
});

test("a follower gets them as they end, from the beginning, until the workspace is deleted", async () => {
  const commands = await opened();
  const all = ["a", "b", "c"].map((name) => begin(commands, [name]));
  await Promise.all(all.map(({ started }) => started));
  guest.process("proc_2").exit(0);
  await all[1]?.settled;
  const seen: number[] = [];
  const following = (async () => {
    for await (const entry of commands.follow({}, never)) seen.push(entry.sequence);
  })();
  await until(() => seen.length === 1);
  guest.process("proc_3").exit(0);
  await until(() => seen.length === 2);
  guest.process("proc_1").exit(0);
  await until(() => seen.length === 3);
  assert.deepEqual(seen, [2, 3, 1]);
  await commands.abandon(new PyroError("WORKSPACE_NOT_FOUND", "deleted"));
  await following;
  const gone = new AbortController();
  const stopped = commands.follow({ cursor: "9" }, gone.signal).next();
  gone.abort(new Error("caller gone"));
  assert.equal((await stopped).done, true);

  // The order is known to the next daemon too.
  const next = await opened();
  const again: number[] = [];
  for await (const entry of next.follow({ cursor: "1" }, never)) {
    again.push(entry.sequence);
    if (again.length === 2) break;
  }
  assert.deepEqual(again, [2, 3]);
});

test("damaged, missing and newer records are shown as lost with why; the rest is as it was", async () => {
  const commands = await opened();
  guest.immediate = true;
  for (let at = 0; at < 6; at++) await begin(commands, ["x"], `rq_aaaaaaaaa${"abcdef"[at]}`).settled;
  await commands.release();
  const record = (name: string) => join(directory, name, "command.json");
  await writeFile(record("00000001"), "{ not json");
  await writeFile(record("00000002"), "");
  const whole = JSON.parse(await readFile(record("00000003"), "utf8")) as object;
  await writeFile(record("00000003"), JSON.stringify({ ...whole, schema_version: 99 }));
  await writeFile(record("00000004"), JSON.stringify({ ...whole, sequence: 4, process: null }));
  await rm(record("00000005"));
  await mkdir(join(directory, "00000009"));
  await mkdir(join(directory, "stray"));
  for (const file of ["kept", "cut", "gone"]) {
    if (file === "cut") await appendFile(join(directory, "ended"), '{"sequence":6,"requ');
    if (file === "gone") await rm(join(directory, "ended"));
    const next = await opened();
    const { entries } = await next.entries({ limit: 100 });
    const shown = file === "gone" ? [1, 2, 3, 4, 6] : [1, 2, 3, 4, 5, 6];
    assert.deepEqual(
      entries.map(({ sequence }) => sequence),
      shown,
    );
    for (const { sequence, lost_reason } of entries) {
      if (sequence === 6) assert.equal(lost_reason, null);
      else assert.match(lost_reason ?? "", sequence === 3 ? /newer version/ : /damaged|missing/);
    }
    assert.equal(next.last?.sequence, 6);
    await next.release();
  }
  assert.match(await readFile(record("00000003"), "utf8"), /"schema_version":99/);
});

test("a damaged output hides nothing else", async () => {
  const commands = await opened();
  const command = begin(commands, ["x"]);
  await command.started;
  guest.process("proc_1").print("text");
  guest.process("proc_1").exit(0);
  await command.settled;
  await writeFile(join(directory, "00000001", `output.${"0".repeat(20)}`), Buffer.from([3, 0, 0, 0, 1, 7]));
  const { entries } = await commands.entries({ limit: 1 });
  assert.equal(entries[0]?.exit_code, 0);
  assert.equal(entries[0]?.omitted_bytes, 4);
});

test("writers take turns; what a process does not read is counted exactly, and the first writer's place is kept", async () => {
  const commands = await opened();
  const command = begin(commands, ["cat"]);
  await command.started;
  const process = guest.process("proc_1");
  assert.deepEqual(await command.write(0n, Buffer.from("mine "), false, never), { closed: false });
  assert.deepEqual(await command.put(Buffer.from("yours "), false, never), { acceptedBytes: 6, closed: false });
  // Sent again after a broken connection: what was taken is skipped.
  await command.write(0n, Buffer.from("mine mine"), false, never);
  assert.equal(process.stdin.toString(), "mine yours mine");
  process.reads = false;
  const stuck = command.put(Buffer.alloc(2000), false, never, 100);
  await assert.rejects(stuck, (error: PyroError) => {
    assert.equal(error.code, "PROCESS_NOT_READING");
    assert.equal(error.details.accepted_bytes, 985);
    return true;
  });
  process.reads = true;
  await command.write(9n, Buffer.from("!"), false, never);
  assert.equal(process.stdin.length, 1001);
  assert.equal(process.stdin.at(-1), "!".charCodeAt(0));
  // The place is kept for another daemon's time too.
  forget();
  const next = await opened();
  const adopted = await next.get("proc_1");
  await adopted.write(9n, Buffer.from("!?"), true, never);
  assert.equal(process.stdin.subarray(-2).toString(), "!?");
  assert.ok(process.eof);
  process.exit(0);
  await adopted.ended;
  assert.deepEqual(await adopted.put(Buffer.from("late"), false, never), { acceptedBytes: 0, closed: true });
});

test("signals go to the process, KILL to all it started, and to nobody when it has ended", async () => {
  const commands = await opened();
  const command = begin(commands, ["x"]);
  await command.started;
  assert.equal(await command.signal(15), true);
  assert.equal(await command.signal(9), true);
  const { signal, exitCode } = await command.ended;
  assert.deepEqual([signal, exitCode], ["SIGKILL", 137]);
  assert.equal(await command.signal(15), false);
  await command.settled;
  assert.equal(await (await commands.get("proc_1")).signal(9), false);
});

test("a read waits for output or the end, and says where it goes on", async () => {
  const commands = await opened();
  const command = begin(commands, ["x"]);
  await command.started;
  const process = guest.process("proc_1");
  const waiting = commands.read({ processId: "proc_1", waitSeconds: 20 }, never);
  await sleep(20);
  process.print("one");
  const first = await waiting;
  assert.equal(first.stdout, "one");
  assert.equal(first.state, "running");
  const second = commands.read({ processId: "proc_1", cursor: first.next_cursor, waitSeconds: 20 }, never);
  await sleep(20);
  process.exit(0);
  const last = await second;
  assert.equal(last.stdout, "");
  assert.equal(last.state, "exited");
  await command.settled;
  await assert.rejects(commands.read({ processId: "proc_1", cursor: "c99" }, never), withCode("CURSOR_INVALID"));
  await assert.rejects(commands.read({ processId: "proc_2" }, never), withCode("PROCESS_NOT_FOUND"));
});

const mountable = process.getuid?.() === 0;

test("a full disk holds the command back, and everything is there when there is room", {
  skip: mountable ? false : "mounting a small file system takes root",
}, async () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=256k", "pyro-small", directory]);
  try {
    const commands = await opened();
    const command = begin(commands, ["x"]);
    await command.started;
    const told: string[] = [];
    command.listen(({ message }) => void told.push(message));
    const running = guest.process("proc_1");
    const lines = Array.from({ length: 400 }, (_, at) => `${at} ${"x".repeat(1000)}\n`);
    for (const line of lines) running.print(line);
    running.exit(3);
    await until(() => told.length > 0);
    assert.equal(command.over, false);
    // What cannot even be written down is refused, and was never run.
    await assert.rejects(begin(commands, ["y".repeat(100_000)]).ended, withCode("HOST_DISK_FULL"));
    assert.deepEqual(guest.starts, ["proc_1"]);
    execFileSync("mount", ["-o", "remount,size=4m", directory]);
    assert.equal((await command.ended).exitCode, 3);
    await command.settled;
    await commands.release();
    const again = await opened();
    const chunks: Buffer[] = [];
    const found = await again.get("proc_1");
    await found.started;
    for await (const chunk of found.spool.read(0n, false)) chunks.push(chunk.data);
    assert.equal(Buffer.concat(chunks).toString(), lines.join(""));
  } finally {
    for (const commands of made) await commands.release();
    execFileSync("umount", [directory]);
  }
});

test("an end that cannot be written down is known all the same, and written when there is room", {
  skip: mountable ? false : "mounting a small file system takes root",
}, async () => {
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=64k", "pyro-small", directory]);
  try {
    const commands = await opened();
    const command = begin(commands, ["x"]);
    await command.started;
    await writeFile(join(directory, "filler"), Buffer.alloc(1 << 20)).catch(() => {});
    guest.process("proc_1").exit(3);
    assert.equal((await command.ended).exitCode, 3);
    assert.equal((await commands.entries({ limit: 1 })).entries[0]?.exit_code, 3);
    await sleep(100);
    assert.deepEqual(guest.removed, []);
    await rm(join(directory, "filler"));
    await command.settled;
    assert.deepEqual(guest.removed, ["proc_1"]);
    await commands.release();
    assert.equal((await (await opened()).get("proc_1")).sequence, 1);
  } finally {
    for (const commands of made) await commands.release();
    execFileSync("umount", [directory]);
  }
});

test("thousands that have ended are opened without reading each", async () => {
  const commands = await opened();
  guest.immediate = true;
  for (let at = 0; at < 5; at++) await begin(commands, ["x"]).settled;
  await commands.release();
  const lines: string[] = [];
  for (let at = 6; at <= 3000; at++) {
    await mkdir(join(directory, String(at).padStart(8, "0")));
    lines.push(`{"sequence":${at},"request_id":null}\n`);
  }
  await appendFile(join(directory, "ended"), lines.join(""));
  const before = performance.now();
  const next = await opened();
  assert.ok(performance.now() - before < 1000);
  assert.equal(next.count, 3000);
  // To count how they ended each is read, once.
  const { outcomes, running, newest } = await next.review(3);
  assert.deepEqual([outcomes, running], [{ succeeded: 5, failed: 0, lost: 2995 }, 0]);
  assert.deepEqual(
    newest.map(({ sequence }) => sequence),
    [2998, 2999, 3000],
  );
  await rm(join(directory, "00000001"), { recursive: true });
  assert.deepEqual((await next.review(1)).outcomes, outcomes);
  assert.equal(begin(next, ["y"]).sequence, 3001);
});

test("a start that was never answered is ended in the guest when that answers again, and frees the workspace at once", async () => {
  const commands = await opened();
  guest.onStart = async () => {
    guest.hold();
    throw new PyroError("GUEST_UNRESPONSIVE", "The guest did not answer within 30 s.");
  };
  const command = begin(commands, ["x"]);
  await assert.rejects(command.ended, withCode("GUEST_UNRESPONSIVE"));
  await command.settled;
  assert.equal(host.left, 1);
  const process = guest.process("proc_1");
  assert.equal(process.exited, undefined);
  guest.unhold();
  await until(() => guest.removed.length === 1);
  assert.deepEqual(process.signals, [{ signal: 9, wholeTree: true }]);
});

test("a kill that a guest does not take at once is sent when it moves again", async () => {
  const commands = await opened();
  const command = begin(commands, ["x"]);
  await command.started;
  guest.hold();
  command.cancel(new PyroError("CANCELLED", "no more"));
  await sleep(20);
  assert.equal(command.over, false);
  guest.unhold();
  assert.equal((await command.ended).signal, "SIGKILL");
});

test("a command in a microVM that stands still is taken up when that goes on, not lost", async () => {
  const first = await opened();
  await begin(first, ["x"]).started;
  await first.release();
  forget();
  guest.hold();
  const commands = await opened();
  await sleep(20);
  const command = await commands.get("proc_1");
  assert.equal(command.over, false);
  guest.unhold();
  guest.process("proc_1").exit(5);
  assert.equal((await command.ended).exitCode, 5);
});

test("what a killed daemon left in the guest of commands that are over is ended and forgotten; the rest is not touched", async () => {
  const first = await opened();
  for (const word of ["ended", "lost", "runs"]) await begin(first, [word]).started;
  await first.release();
  forget();
  const directoryOf = (sequence: number) => join(directory, String(sequence).padStart(8, "0"));
  const change = async (sequence: number, fields: object) => {
    const path = join(directoryOf(sequence), "command.json");
    await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, "utf8")), ...fields }));
  };
  const at = new Date().toISOString();
  const end = { exitCode: 0, signal: null, timedOut: false, outOfMemory: false, endedAt: at };
  await change(1, { stage: "ended", end, output_end: "0" });
  await change(2, { stage: "lost", lost: { code: "GUEST_UNRESPONSIVE", message: "gone", at }, output_end: "0" });
  guest.process("proc_1").exit(0);
  const lost = guest.process("proc_2");
  const commands = await opened();
  await commands.sweep(guest.client, never);
  assert.deepEqual(guest.removed, ["proc_1", "proc_2"]);
  assert.deepEqual(lost.signals, [{ signal: 9, wholeTree: true }]);
  assert.deepEqual([...guest.processes.keys()], ["proc_3"]);
  assert.equal(guest.process("proc_3").exited, undefined);
});

test("a daemon that stops says that the command goes on, and under which id", async () => {
  const commands = await opened();
  const command = begin(commands, ["x"]);
  await command.started;
  await commands.release();
  await assert.rejects(command.ended, (error: PyroError) => {
    assert.equal(error.code, "CANCELLED");
    assert.match(error.message, /goes on in ws_aaaaaaaaaa as proc_1/);
    assert.match(error.hint, /process read ws_aaaaaaaaaa proc_1/);
    return error.details.process_id === "proc_1";
  });
});
