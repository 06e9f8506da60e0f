// Completion as a shell does it: real bash, zsh and fish source the script and press TAB. A zsh or fish that this host
// does not have is a skip; bash is what pyro's own scripts need, so it is always there.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { after, before, test } from "node:test";
import { type Home, listen, temporaryHome } from "../client/fake-daemon.ts";
import { daemon, result, workspace } from "./command-line.ts";

const PYRO = join(import.meta.dirname, "..", "..", "..", "bin", "pyro");
let directory: string;
let home: Home;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), "pyro-completion-"));
  await symlink(PYRO, join(directory, "pyro"));
  home = await temporaryHome();
});
after(async () => {
  await rm(directory, { recursive: true });
  await home[Symbol.asyncDispose]();
});

interface Said {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
}

/** Not spawnSync: a fake daemon in this process has to answer meanwhile. */
function say(program: string, args: readonly string[], input = ""): Promise<Said> {
  const env = {
    ...process.env,
    PYRO_HOME: home.directory,
    PATH: `${directory}${delimiter}${process.env.PATH}`,
    HOME: directory,
  };
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { env, stdio: "pipe", timeout: 30_000 });
    let stdout = "";
    let stderr = "";
    child.stdout.on("data", (chunk: Buffer) => {
      stdout += chunk;
    });
    child.stderr.on("data", (chunk: Buffer) => {
      stderr += chunk;
    });
    child.once("error", reject);
    child.once("close", (status) => resolve({ stdout, stderr, status }));
    child.stdin.end(input);
  });
}

/** The words that `pyro __complete` offers. */
async function offered(...words: string[]): Promise<string[]> {
  const { stdout, stderr, status } = await say("pyro", ["__complete", "--", ...words]);
  assert.deepEqual({ stderr, status }, { stderr: "", status: 0 });
  return stdout.split("\n").flatMap((line) => (line === "" ? [] : [line.split("\t")[0] ?? ""]));
}

/** A daemon that has these environments. */
function having(names: readonly string[]) {
  return listen(home.where, (request, response) => {
    request.resume();
    response.setHeader("pyro-protocol", "1");
    const environments = names.map((environment) => ({ environment, installed: true, digest: null, size_bytes: null }));
    response.end(JSON.stringify({ environments, next_cursor: null }));
  });
}

