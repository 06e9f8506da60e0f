// Shells of a workspace as people, programs and agents use them: each of the three faces, in one real microVM.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Shell } from "pyro-mcp";
import { Faces } from "./shell-faces.ts";

const QUIET = { waitForIdleMs: 400, waitSeconds: 30 };

let faces: Faces;

before(async () => {
  faces = await Faces.open();
});

after(() => faces[Symbol.asyncDispose]());

const shellsOf = () => faces.sdk.workspace("shells").shell;

/** Types a line and gives what was printed until it was quiet. */
async function typed(shell: Shell, line: string): Promise<string> {
  const { cursor } = await shell.write(line);
  return (await shell.read({ cursor, plain: true, ...QUIET })).output;
}

/** Reads until the text is there. */
async function until(shell: Shell, text: string, cursor?: string): Promise<string> {
  const deadline = Date.now() + 60_000;
  for (;;) {
    const { output } = await shell.read({ cursor, plain: true });
    if (output.includes(text)) return output;
    assert.ok(Date.now() < deadline, `no ${text} in ${output.slice(-500)}`);
    await sleep(100);
  }
}

test("a REPL goes on from call to call, whichever face calls", { timeout: 120_000 }, async () => {
  const opened = await faces.command<{ shell_id: string; cols: number; state: string }>("open");
  assert.deepEqual([opened.shell_id, opened.cols, opened.state], ["sh_1", 120, "running"]);
  await faces.command("write", "sh_1", "--input", "python3 -i");
  const shell = shellsOf().get("sh_1");
  await until(shell, ">>> ");
  await faces.command("write", "sh_1", "--input", "x = 6");
  await shell.write("y = x * 7");
  const { cursor } = await faces.tool("shell_write", { shell_id: "sh_1", input: "print('it is', y)" });
  const read = await faces.tool("shell_read", { shell_id: "sh_1", cursor, plain: true, wait_for_idle_ms: 400 });
  // What is typed is echoed at once: the line above it may be here too, and the prompts that answer it.
  assert.match(String(read.output), /(^|\n)(>>> )*print\('it is', y\)\n(>>> )*it is 42\n>>> $/);
  assert.deepEqual([read.state, read.output_encoding, read.truncated], ["running", "utf-8", false]);
  await shell.write({ keys: "C-d" });
  assert.match(await typed(shell, "echo $((y + 1)) $TERM"), /\n1 xterm-256color\n/);
  await faces.command("close", "sh_1");
});

test("bytes as they are, as a person sees them, and as the screen is", { timeout: 120_000 }, async () => {
  await using shell = await shellsOf().open({ cols: 60, rows: 10, cwd: "/tmp" });
  assert.equal(shell.opened?.cwd, "/tmp");
  await until(shell, "/tmp#");
  const { cursor } = await shell.write("printf '10%%\\r50%%\\r\\e[31m100%%\\e[0m done\\n'; printf 'é%.0s' $(seq 30)");
  const plain = await shell.read({ cursor, plain: true, ...QUIET });
  assert.match(plain.output, /\n100% done\né{30}root@/);
  const raw = await shell.read({ cursor });
  assert.ok(raw.output.includes("10%\r50%\r\x1b[31m100%\x1b[0m done\r\n"), JSON.stringify(raw.output));
  assert.equal(raw.nextCursor, plain.nextCursor);
  // However small the pieces, they are characters, and together they are all of it.
  let together = "";
  for (let at = cursor; at !== raw.nextCursor; ) {
    const piece = await shell.read({ cursor: at, maxBytes: 7 });
    assert.equal(piece.outputEncoding, "utf-8");
    assert.equal(piece.cursor, at);
    together += piece.output;
    at = piece.nextCursor;
  }
  assert.equal(together, raw.output);
  await typed(shell, "clear; printf '\\e[3;5Hthere\\e[?25l\\e[5;1H'; sleep 1000");
  const screen = await faces.tool("shell_read", { shell_id: shell.shellId, screen: true });
  assert.equal(screen.output, "\n\n    there");
  assert.deepEqual(screen.screen, { cursor_row: 5, cursor_column: 1, alternate: false });
});

