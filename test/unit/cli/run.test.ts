// `pyro run` as a process, against a daemon whose answers the test chooses: bytes, statuses, signals, broken pipes.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { test } from "node:test";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { Conversation, type Handler, type Home, listen, runOutput, temporaryHome } from "../client/fake-daemon.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");

function start(home: Home, args: readonly string[]) {
  const child = spawn(process.execPath, [PYRO, ...args], {
    env: { ...process.env, PYRO_HOME: home.directory },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on("error", () => {});
  const ended = once(child, "close").then(([status, signal]) => ({
    status: status as number | null,
    signal: signal as string | null,
    stdout: Buffer.concat(stdout),
    stderr: Buffer.concat(stderr).toString(),
  }));
  return { child, ended };
}

/** A daemon whose run answers with this output at once. */
function answering(change: Record<string, unknown>, print: (talk: Conversation) => void = () => {}): Handler {
  return async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.json(ToClient.Event, { type: "started", vm_id: talk.head.vm_id, process_id: "proc_1" });
    print(talk);
    talk.finish(runOutput(talk.head.vm_id ?? "", change));
  };
}

test("the command's status is pyro's, 124 when its time ran out", async () => {
  await using home = await temporaryHome();
  const cases: [Record<string, unknown>, number][] = [
    [{ exit_code: 0 }, 0],
    [{ exit_code: 7 }, 7],
    [{ exit_code: 127 }, 127],
    [{ exit_code: 143, signal: "SIGTERM" }, 143],
    [{ exit_code: 137, signal: "SIGKILL", timed_out: true }, 124],
  ];
  for (const [change, status] of cases) {
    await using _fake = await listen(home.where, answering(change));
    const { child, ended } = start(home, ["run", "--", "x"]);
    child.stdin.end();
    assert.equal((await ended).status, status);
  }
});

test("a command that was killed for want of memory is said to be, and what gives more", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(
    home.where,
    answering({ exit_code: 137, signal: "SIGKILL", out_of_memory: true }, (talk) => talk.output("stdout", 1, "x")),
  );
  const told = await start(home, ["run", "--no-stdin", "--", "x"]).ended;
  assert.equal(told.status, 137);
  assert.equal(
    told.stderr,
    "pyro: the guest's memory ran out, and a process was killed for it; --mem-mib gives more.\n",
  );
  assert.equal(told.stdout.toString(), "x");
  assert.equal((await start(home, ["run", "--quiet", "--no-stdin", "--", "x"]).ended).stderr, "");
  const json = await start(home, ["run", "--json", "--no-stdin", "--", "x"]).ended;
  assert.equal(json.stderr, "");
  assert.equal((JSON.parse(json.stdout.toString()) as Record<string, unknown>).out_of_memory, true);
});

test("an error of the daemon is 125, one line of what and one of what to do", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.json(ToClient.Error, { code: "CWD_NOT_FOUND", message: "There is no /nope.", hint: "Use another." });
  });
  const { stderr, stdout, status } = await start(home, ["run", "--", "x"]).ended;
  assert.deepEqual({ stderr, status }, { stderr: "pyro: There is no /nope.\n      Use another.\n", status: 125 });
  assert.equal(stdout.length, 0);
  const json = await start(home, ["run", "--json", "--", "x"]).ended;
  assert.equal(json.status, 125);
  assert.equal((JSON.parse(json.stdout.toString()) as { error: { code: string } }).error.code, "CWD_NOT_FOUND");
});

test("argv after -- is exact, every flag reaches the input, and what was not typed is the daemon's to fill in", async () => {
  await using home = await temporaryHome();
  let head: unknown;
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    head = talk.head.input;
    talk.finish(runOutput("vm_x"));
  });
  const flags = ["--mem-mib=512", "--env", "A=b=c", "--env", "B=", "--no-stdin", "--timeout-seconds", "1.5"];
  const argv = ["sh", "-c", "--", "", "--json", "a b", "--", "é"];
  const { status, stderr } = await start(home, ["run", "debian:12-base", ...flags, "--", ...argv]).ended;
  assert.equal(status, 0, stderr);
  assert.deepEqual(head, {
    environment: "debian:12-base",
    command: argv,
    mem_mib: 512,
    env: { A: "b=c", B: "" },
    no_stdin: true,
    timeout_seconds: 1.5,
  });
});

test("10 MB of random bytes pass unchanged both ways, stdout and stderr apart", async () => {
  await using home = await temporaryHome();
  const data = randomBytes(10_000_000);
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    let seen = 0;
    for (;;) {
      const frame = await talk.next();
      if (frame === undefined || frame.type === ToDaemon.StdinEnd) break;
      seen += frame.payload.length;
      talk.output("stdout", seen, frame.payload);
      talk.json(ToClient.StdinAck, { stdin_offset: seen, closed: false });
    }
    talk.output("stderr", seen + 3, "end");
    talk.finish(runOutput("vm_x"));
  });
  const { child, ended } = start(home, ["run", "--", "cat"]);
  child.stdin.end(data);
  const { stdout, stderr, status } = await ended;
  assert.deepEqual({ status, stderr }, { status: 0, stderr: "end" });
  assert.ok(stdout.equals(data));
});

