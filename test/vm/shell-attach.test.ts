// A shell in somebody's own terminal: `pyro workspace shell attach` in tmux, with vim in the shell.
import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { unpackedPackage } from "../debian-package.ts";
import { PYRO } from "./harness.ts";
import { Faces } from "./shell-faces.ts";

const run = promisify(execFile);
const PROMPT = "host-prompt";

let faces: Faces;

before(async () => {
  faces = await Faces.open();
  const vim = await unpackedPackage("vim-tiny");
  await faces.workspace.push(join(vim, "usr", "bin", "vim.tiny"), ["--dest", "tools"]);
});

after(() => faces[Symbol.asyncDispose]());

/** A terminal of its own, with a shell of the host in it. */
class Terminal implements AsyncDisposable {
  readonly #server = `pyro-test-${process.pid}-${Math.random().toString(36).slice(2)}`;

  static async open(columns: number, rows: number): Promise<Terminal> {
    const terminal = new Terminal();
    const shell = `env PYRO_HOME=${faces.home.path} PYRO_POOL_SIZE=0 PS1='${PROMPT} ' bash --norc --noprofile`;
    await terminal.#tmux("new-session", "-d", "-x", String(columns), "-y", String(rows), shell);
    await terminal.until(PROMPT);
    return terminal;
  }

  async type(text: string): Promise<void> {
    await this.#tmux("send-keys", "-l", "--", text);
  }

  async press(...keys: string[]): Promise<void> {
    await this.#tmux("send-keys", "--", ...keys);
  }

  async pyro(...args: string[]): Promise<void> {
    await this.type(`${process.execPath} ${PYRO} ${args.join(" ")}`);
    await this.press("Enter");
  }

  async resize(columns: number, rows: number): Promise<void> {
    await this.#tmux("resize-window", "-x", String(columns), "-y", String(rows));
  }

  async screen(): Promise<string> {
    return await this.#tmux("capture-pane", "-p", "-J");
  }

  /** Resolves with the screen when it shows this. */
  async until(wanted: string | RegExp): Promise<string> {
    const deadline = Date.now() + 60_000;
    for (;;) {
      const screen = await this.screen();
      if (typeof wanted === "string" ? screen.includes(wanted) : wanted.test(screen)) return screen;
      assert.ok(Date.now() < deadline, `no ${wanted} on:\n${screen}`);
      await sleep(100);
    }
  }