/** What bash makes of `line` and a TAB at its end: its own words, its own word breaks. */
async function bash(line: string, setup = ""): Promise<string[]> {
  // Readline's way of cutting a line, given a completion's variables by hand: words at blanks, : and = apart.
  const script = `
    ${setup}
    source <(pyro completion bash) || exit 1
    complete -p pyro | grep -q -- '-F _pyro' || exit 1
    COMP_LINE=${quoted(line)} COMP_POINT=\${#COMP_LINE} COMP_WORDS=() rest=$COMP_LINE
    while [[ $rest =~ ^([[:space:]]*)([:=]+|[^[:space:]:=]+) ]]; do
      COMP_WORDS+=("\${BASH_REMATCH[2]}"); rest=\${rest:\${#BASH_REMATCH[0]}}
    done
    [[ $COMP_LINE == *[[:space:]] ]] && COMP_WORDS+=("")
    COMP_CWORD=$((\${#COMP_WORDS[@]} - 1))
    compopt() { :; }
    _pyro
    printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { stdout, stderr, status } = await say("bash", ["--norc", "-c", script]);
  assert.deepEqual({ stderr, status }, { stderr: "", status: 0 });
  return stdout.split("\n").filter((word) => word !== "");
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

test("commands, options, and the values that an option takes", async () => {
  assert.ok((await offered("")).includes("run"));
  assert.deepEqual(await offered("env", "l"), ["list"]);
  const begun = ["status", "stop", "start", "sync", "summary", "service", "secret", "shell", "snapshot"];
  assert.deepEqual(await offered("ws", "s"), begun);
  assert.deepEqual(await offered("ws", "sync", ""), ["push"]);
  assert.deepEqual(await offered("ws", "create", "--id"), ["--id-only"]);
  assert.deepEqual(await offered("ws", "delete", "--"), [
    "--label",
    "--all",
    "--yes",
    "--json",
    "--quiet",
    "--verbose",
    "--help",
  ]);
  assert.deepEqual(await offered("run", "--mem"), ["--mem-mib"]);
  assert.deepEqual(await offered("mcp", "serve", "--profile", "workspace-"), ["workspace-core", "workspace-full"]);
  assert.deepEqual(await offered("mcp", "serve", "--profile=vm"), ["--profile=vm-run"]);
  assert.deepEqual(await offered("completion", ""), ["bash", "zsh", "fish"]);
  assert.ok((await offered("run", "--")).includes("--quiet"));
});

test("what was given is not offered again, unless it may be repeated", async () => {
  const flags = await offered("run", "--mem-mib", "512", "--env", "A=1", "--tty", "--");
  assert.ok(!flags.includes("--mem-mib") && !flags.includes("--tty"));
  assert.ok(flags.includes("--env"));
  assert.deepEqual(await offered("run", "--mem-mib", ""), []);
  assert.deepEqual(await offered("run", "debian:12", ""), ["--"]);
});

test("behind -- is the guest's, and nonsense is no error", async () => {
  assert.deepEqual(await offered("run", "--", ""), []);
  assert.deepEqual(await offered("run", "--", "git", "--"), []);
  assert.deepEqual(await offered("nonsense", "more", ""), []);
  assert.deepEqual(await offered(), await offered(""));
});

test("names are what a running daemon has; none is started, and one that hangs is not waited for", async () => {
  assert.deepEqual(await offered("env", "pull", ""), ["debian:12"]);
  const { stdout } = await say("pyro", ["daemon", "status", "--json"]);
  assert.equal((JSON.parse(stdout) as { running: boolean }).running, false);
  {
    await using _fake = await having(["debian:12", "debian:12-build", "example.org/a:1"]);
    assert.deepEqual(await offered("run", "debian:12-"), ["debian:12-build"]);
    assert.deepEqual(await offered("env", "pull", "e"), ["example.org/a:1"]);
  }
  await using _stuck = await listen(home.where, () => {});
  const began = performance.now();
  assert.deepEqual(await offered("env", "pull", ""), ["debian:12"]);
  assert.ok(performance.now() - began < 5000);
});

test("runs with a record are offered where a run is asked for", async () => {
  await mkdir(join(home.where.paths.runs, "vm_abcdefghij"), { recursive: true });
  await mkdir(join(home.where.paths.runs, "something-else"), { recursive: true });
  assert.deepEqual(await offered("ws", "process", "read", ""), ["vm_abcdefghij"]);
  await rm(home.where.paths.runs, { recursive: true });
});

test("workspaces are offered by name, processes of the one in front, and where none runs nothing is started", async () => {
  assert.deepEqual(await offered("ws", "status", ""), []);
  {
    const asked: [string, unknown][] = [];
    await using _fake = await daemon(
      home,
      {
        "workspace.list": () => ({
          workspaces: [workspace(), workspace({ workspace_id: "ws_bbbbbbbbbb", name: null })],
          next_cursor: null,
        }),
        "process.list": () => ({ workspace_id: "w", processes: [result({ process_id: "proc_7" })], next_cursor: null }),
        "shell.list": () => ({ workspace_id: "w", shells: [{ shell_id: "sh_3" }], next_cursor: null }),
        "env.list": () => ({ environments: [], next_cursor: null }),
      },
      {},
      asked,
    );
    const both = ["fix-tests", "ws_bbbbbbbbbb"];
    for (const words of [
      ["status"],
      ["exec"],
      ["logs"],
      ["summary"],
      ["update"],
      ["delete"],
      ["sync", "push"],
      ["process", "wait"],
    ]) {
      assert.deepEqual(await offered("ws", ...words, ""), both, words.join(" "));
    }
    assert.deepEqual(await offered("ws", "delete", "fix-tests", ""), ["ws_bbbbbbbbbb"]);
    assert.deepEqual(await offered("ws", "exec", "fix-tests", ""), ["--"]);
    assert.deepEqual(await offered("ws", "process", "read", "fix"), ["fix-tests"]);
    asked.length = 0;
    assert.deepEqual(await offered("ws", "process", "signal", "fix-tests", ""), ["proc_7"]);
    assert.deepEqual(asked.splice(0), [["process.list", { workspace_id: "fix-tests", all: false }]]);
    assert.deepEqual(await offered("ws", "shell", "attach", "fix-tests", ""), ["sh_3"]);
    assert.deepEqual(asked, [["shell.list", { workspace_id: "fix-tests", all: false }]]);
  }
  await using _stuck = await listen(home.where, () => {});
  assert.deepEqual(await offered("ws", "status", ""), []);
});

test("bash completes words that it takes apart itself", async () => {
  await using _fake = await having(["debian:12", "debian:12-build", "debian:11"]);
  assert.deepEqual(await bash("pyro daemon "), ["status", "stop"]);
  assert.deepEqual(await bash("pyro run deb"), ["debian:12", "debian:12-build", "debian:11"]);
  // Only what stands behind the last word break is replaced.
  assert.deepEqual(await bash("pyro run debian:12"), ["12", "12-build"]);
  assert.deepEqual(await bash("pyro run debian:"), ["12", "12-build", "11"]);
  assert.deepEqual(await bash("pyro mcp serve --profile=w"), ["workspace-core", "workspace-full"]);
  assert.deepEqual(await bash("pyro run --env A=b:c deb"), ["debian:12", "debian:12-build", "debian:11"]);
  assert.deepEqual(await bash("pyro run -- "), []);
});

test("zsh offers the same", async (context) => {
  if (spawnSync("zsh", ["--version"]).error) return context.skip("zsh is not installed");
  await using _fake = await having(["debian:12", "debian:12-build"]);
  // A completion runs only inside zsh's line editor: a terminal is made for one.
  const script = `
    zmodload zsh/zpty || exit 1
    zpty -b z zsh -f -i
    zpty -w z 'PS1=; autoload -Uz compinit && compinit -u -D; source <(pyro completion zsh); LISTMAX=0; print READY'
    zpty -r z seen '*READY*READY*' || exit 1
    zpty -w -n z $'pyro env pu\\t'
    zpty -r z seen '*pull*' || exit 1
    zpty -w -n z $'debian:12-\\t'
    zpty -r z seen '*debian:12-build*' && print -r -- completed
    zpty -d z`;
  const { stdout, stderr } = await say("timeout", ["25", "zsh", "-f", "-c", script]);
  assert.match(stdout, /completed/, stderr);
});

test("fish offers the same, with what it means", async (context) => {
  if (spawnSync("fish", ["--version"]).error) return context.skip("fish is not installed");
  await using _fake = await having(["debian:12", "debian:12-build"]);
  const ask = (line: string) =>
    say("fish", ["--no-config", "-c", `pyro completion fish | source; complete -C ${quoted(line)}`]);
  assert.equal((await ask("pyro env pu")).stdout.split("\t")[0], "pull");
  assert.deepEqual((await ask("pyro run debian:12-")).stdout, "debian:12-build\tinstalled\n");
  const all = (await ask("pyro daemon ")).stdout.trim().split("\n");
  assert.deepEqual(
    all.map((line) => line.split("\t")[0]),
    ["status", "stop"],
  );
});