test("--json is one document: text, base64 for what is no text", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(
    home.where,
    answering({ exit_code: 3 }, (talk) => {
      talk.output("stdout", 3, "é\n");
      talk.output("stderr", 4, Buffer.from([0xff]));
    }),
  );
  const { stdout, stderr, status } = await start(home, ["run", "--json", "--", "x"]).ended;
  assert.equal(status, 3);
  assert.equal(stderr, "");
  const document = JSON.parse(stdout.toString()) as Record<string, unknown>;
  assert.equal(document.stdout, "é\n");
  assert.equal(document.stdout_encoding, "utf-8");
  assert.equal(document.stderr, "/w==");
  assert.equal(document.stderr_encoding, "base64");
  assert.equal(document.exit_code, 3);
});

test("progress goes to stderr, plain, and not with --quiet", async () => {
  await using home = await temporaryHome();
  await using _fake = await listen(
    home.where,
    answering({}, (talk) => {
      for (const fraction of [0.1, 0.2])
        talk.json(ToClient.Event, { type: "progress", message: "Unpacking", fraction });
      talk.output("stdout", 1, "x");
    }),
  );
  const loud = await start(home, ["run", "--", "x"]).ended;
  assert.equal(loud.stderr, "Unpacking\n");
  assert.equal(loud.stdout.toString(), "x");
  assert.equal((await start(home, ["run", "--quiet", "--", "x"]).ended).stderr, "");
});

test("the first Ctrl-C goes to the command, the second ends it with 130", async () => {
  await using home = await temporaryHome();
  const controls: unknown[] = [];
  const { promise: firstSeen, resolve: first } = Promise.withResolvers<void>();
  const { promise: up, resolve: started } = Promise.withResolvers<void>();
  await using _fake = await listen(home.where, async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.json(ToClient.Event, { type: "started", vm_id: "vm_x", process_id: "proc_1" });
    talk.output("stdout", 1, "x");
    started();
    for (;;) {
      const frame = await talk.next();
      if (frame === undefined) return;
      if (frame.type !== ToDaemon.Control) continue;
      const control = JSON.parse(Buffer.from(frame.payload).toString()) as { type: string };
      controls.push(control);
      if (control.type === "signal") first();
      else talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    }
  });
  // stdin stays open all the while: it must not keep the process.
  const { child, ended } = start(home, ["run", "--", "sleep", "100"]);
  await up;
  await once(child.stdout, "data");
  child.kill("SIGINT");
  await firstSeen;
  child.kill("SIGINT");
  const { status, signal } = await ended;
  assert.deepEqual({ status, signal }, { status: 130, signal: null });
  assert.deepEqual(controls, [{ type: "signal", signal: 2 }, { type: "cancel" }]);
});

test("Ctrl-C before there is a command, and SIGTERM, cancel at once", async () => {
  await using home = await temporaryHome();
  for (const [name, expected] of [
    ["SIGINT", 130],
    ["SIGTERM", 143],
    ["SIGHUP", 129],
  ] as const) {
    const { promise: up, resolve: opened } = Promise.withResolvers<void>();
    let cancelled = false;
    await using _fake = await listen(home.where, async (request, response) => {
      const talk = await Conversation.open(request, response);
      talk.json(ToClient.Event, { type: "progress", message: "building", stage: "x", fraction: null });
      opened();
      for (;;) {
        const frame = await talk.next();
        if (frame === undefined) return;
        if (frame.type !== ToDaemon.Control) continue;
        cancelled = true;
        talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
      }
    });
    const { child, ended } = start(home, ["run", "--", "x"]);
    await up;
    await once(child.stderr, "data");
    child.kill(name);
    assert.equal((await ended).status, expected);
    assert.equal(cancelled, true);
  }
});

test("a reader who leaves ends the run quietly with 141; one who never reads can be interrupted", async () => {
  await using home = await temporaryHome();
  let cancels = 0;
  const endless: Handler = async (request, response) => {
    const talk = await Conversation.open(request, response);
    talk.json(ToClient.Event, { type: "started", vm_id: "vm_x", process_id: "proc_1" });
    let cursor = 0;
    const timer = setInterval(() => {
      cursor += 65_536;
      talk.output("stdout", cursor, Buffer.alloc(65_536, "y"));
    }, 5);
    response.on("close", () => clearInterval(timer));
    for (;;) {
      const frame = await talk.next();
      if (frame === undefined) return;
      if (frame.type !== ToDaemon.Control || !Buffer.from(frame.payload).includes("cancel")) continue;
      cancels++;
      clearInterval(timer);
      talk.json(ToClient.Error, { code: "CANCELLED", message: "Cancelled." });
    }
  };
  await using _fake = await listen(home.where, endless);
  const left = start(home, ["run", "--", "yes"]);
  await once(left.child.stdout, "data");
  left.child.stdout.destroy();
  const gone = await left.ended;
  assert.deepEqual({ status: gone.status, stderr: gone.stderr }, { status: 141, stderr: "" });
  assert.equal(cancels, 1);

  const stuck = start(home, ["run", "--", "yes"]);
  await once(stuck.child.stdout, "data");
  stuck.child.stdout.removeAllListeners("data");
  stuck.child.stdout.pause();
  await new Promise((resolve) => setTimeout(resolve, 500));
  stuck.child.kill("SIGINT");
  await new Promise((resolve) => setTimeout(resolve, 200));
  stuck.child.kill("SIGINT");
  const [status, signal] = (await once(stuck.child, "exit")) as [number | null, string | null];
  assert.ok(status === 130 || signal === "SIGINT", `${status} ${signal}`);
  stuck.child.stdout.destroy();
});