  /** Whatever is in front gets each key as it comes. */
  async raw(): Promise<boolean> {
    const tty = (await this.#tmux("display-message", "-p", "#{pane_tty}")).trim();
    return execFileSync("stty", ["-F", tty, "-a"], { encoding: "utf8" }).includes("-isig");
  }

  async alternate(): Promise<boolean> {
    return (await this.#tmux("display-message", "-p", "#{alternate_on}")).trim() === "1";
  }

  async pid(): Promise<number> {
    const shell = (await this.#tmux("display-message", "-p", "#{pane_pid}")).trim();
    return Number(execFileSync("pgrep", ["-P", shell], { encoding: "utf8" }).trim().split("\n")[0]);
  }

  async #tmux(...args: string[]): Promise<string> {
    return (await run("tmux", ["-L", this.#server, "-f", "/dev/null", ...args])).stdout;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tmux("kill-server").catch(() => {});
  }
}

test("vim in a shell: what is typed is in the file, it hears of a resize, it goes on without us and is there again", {
  timeout: 180_000,
}, async () => {
  await using terminal = await Terminal.open(100, 30);
  await terminal.type("echo what-was-there-before");
  await terminal.press("Enter");
  await terminal.pyro("workspace", "shell", "attach", "shells");
  await terminal.until(/sh_1 of ws_\w+; C-\] detaches/);
  await terminal.until(/root@[^\n]*#/);
  assert.equal(await terminal.raw(), true);
  await terminal.type("tools/vim.tiny -u NONE -c 'set nocp ruler' notes.txt");
  await terminal.press("Enter");
  await terminal.until(/"notes.txt" \[New/);
  assert.equal(await terminal.alternate(), true);
  await terminal.type("ifirst line");
  await terminal.press("Enter");
  await terminal.type("second line");
  await terminal.press("Escape");
  await terminal.type(":w");
  await terminal.press("Enter");
  await terminal.until(/"notes.txt".*2L/);
  assert.equal(await faces.workspace.sh("cat notes.txt"), "first line\nsecond line\n");

  // The cursor's keys are those that it has asked for.
  await terminal.press("Up", "Home");
  await terminal.type("ivery ");
  await terminal.press("Escape");
  await terminal.until("very first line");

  await terminal.resize(70, 20);
  await terminal.type(":set lines? columns?");
  await terminal.press("Enter");
  await terminal.until(/lines=20[\s\S]*columns=70/);
  await terminal.press("Enter");
  const { shells } = await faces.sdk.workspace("shells").shell.list();
  assert.deepEqual(
    shells.map(({ shellId, cols, rows }) => [shellId, cols, rows]),
    [["sh_1", 70, 20]],
  );

  await terminal.press("C-]");
  const left = await terminal.until("come back with: pyro workspace shell attach shells sh_1");
  assert.match(left, /what-was-there-before/);
  assert.equal(await terminal.alternate(), false);
  assert.equal(await terminal.raw(), false);
  await terminal.type("echo status-$?");
  await terminal.press("Enter");
  await terminal.until("status-0");

  await terminal.pyro("workspace", "shell", "attach", "shells", "sh_1");
  await terminal.until(/very first line[\s\S]*second line/);
  assert.equal(await terminal.alternate(), true);

  // Another sees the same; both type into it.
  await using other = await Terminal.open(70, 20);
  await other.pyro("workspace", "shell", "attach", "shells", "sh_1", "--detach-key", "C-p,C-q");
  await other.until(/very first line[\s\S]*second line/);
  await other.type("Othird line");
  await other.press("Escape");
  await terminal.until("third line");
  await terminal.type(":wq");
  await terminal.press("Enter");
  await other.until(/root@[^\n]*# ?\n/);
  assert.equal(await faces.workspace.sh("sort notes.txt"), "second line\nthird line\nvery first line\n");
  await other.press("C-p", "C-q");
  await other.until("detached from sh_1");

  await terminal.type("exit 5");
  await terminal.press("Enter");
  await terminal.until("sh_1 has ended with 5");
  await terminal.type("echo status-$?");
  await terminal.press("Enter");
  await terminal.until("status-5");
  await terminal.pyro("workspace", "shell", "attach", "shells", "sh_1");
  await terminal.until("The shell sh_1 has stopped");
});

test("a daemon that is killed is not missed; a client that is ended gives its terminal back", {
  timeout: 120_000,
}, async () => {
  await using terminal = await Terminal.open(80, 24);
  await terminal.pyro("workspace", "shell", "attach", "shells");
  await terminal.until(/root@[^\n]*#/);
  await terminal.type("for i in $(seq 30); do echo tick-$i; sleep 0.1; done; n=kept");
  await terminal.press("Enter");
  await terminal.until("tick-3");
  process.kill(await faces.home.pid(), "SIGKILL");
  await terminal.until("tick-30");
  await terminal.type("echo n-is-$n");
  await terminal.press("Enter");
  await terminal.until("n-is-kept");
  await terminal.type("printf '\\e[?1049h\\e[H\\e[?25lfull'; sleep 1000");
  await terminal.press("Enter");
  await terminal.until(/^full/);
  process.kill(await terminal.pid(), "SIGTERM");
  await terminal.until(PROMPT);
  assert.equal(await terminal.alternate(), false);
  assert.equal(await terminal.raw(), false);
  const { shells } = await faces.sdk.workspace("shells").shell.list();
  assert.deepEqual(
    shells.map(({ shellId, state }) => [shellId, state]),
    [["sh_2", "running"]],
  );
});

test("the SDK sees and types what a terminal does, and leaves the shell running", { timeout: 120_000 }, async () => {
  const shells = faces.sdk.workspace("shells").shell;
  const shell = await shells.open({ cols: 40, rows: 8 });
  await shell.write("echo be'fore'");
  await shell.read({ waitForIdleMs: 500 });
  const view = shell.attach({ size: { cols: 50, rows: 9 } });
  assert.equal(await view.shellId, shell.shellId);
  let shown = "";
  await view.write("echo af'ter'\r");
  for await (const data of view) {
    shown += Buffer.from(data).toString();
    if (shown.includes("after\r\n")) break;
  }
  assert.match(shown, /before[\s\S]*after/);
  await assert.rejects(view.ended, /detached/);
  const { cols, rows, state } = await shell.read();
  assert.deepEqual([cols, rows, state], [50, 9, "running"]);
  const ending = shell.attach();
  await ending.write("exit 4\r");
  for await (const _ of ending) {
    // It ends with the shell.
  }
  assert.equal((await ending.ended).exitCode, 4);
});
