// `pyro workspace exec` as a process, against a daemon whose answers the test chooses.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { type Conversation, temporaryHome } from "../client/fake-daemon.ts";
import { daemon, result, say, start } from "./command-line.ts";

const STARTED = { type: "started", workspace_id: "ws_abcdefghij", process_id: "proc_3" };

function answering(change: Record<string, unknown>, print: (talk: Conversation) => void = () => {}) {
  return (talk: Conversation) => {
    talk.json(ToClient.Event, STARTED);
    print(talk);
    talk.finish(result({ process_id: "proc_3", ...change }));
  };
}

test("what was typed is the input, and what stands behind -- is the command", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  await using _fake = await daemon(home, {}, { "workspace.exec": answering({}) }, asked);
  const flags = ["--cwd", "src", "--env", "A=1", "--user", "nobody", "--timeout-seconds", "2", "--no-stdin"];
  const { status, stderr } = await say(home, "ws", "exec", "fix-tests", ...flags, "--", "ls", "--json", "--");
  assert.deepEqual({ status, stderr }, { status: 0, stderr: "" });
  assert.deepEqual(asked, [
    [
      "workspace.exec",
      {
        workspace_id: "fix-tests",
        command: ["ls", "--json", "--"],
        cwd: "src",
        env: { A: "1" },
        user: "nobody",
        timeout_seconds: 2,
        no_stdin: true,
      },
    ],
  ]);
});

