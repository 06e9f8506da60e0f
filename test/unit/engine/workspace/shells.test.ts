// The shells of a workspace in a guest that the test holds: what is typed, what is read of them and how they end, also after
// another daemon, and with what a guest may print.
import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Shell } from "../../../../src/engine/workspace/shell.ts";
import { Shells } from "../../../../src/engine/workspace/shells.ts";
import { PyroError } from "../../../../src/errors/error.ts";
import { parseInput } from "../../../../src/operations/check.ts";
import { OPERATIONS, type ParsedInputOf } from "../../../../src/operations/table.ts";
import { FakeGuest, FakeHost, type FakeProcess } from "./fake-guest.ts";

const never = new AbortController().signal;
const named = { workspace_id: "ws_aaaaaaaaaa", shell_id: "sh_1" };

let directory: string;
let guest: FakeGuest;
let host: FakeHost;
const made: Shells[] = [];

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-shells-"));
  guest = new FakeGuest();
  host = new FakeHost(directory, guest, "sh");
});

afterEach(async () => {
  for (const shells of made.splice(0)) await shells.abandon(new PyroError("CANCELLED", "The test is over."));
  await rm(directory, { recursive: true, force: true });
});

async function opened(machineId: string | null = host.machineId): Promise<Shells> {
  const shells = await Shells.open(host);
  made.push(shells);
  await shells.adopt(machineId ?? undefined);
  return shells;
}

async function begun(shells: Shells, requestId?: string): Promise<{ shell: Shell; process: FakeProcess }> {
  const request = { requestId, cwd: undefined, cols: 40, rows: 10 };
  const shell = await shells.begin(request, () => {}, { cancelled: never, stop: never });
  return { shell, process: guest.process(shell.shellId) };
}

function read(shell: Shell, more: object = {}) {
  const input = parseInput(OPERATIONS["shell.read"], { ...named, ...more }) as ParsedInputOf<"shell.read">;
  return shell.read(input, never);
}

function write(shell: Shell, more: object) {
  const input = parseInput(OPERATIONS["shell.write"], { ...named, ...more }) as ParsedInputOf<"shell.write">;
  return shell.write(input, never);
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    assert.ok(tries < 500, "it does not come");
    await sleep(5);
  }
}

async function printed(shell: Shell, process: FakeProcess, text: string | Buffer): Promise<void> {
  process.print(text);
  await until(() => shell.command.spool.end === process.end);
}

const withCode = (code: string) => (error: unknown) => error instanceof PyroError && error.code === code;

test("a shell is opened once for a call, is no activity while it waits, and counts apart", async () => {
  const shells = await opened();
  const { shell, process } = await begun(shells, "rq_aaaaaaaaaa");
  assert.equal((await begun(shells, "rq_aaaaaaaaaa")).shell.shellId, shell.shellId);
  assert.deepEqual([shell.shellId, guest.starts], ["sh_1", ["sh_1"]]);
  assert.match(process.argv.join(" "), /^\/bin\/sh -c .*exec "\$shell" -l/);
  assert.ok(process.env.includes("TERM=xterm-256color"));
  assert.equal(host.inside, 0);
  assert.deepEqual([shells.count, shells.running], [1, 1]);
  const uses = host.uses;
  await read(shell);
  assert.equal(host.uses, uses);
  await printed(shell, process, "x");
  await until(() => host.uses > uses);
});

test("what is typed: lines end with Enter, keys are what the program has asked for", async () => {
  const { shell, process } = await begun(await opened());
  const typed = async (more: object) => {
    const from = process.stdin.length;
    const { acceptedBytes } = await write(shell, more);
    const text = process.stdin.subarray(from).toString("latin1");
    assert.equal(acceptedBytes, text.length);
    return text;
  };
  assert.equal(await typed({ input: "ls" }), "ls\r");
  assert.equal(await typed({ input: "ls\n" }), "ls\r");
  assert.equal(await typed({ input: "a\r\nb\nc" }), "a\rb\rc\r");
  assert.equal(await typed({ input: "" }), "\r");
  assert.equal(await typed({ input: "y", no_newline: true }), "y");
  assert.equal(
    await typed({ input: Buffer.from("\x00\n\xff", "latin1").toString("base64"), input_encoding: "base64" }),
    "\x00\n\xff",
  );
  assert.equal(await typed({ keys: "C-c Up x" }), "\x03\x1b[Ax");
  await printed(shell, process, "\x1b[?1h");
  assert.equal(await typed({ keys: "Up" }), "\x1bOA");
  const { cursor } = await write(shell, { input: "z" });
  assert.equal(cursor, "c5");
  await assert.rejects(write(shell, { input: "x", keys: "Up" }), withCode("INVALID_INPUT"));
  await assert.rejects(write(shell, {}), withCode("INVALID_INPUT"));
  await assert.rejects(write(shell, { input: "?", input_encoding: "base64" }), withCode("INVALID_INPUT"));
});