test("keys, signals and sizes reach what has the terminal", { timeout: 120_000 }, async () => {
  await using shell = await shellsOf().open({ cols: 80, rows: 24 });
  await until(shell, "#");
  assert.match(await typed(shell, "stty size; trap 'echo now $(stty size)' WINCH"), /\n24 80\n/);
  const { cursor } = await shell.read();
  const resized = await faces.command<{ cols: number; rows: number }>(
    "resize",
    shell.shellId,
    "--cols",
    "100",
    "--rows",
    "40",
  );
  assert.deepEqual([resized.cols, resized.rows], [100, 40]);
  // The shell runs its trap with the next prompt.
  await shell.write("");
  await until(shell, "now 40 100", cursor);
  await shell.write("echo first-$((1 + 1))");
  await until(shell, "first-2");
  const again = await shell.write({ keys: "Up Enter" });
  await until(shell, "first-2", again.cursor);
  for (const signal of ["INT", "TERM"] as const) {
    const begun = await shell.write("sleep 1000");
    await until(shell, "sleep 1000", begun.cursor);
    await sleep(500);
    assert.equal((await shell.signal(signal)).delivered, true);
    await shell.write("echo status-$?");
    await until(shell, `status-${signal === "INT" ? 130 : 143}`, begun.cursor);
  }
  const stopped = await shell.write("cat");
  await sleep(500);
  await faces.tool("shell_write", { shell_id: shell.shellId, keys: "h i Enter" });
  await until(shell, "hi\nhi\n", stopped.cursor);
  await faces.tool("shell_write", { shell_id: shell.shellId, keys: "C-c" });
  await until(shell, "^C", stopped.cursor);
});

test("closing ends all that was started in it, once; what it printed stays", { timeout: 120_000 }, async () => {
  const shell = await shellsOf().open();
  await until(shell, "#");
  assert.match(await typed(shell, "nohup setsid sleep 4321 >/dev/null 2>&1 & echo left-$?"), /left-0/);
  const running = async () => (await faces.workspace.sh("pgrep -cfx 'sleep 4321' || true")).trim();
  assert.equal(await running(), "1");
  const closed = await shell.close();
  assert.deepEqual([closed.state, closed.exitCode, closed.lostReason], ["stopped", 129, null]);
  assert.deepEqual(await faces.tool("shell_close", { shell_id: shell.shellId }).then(({ state }) => state), "stopped");
  for (let tries = 0; (await running()) !== "0"; tries++) assert.ok(tries < 50, "it lives on");
  assert.match(await until(shell, "left-0"), /nohup setsid/);
  await faces.refused("SHELL_STOPPED", "write", shell.shellId, "--input", "x");
  assert.equal(await faces.toolRefused("shell_signal", { shell_id: shell.shellId, signal: "INT" }), "SHELL_STOPPED");
  await faces.refused("SHELL_STOPPED", "resize", shell.shellId, "--cols", "80", "--rows", "24");
  // One that its own program ends is as a command is.
  const own = await shellsOf().open();
  await own.write("exit 7");
  const end = Date.now() + 30_000;
  while ((await own.read()).state === "running" && Date.now() < end) await sleep(100);
  assert.equal((await own.read()).exitCode, 7);
  const { shells } = await shellsOf().list({ all: true });
  assert.deepEqual(
    shells.map(({ shellId, state }) => `${shellId} ${state}`),
    ["sh_1", "sh_2", "sh_3", "sh_4", "sh_5"].map((id) => `${id} stopped`),
  );
  const status = await faces.workspace.status();
  assert.deepEqual([status.shell_count, status.running_shell_count], [5, 0]);
  // Shells are no commands.
  const logs = await faces.workspace.logs();
  assert.ok(logs.every(({ process_id }) => process_id.startsWith("proc_")));
  assert.equal(status.command_count, logs.length);
});

test("what makes no sense is refused, by code", { timeout: 120_000 }, async () => {
  await using shell = await shellsOf().open();
  const id = shell.shellId;
  await faces.refused("SHELL_NOT_FOUND", "read", "sh_99");
  await faces.refused("SHELL_NOT_FOUND", "close", "proc_1");
  assert.equal(await faces.toolRefused("shell_read", { shell_id: "sh_0" }), "SHELL_NOT_FOUND");
  await faces.refused("INVALID_INPUT", "resize", id, "--cols", "0", "--rows", "24");
  await faces.refused("INVALID_INPUT", "resize", id, "--cols", "80", "--rows", "1001");
  await faces.refused("INVALID_INPUT", "open", "--cols", "0");
  await faces.refused("CWD_NOT_FOUND", "open", "--cwd", "/nowhere");
  await faces.refused("CURSOR_INVALID", "read", id, "--cursor", "c99999999");
  await faces.refused("CURSOR_INVALID", "read", id, "--cursor", "x");
  await faces.refused("INVALID_INPUT", "signal", id, "--signal", "FOO");
  await faces.refused("INVALID_INPUT", "write", id);
  await faces.refused("INVALID_INPUT", "write", id, "--input", "x", "--keys", "Up");
  await faces.refused("INVALID_INPUT", "read", id, "--plain", "--screen");
  assert.equal(await faces.toolRefused("shell_write", { shell_id: id, keys: "NoSuchKey" }), "INVALID_INPUT");
  const notATerminal = await faces.cli.finish(["shell", "attach", "shells"]);
  assert.equal(notATerminal.status, 125);
  assert.match(notATerminal.stderr.toString(), /have to be a terminal/);
  // What was refused has opened nothing.
  assert.deepEqual(
    (await shellsOf().list()).shells.map(({ shellId }) => shellId),
    [id],
  );
});

