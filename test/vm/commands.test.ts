// The commands of a workspace around one real microVM: many at once, what they read and print, how they end, and what
// becomes of them when the daemon or the microVM goes.
import assert from "node:assert/strict";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { adoptMachine } from "../../src/drivers/adopt.ts";
import { FreshStarts } from "../../src/engine/fresh.ts";
import { MicroVm } from "../../src/engine/microvm.ts";
import { Secrets } from "../../src/engine/secrets/secrets.ts";
import type { CommandHost } from "../../src/engine/workspace/command-host.ts";
import { Commands } from "../../src/engine/workspace/commands.ts";
import type { PyroError } from "../../src/errors/error.ts";
import { parseInput } from "../../src/operations/check.ts";
import { OPERATIONS, type ParsedInputOf } from "../../src/operations/table.ts";
import { MachineRoom } from "./machines.ts";

const MACHINE = "commands";
const COMMANDS = 100;
const LINES = 200;
const never = new AbortController().signal;

let room: MachineRoom;
let vm: MicroVm;
let host: CommandHost;
let commands: Commands;
let inside = 0;

before(async () => {
  room = await MachineRoom.open();
  const prepared = await room.prepared();
  const options = { machineId: MACHINE, diskPath: join(room.directory, "disk.ext4"), signal: never };
  vm = await new FreshStarts().start(prepared, options, () => {});
  const commandsDirectory = join(room.directory, "commands");
  await mkdir(commandsDirectory);
  host = {
    workspaceId: "ws_aaaaaaaaaa",
    processKind: "proc",
    commandsDirectory,
    secrets: Secrets.none,
    enter: async () => {
      inside++;
      const env = { PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" };
      return { machineId: MACHINE, guest: vm.guest, env, leave: () => void inside-- };
    },
  };
  commands = await Commands.open(host);
  await commands.adopt(MACHINE);
});

after(async () => {
  await commands.release();
  await vm.kill();
  await room[Symbol.asyncDispose]();
});

function begin(command: string | string[], more: object = {}, stdinClosed = true) {
  const asked = { workspace_id: host.workspaceId, command, ...more };
  const input = parseInput(OPERATIONS["workspace.exec"], asked) as ParsedInputOf<"workspace.exec">;
  return commands.begin({ input, stdinClosed });
}

async function outcome(command: ReturnType<typeof begin>) {
  const end = await command.ended;
  const { stdout, stderr } = await commands.read({ processId: command.processId }, never);
  return { ...end, stdout, stderr };
}

async function guestProcesses(): Promise<string[]> {
  const options = { timeoutMs: 30_000 };
  const { processes } = await vm.guest.call((calls, call) => calls.listProcesses({}, call), options);
  return processes.map(({ processId }) => processId);
}

test(`${COMMANDS} at once: each output is whole, in order and in its own log; one that never ends is in nobody's way`, {
  timeout: 240_000,
}, async () => {
  const endless = begin("while :; do echo still; sleep 0.2; done");
  await endless.started;
  const all = Array.from({ length: COMMANDS }, (_, at) =>
    begin([
      "sh",
      "-c",
      `i=0; while [ $i -lt ${LINES} ]; do echo ${at}:$i; i=$((i+1)); done; echo err${at} >&2; exit ${at}`,
    ]),
  );
  await Promise.all(all.map(({ settled }) => settled));
  for (const [at, command] of all.entries()) {
    const { exitCode, stdout, stderr } = await outcome(command);
    assert.equal(exitCode, at);
    assert.equal(stdout, Array.from({ length: LINES }, (_, line) => `${at}:${line}\n`).join(""));
    assert.equal(stderr, `err${at}\n`);
  }
  assert.equal(commands.running, 1);
  assert.equal(inside, 1);
  // The guest keeps nothing of those that have ended.
  assert.deepEqual(await guestProcesses(), [endless.processId]);
  assert.equal(await endless.signal(15), true);
  assert.equal((await endless.ended).signal, "SIGTERM");
  await endless.settled;
  assert.equal(inside, 0);
  assert.equal(commands.count, COMMANDS + 1);
});

test("megabytes come whole, and more than a log keeps says what went", { timeout: 240_000 }, async () => {
  const { exitCode } = await outcome(begin("head -c 20000000 /dev/zero | tr '\\0' z; echo end"));
  assert.equal(exitCode, 0);
  const command = await commands.get(`proc_${commands.last?.sequence}`);
  assert.equal(command.spool.end, 20_000_004n);
});

test("background children live on after their command; KILL ends a whole tree", { timeout: 120_000 }, async () => {
  const parent = await outcome(begin("sleep 1000 & echo $! > /tmp/child; echo done"));
  assert.equal(parent.stdout, "done\n");
  assert.equal((await outcome(begin("kill -0 $(cat /tmp/child) && echo lives"))).stdout, "lives\n");
  const tree = begin("setsid sleep 2000 & echo $! > /tmp/tree; wait");
  await tree.started;
  while ((await outcome(begin("cat /tmp/tree"))).stdout === "") await sleep(100);
  assert.equal(await tree.signal(9), true);
  const { signal, exitCode } = await tree.ended;
  assert.deepEqual([signal, exitCode], ["SIGKILL", 137]);
  const dead = await outcome(
    begin(
      "for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $(cat /tmp/tree) 2>/dev/null || break; sleep 0.2; done; kill -0 $(cat /tmp/tree)",
    ),
  );
  assert.equal(dead.exitCode, 1);
  assert.equal(await tree.signal(15), false);
});

test("a time limit ends the tree and keeps what was printed", { timeout: 60_000 }, async () => {
  const end = await outcome(begin("echo partial; trap '' TERM; sleep 1000", { timeout_seconds: 5 }));
  assert.equal(end.timedOut, true);
  assert.equal(end.stdout, "partial\n");
});

test("terminal, directory, user, home, variables", { timeout: 60_000 }, async () => {
  assert.match(
    (await outcome(begin(["sh", "-c", "tty; echo $TERM"], { tty: true }))).stdout,
    /^\/dev\/pts\/\d+\r\nxterm-256color\r\n$/,
  );
  assert.equal((await outcome(begin("pwd; echo $HOME; id -u", { cwd: "/usr" }))).stdout, "/usr\n/root\n0\n");
  assert.equal(
    (await outcome(begin("id -un; echo $A", { user: "nobody", cwd: "/", env: { A: "b c" } }))).stdout,
    "nobody\nb c\n",
  );
  await assert.rejects(begin("true", { cwd: "/no/such" }).ended, { code: "CWD_NOT_FOUND" });
  await assert.rejects(begin("true", { user: "nobody-here" }).ended, { code: "USER_NOT_FOUND" });
  assert.equal((await outcome(begin(["no-such-program"]))).exitCode, 127);
});

test("stdin from the client and from others; what is not read is counted exactly", { timeout: 120_000 }, async () => {
  const cat = begin("cat", {}, false);
  await cat.started;
  await cat.write(0n, Buffer.from("one "), false, never);
  assert.deepEqual(await cat.put(Buffer.from("two "), false, never), { acceptedBytes: 4, closed: false });
  await cat.write(4n, Buffer.from("three"), true, never);
  assert.equal((await outcome(cat)).stdout, "one two three");

  const slow = begin("until [ -e /tmp/read ]; do sleep 0.1; done; wc -c", {}, false);
  await slow.started;
  const sent = 1_000_000;
  let accepted = 0;
  await assert.rejects(slow.put(Buffer.alloc(sent, 1), false, never, 3000), (error: PyroError) => {
    assert.equal(error.code, "PROCESS_NOT_READING");
    accepted = error.details.accepted_bytes as number;
    return true;
  });
  assert.ok(accepted >= 256 << 10 && accepted < sent, `${accepted} accepted`);
  await outcome(begin("touch /tmp/read"));
  assert.deepEqual(await slow.put(Buffer.alloc(5, 1), true, never), { acceptedBytes: 5, closed: false });
  assert.equal((await outcome(slow)).stdout.trim(), String(accepted + 5));
});

test("another daemon takes up what runs: nothing is run twice, nothing printed is missing", {
  timeout: 120_000,
}, async () => {
  const counting = begin("echo x >> /tmp/runs; i=0; while [ $i -lt 60 ]; do echo $i; i=$((i+1)); sleep 0.1; done");
  const reading = begin("cat; echo over", {}, false);
  await Promise.all([counting.started, reading.started]);
  await reading.write(0n, Buffer.from("before\n"), false, never);
  const ended = begin("echo quick");
  await ended.settled;
  await sleep(500);
  await commands.release();
  vm.release();
  const machine = await adoptMachine(room.launcher, MACHINE);
  assert.ok(machine);
  vm = MicroVm.adopt(machine);
  commands = await Commands.open(host);
  await commands.adopt(MACHINE);
  assert.equal(commands.running, 2);
  const again = await commands.get(reading.processId);
  await again.write(0n, Buffer.from("before\nafter\n"), true, never);
  assert.equal((await outcome(again)).stdout, "before\nafter\nover\n");
  const whole = await outcome(await commands.get(counting.processId));
  assert.equal(whole.stdout, Array.from({ length: 60 }, (_, at) => `${at}\n`).join(""));
  assert.equal((await outcome(begin("cat /tmp/runs"))).stdout, "x\n");
  assert.equal((await commands.read({ processId: ended.processId }, never)).stdout, "quick\n");
});

test("the cost of a command that does nothing, beside the guest's own", { timeout: 60_000 }, async (context) => {
  await outcome(begin(["true"]));
  const times: number[] = [];
  for (let at = 0; at < 20; at++) {
    const from = performance.now();
    await begin(["true"]).ended;
    times.push(performance.now() - from);
  }
  times.sort((a, b) => a - b);
  context.diagnostic(`exec true: median ${times[10]?.toFixed(1)} ms, least ${times[0]?.toFixed(1)} ms`);
});

test("a microVM that is killed loses its commands once, with all they had printed", { timeout: 60_000 }, async () => {
  const one = begin("echo said; sleep 1000");
  await one.started;
  while (one.spool.end < 5n) await sleep(20);
  await vm.machine.kill();
  await assert.rejects(one.ended, { code: "MICROVM_LOST" });
  await commands.lose("The microVM ended: killed.");
  await one.settled;
  const entry = await commands.read({ processId: one.processId }, never);
  assert.equal(entry.stdout, "said\n");
  assert.equal(entry.exit_code, null);
  assert.match(entry.lost_reason ?? "", /microVM ended/);
  assert.equal(inside, 0);
  const names = await readdir(host.commandsDirectory);
  assert.ok(names.includes("ended") && names.every((name) => /^(\d{8}|ended)$/.test(name)), names.join(" "));
});