test("pieces are whole characters, and with plain whole sequences; cursors lose nothing", async () => {
  const { shell, process } = await begun(await opened());
  const text = "\x1b[32mgrün\x1b[0m 漢字 \x1b]0;title\x07end\r\n".repeat(20);
  await printed(shell, process, text);
  for (const plain of [false, true]) {
    for (const max_bytes of [1, 3, 7, 50, 65_536]) {
      let all = "";
      let cursor = "c0";
      for (;;) {
        const piece = await read(shell, { cursor, max_bytes, plain });
        assert.equal(piece.cursor, cursor);
        const encoding = piece.output_encoding === "utf-8" ? "utf8" : "base64";
        if (!plain || max_bytes >= 7) assert.ok(Buffer.from(piece.output, encoding).length <= max_bytes);
        all += piece.output_encoding === "utf-8" ? piece.output : "?";
        if (piece.next_cursor === cursor) break;
        assert.equal(piece.truncated, piece.next_cursor !== `c${Buffer.byteLength(text)}`);
        cursor = piece.next_cursor;
      }
      // A byte at a time there is no choice but to cut.
      if (max_bytes < 7) continue;
      if (!plain) assert.equal(all, text);
      else if (max_bytes > 1000) assert.equal(all, "grün 漢字 end\n".repeat(20));
      else assert.equal(all.replaceAll("\n", ""), "grün 漢字 end".repeat(20));
    }
  }
});

test("half a character, and half a sequence, wait for the rest", async () => {
  const { shell, process } = await begun(await opened());
  await printed(shell, process, Buffer.from("aé").subarray(0, 2));
  const half = await read(shell);
  assert.deepEqual([half.output, half.next_cursor], ["a", "c1"]);
  await printed(shell, process, Buffer.from("é").subarray(1));
  assert.equal((await read(shell, { cursor: "c1" })).output, "é");
  await printed(shell, process, "b\x1b[3");
  const plain = await read(shell, { cursor: "c3", plain: true });
  assert.deepEqual([plain.output, plain.next_cursor], ["b", "c4"]);
  await printed(shell, process, "1mred");
  assert.equal((await read(shell, { cursor: "c4", plain: true })).output, "red");
});

test("what was dropped is told, and the screen is that of what is there", async () => {
  const { shell, process } = await begun(await opened());
  await printed(shell, process, "begin\r\n");
  // The guest had to drop some of it.
  process.end += 1000n;
  await printed(shell, process, "\x1b[H\x1b[2Jbehind");
  const first = await read(shell);
  assert.deepEqual([first.output, first.dropped_bytes, first.truncated], ["begin\r\n", 0, true]);
  const second = await read(shell, { cursor: first.next_cursor });
  assert.deepEqual([second.output, second.dropped_bytes, second.cursor], ["\x1b[H\x1b[2Jbehind", 1000, "c1007"]);
  const screen = await read(shell, { screen: true, max_bytes: 3 });
  assert.deepEqual([screen.output, screen.truncated, screen.screen?.cursor_column], ["", true, 7]);
  assert.equal((await read(shell, { screen: true })).output, "behind");
});