test("the status is the command's, 124 for a timeout, 125 when its end is not known, which is said", async () => {
  await using home = await temporaryHome();
  const cases: [Record<string, unknown>, number, RegExp][] = [
    [{ exit_code: 0 }, 0, /^$/],
    [{ exit_code: 126 }, 126, /^$/],
    [{ exit_code: 127 }, 127, /^$/],
    [{ exit_code: 130, signal: "SIGINT" }, 130, /^$/],
    [{ exit_code: 137, signal: "SIGKILL", timed_out: true }, 124, /^pyro: the command's time ran out/],
    [{ exit_code: null, lost_reason: "the host\u001b went down" }, 125, /not known: the host\\x1b went down\n$/],
    [{ exit_code: 137, out_of_memory: true }, 137, /created with more --mem-mib/],
  ];
  for (const [change, expected, said] of cases) {
    await using _fake = await daemon(home, {}, { "workspace.exec": answering(change) });
    const { status, stderr, stdout } = await say(home, "workspace", "exec", "w", "--", "x");
    assert.deepEqual({ status, stdout }, { status: expected, stdout: "" });
    assert.match(stderr, said);
    const quiet = await say(home, "workspace", "exec", "w", "--quiet", "--", "x");
    assert.deepEqual([quiet.status, quiet.stderr], [expected, ""]);
  }
});

test("bytes pass unchanged, stdin is the pipe's, --json is one document", async () => {
  await using home = await temporaryHome();
  const echo = async (talk: Conversation) => {
    talk.json(ToClient.Event, STARTED);
    let seen = 0;
    for (;;) {
      const frame = await talk.next();
      if (frame === undefined || frame.type === ToDaemon.StdinEnd) break;
      seen += frame.payload.length;
      talk.output("stdout", seen, frame.payload);
    }
    talk.output("stderr", seen + 1, "!");
    talk.finish(result({ exit_code: 3 }));
  };
  await using _fake = await daemon(home, {}, { "workspace.exec": echo });
  const data = Buffer.from([0, 0xff, 0x1b, 0x5b, 10]);
  const { child, ended } = start(home, ["ws", "exec", "w", "--", "cat"]);
  child.stdin.end(data);
  const { bytes, stderr, status } = await ended;
  assert.deepEqual({ bytes, stderr, status }, { bytes: data, stderr: "!", status: 3 });
  const second = start(home, ["ws", "exec", "w", "--json", "--", "cat"]);
  second.child.stdin.end(data);
  const json = await second.ended;
  assert.deepEqual([json.status, json.stderr], [3, ""]);
  const document = JSON.parse(json.stdout) as Record<string, unknown>;
  assert.equal(document.stdout, data.toString("base64"));
  assert.equal(document.stdout_encoding, "base64");
  assert.equal(document.stderr, "!");
});

test("--detach prints the process_id and does not touch stdin; --json the document", async () => {
  await using home = await temporaryHome();
  const asked: [string, unknown][] = [];
  const answer = answering({ state: "running", exit_code: null });
  await using _fake = await daemon(home, {}, { "workspace.exec": answer }, asked);
  // Nothing ends this stdin: it would wait for ever if it were read.
  const loud = await start(home, ["ws", "exec", "w", "--detach", "--", "make", "all"]).ended;
  assert.deepEqual({ status: loud.status, stdout: loud.stdout }, { status: 0, stdout: "proc_3\n" });
  assert.equal(
    loud.stderr,
    "pyro: it runs on; `pyro workspace process read ws_abcdefghij proc_3` shows what it prints.\n",
  );
  assert.deepEqual(asked[0]?.[1], { workspace_id: "w", command: ["make", "all"], detach: true });
  const quiet = await start(home, ["ws", "exec", "w", "--detach", "--quiet", "--", "make"]).ended;
  assert.deepEqual([quiet.status, quiet.stdout, quiet.stderr], [0, "proc_3\n", ""]);
  const json = await start(home, ["ws", "exec", "w", "--detach", "--json", "--", "make"]).ended;
  assert.deepEqual([json.status, json.stderr], [0, ""]);
  assert.equal((JSON.parse(json.stdout) as Record<string, unknown>).state, "running");
});

test("a failure of pyro's own is 125, in words and as a document", async () => {
  await using home = await temporaryHome();
  await using _fake = await daemon(
    home,
    {},
    {
      "workspace.exec": (talk) =>
        talk.json(ToClient.Error, { code: "WORKSPACE_NOT_FOUND", message: "There is no w.", hint: "See others." }),
    },
  );
  const { status, stderr } = await say(home, "ws", "exec", "w", "--", "x");
  assert.deepEqual({ status, stderr }, { status: 125, stderr: "pyro: There is no w.\n      See others.\n" });
  const json = await say(home, "ws", "exec", "w", "--json", "--", "x");
  assert.equal(json.status, 125);
  assert.equal((JSON.parse(json.stdout) as { error: { code: string } }).error.code, "WORKSPACE_NOT_FOUND");
});

/** A command that runs until it is cancelled, and what it was sent. */
function lasting(controls: unknown[]) {
  const up = Promise.withResolvers<void>();
  const signalled = Promise.withResolvers<void>();
  const closed = Promise.withResolvers<void>();
  const talk = async (with_: Conversation) => {
    with_.json(ToClient.Event, STARTED);
    with_.output("stdout", 1, "x");
    up.resolve();
    for (;;) {
      const frame = await with_.next().catch(() => undefined);
      if (frame === undefined) return closed.resolve();
      if (frame.type !== ToDaemon.Control) continue;
      const control = JSON.parse(Buffer.from(frame.payload).toString()) as { type: string };
      controls.push(control);
      if (control.type === "signal") signalled.resolve();
      else with_.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    }
  };
  return { talk, up: up.promise, signalled: signalled.promise, closed: closed.promise };
}

test("the first Ctrl-C goes to the command, the second ends it with 130", async () => {
  await using home = await temporaryHome();
  const controls: unknown[] = [];
  const { talk, up, signalled } = lasting(controls);
  await using _fake = await daemon(home, {}, { "workspace.exec": talk });
  const { child, ended } = start(home, ["ws", "exec", "w", "--", "sleep", "100"]);
  await up;
  await once(child.stdout, "data");
  child.kill("SIGINT");
  await signalled;
  child.kill("SIGINT");
  assert.equal((await ended).status, 130);
  assert.deepEqual(controls, [{ type: "signal", signal: 2 }, { type: "cancel" }]);
});

test("a lost terminal leaves the command running; one that had the terminal hears of it", async () => {
  await using home = await temporaryHome();
  for (const [flags, expected] of [
    [[], []],
    [["--tty"], [{ type: "signal", signal: 1 }]],
  ] as const) {
    const controls: unknown[] = [];
    const { talk, up, closed } = lasting(controls);
    await using _fake = await daemon(home, {}, { "workspace.exec": talk });
    const { child, ended } = start(home, ["ws", "exec", "w", ...flags, "--", "sleep", "100"]);
    await up;
    await once(child.stdout, "data");
    child.kill("SIGHUP");
    assert.equal((await ended).status, 129);
    await closed;
    assert.deepEqual(controls, expected);
  }
});