test("five at once, each its own; a daemon that is killed loses nothing of them", { timeout: 180_000 }, async () => {
  const all = await Promise.all([1, 2, 3, 4, 5].map(() => shellsOf().open()));
  assert.equal(new Set(all.map(({ shellId }) => shellId)).size, 5);
  await Promise.all(
    all.map((shell, at) => shell.write(`n=${at}; for i in $(seq 60); do echo "$n:$i"; sleep 0.1; done; echo end-$n`)),
  );
  await Promise.all(all.map((shell, at) => until(shell, `${at}:5`)));
  process.kill(await faces.home.pid(), "SIGKILL");
  await Promise.all(
    all.map(async (shell, at) => {
      const output = await until(shell, `\nend-${at}`);
      const lines = output.split("\n").filter((line) => /^\d:\d+$/.test(line));
      assert.deepEqual(
        lines,
        Array.from({ length: 60 }, (_, index) => `${at}:${index + 1}`),
      );
    }),
  );
  assert.equal((await faces.workspace.status()).running_shell_count, 5);
  assert.match(await typed(all[2] as Shell, "echo still $n"), /still 2/);
  await Promise.all(all.map((shell) => shell.close()));
});

test("50 MB: nothing is lost inside the bound, cursors are right, the daemon's memory is flat", {
  timeout: 300_000,
}, async (context) => {
  await using shell = await shellsOf().open();
  await until(shell, "#");
  const pid = await faces.home.pid();
  const before = await resident(pid);
  /** While the first half came, and while the second did. */
  const most = [0, 0];
  const first = 100_000_000;
  const count = 5_100_000;
  // Newlines as they are: a terminal under emulation takes its time over each that it makes two bytes of.
  await typed(shell, "bind 'set enable-bracketed-paste off'; stty -opost");
  const { cursor } = await shell.write(`seq ${first} ${first + count - 1}; stty opost; echo end-of-$n'it'`);
  let at = cursor;
  let next = first;
  let rest = "";
  const begun = performance.now();
  for (;;) {
    const { output, nextCursor, cursor: from, droppedBytes } = await shell.read({ cursor: at, waitSeconds: 30 });
    assert.deepEqual([from, droppedBytes], [at, 0]);
    assert.equal(Number(nextCursor.slice(1)) - Number(at.slice(1)), Buffer.byteLength(output));
    at = nextCursor;
    const lines = (rest + output).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (line === String(next)) next++;
      else assert.ok(next === first || next === first + count, `${line} where ${next} should be`);
    }
    if (lines.some((line) => line.startsWith("end-of-it"))) break;
    const half = next - first < count / 2 ? 0 : 1;
    most[half] = Math.max(most[half] ?? 0, await resident(pid));
  }
  assert.equal(next, first + count);
  const mebibytes = (kib: number) => Math.round(kib / 1024);
  context.diagnostic(
    `${Number(at.slice(1)) - Number(cursor.slice(1))} bytes in ${Math.round(performance.now() - begun)} ms, ` +
      `${mebibytes(before)} MiB before, ${most.map(mebibytes).join(" and then ")} MiB at most`,
  );
  const [early = 0, late = 0] = most;
  assert.ok(late < early + (24 << 10), `${early} KiB at most, and ${late} KiB twice as far on`);
  const screen = await shell.read({ screen: true, ...QUIET });
  assert.match(screen.output, /end-of-it\n.*#/);
});

test("a workspace that is stopped has no shells; the next one starts it", { timeout: 120_000 }, async () => {
  const shell = await shellsOf().open();
  await until(shell, "#");
  await faces.cli.ask(["update", "shells", "--ttl-seconds", "2"]);
  // One that only waits is no activity, and neither is reading it.
  const end = Date.now() + 60_000;
  while ((await shell.read()).state === "running" && Date.now() < end) await sleep(300);
  await faces.workspace.untilState("stopped");
  const read = await shell.read({ plain: true });
  assert.deepEqual([read.state, read.exitCode, read.lostReason], ["stopped", null, "The workspace was stopped."]);
  assert.match(read.output, /#/);
  await faces.refused("SHELL_STOPPED", "write", shell.shellId, "--input", "x");
  assert.equal((await faces.workspace.status()).state, "stopped");
  await using again = await shellsOf().open();
  assert.notEqual(again.shellId, shell.shellId);
  await until(again, "#");
  assert.equal((await faces.workspace.status()).state, "started");
});

/** KiB. */
async function resident(pid: number): Promise<number> {
  return Number(/^VmRSS:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, "utf8"))?.[1]);
}