test("a read waits for output, or for quiet, and no longer than it may", async () => {
  const { shell, process } = await begun(await opened());
  const waiting = read(shell, { cursor: "c0", wait_seconds: 20 });
  await sleep(30);
  await printed(shell, process, "now");
  assert.equal((await waiting).output, "now");
  const quiet = read(shell, { cursor: "c3", wait_for_idle_ms: 150 });
  for (let at = 0; at < 5; at++) {
    await sleep(60);
    process.print(String(at));
  }
  assert.equal((await quiet).output, "01234");
  const began = Date.now();
  await read(shell, { cursor: "c8", wait_for_idle_ms: 20_000, wait_seconds: 0.1 });
  assert.ok(Date.now() - began < 10_000);
  const ending = read(shell, { cursor: "c8", wait_for_idle_ms: 20_000 });
  await sleep(30);
  process.exit(3);
  assert.deepEqual([(await ending).state, (await ending).exit_code], ["stopped", 3]);
});

test("signals go where they belong; closing hangs up, ends the tree, and is done once", async () => {
  const { shell, process } = await begun(await opened());
  const sent = async (name: "HUP" | "INT" | "TERM") => {
    await shell.signal(name);
    return [process.signals.at(-1)?.signal, process.last?.foreground, process.last?.endTreeMs];
  };
  assert.deepEqual(await sent("INT"), [2, true, 0]);
  assert.deepEqual(await sent("TERM"), [15, true, 0]);
  assert.deepEqual(await sent("HUP"), [1, false, 0]);
  await shell.close(never);
  assert.deepEqual([process.signals.at(-1)?.signal, process.last?.endTreeMs], [1, 1000]);
  assert.deepEqual([shell.facts.state, shell.facts.exit_code], ["stopped", 129]);
  const { length } = process.signals;
  await shell.close(never);
  assert.equal(process.signals.length, length);
  await assert.rejects(write(shell, { input: "x" }), withCode("SHELL_STOPPED"));
  await assert.rejects(shell.signal("KILL"), withCode("SHELL_STOPPED"));
  await assert.rejects(shell.resize({ cols: 1, rows: 1 }), withCode("SHELL_STOPPED"));
});

test("another daemon takes shells up, with the sizes their terminals had; one of another microVM is lost", async () => {
  const first = await opened();
  const { shell, process } = await begun(first);
  await printed(shell, process, "x".repeat(40));
  await shell.resize({ cols: 60, rows: 12 });
  await printed(shell, process, `\r\n${"y".repeat(60)}`);
  const before = (await read(shell, { screen: true })).output;
  await first.release();
  assert.equal(process.exited, undefined);
  const second = await opened();
  const again = await second.get("sh_1");
  assert.deepEqual([again.facts.state, again.facts.cols, again.facts.rows], ["running", 60, 12]);
  await write(again, { input: "on" });
  assert.equal(process.stdin.toString(), "on\r");
  assert.equal((await read(again, { screen: true })).output, before);
  await second.release();
  const third = await opened("vm_2");
  const lost = await third.get("sh_1");
  assert.deepEqual([lost.facts.state, lost.facts.exit_code], ["stopped", null]);
  assert.match(lost.facts.lost_reason ?? "", /ended/);
  assert.ok((await read(lost)).output.startsWith("xxx"));
  const { shells } = await third.list({ all: true, limit: 10 });
  assert.deepEqual(
    shells.map(({ shell_id }) => shell_id),
    ["sh_1"],
  );
  assert.deepEqual((await third.list({ all: false, limit: 10 })).shells, []);
});

test("what is damaged on disk is passed over", async () => {
  const first = await opened();
  const { shell, process } = await begun(first);
  await printed(shell, process, "there");
  await shell.resize({ cols: 60, rows: 12 });
  await first.release();
  for (const damaged of ["{", "7", '[{"at":"x","cols":5,"rows":5},{"at":"3","cols":0,"rows":5},null]']) {
    await writeFile(join(shell.command.directory, "sizes.json"), damaged);
    const shells = await opened();
    const again = await shells.get("sh_1");
    assert.deepEqual([again.facts.cols, again.facts.rows], [40, 10], damaged);
    assert.equal((await read(again, { screen: true })).output, "there");
    await shells.release();
  }
});

test("what is no shell is not found, with those that are near", async () => {
  const shells = await opened();
  await begun(shells);
  await assert.rejects(shells.get("sh_2"), (error) => withCode("SHELL_NOT_FOUND")(error) && /sh_1/.test(String(error)));
  for (const id of ["proc_1", "sh_0", "sh_01", "SH_1", "sh_1 ", "../sh_1"]) {
    await assert.rejects(shells.get(id), withCode("SHELL_NOT_FOUND"), id);
  }
});
