// The SDK as a program that depends on pyro has it: imported by the package's name, with real microVMs behind it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { type ErrorCode, Pyro, PyroError, type RunResult } from "pyro-mcp";
import { pathsFor } from "../../src/engine/paths.ts";
import { processesOf, ROOT, sharedHome, startProgram, untilGone, VMM_OR_SANDBOX } from "./harness.ts";

const paths = pathsFor({ PYRO_HOME: sharedHome() }, process.getuid?.() ?? 0);

function withCode(code: ErrorCode) {
  return (thrown: unknown): boolean => {
    assert.ok(thrown instanceof PyroError, String(thrown));
    assert.equal(thrown.code, code, thrown.message);
    return true;
  };
}

/** No microVM of the tests' home is left, well before anything but the caller could have ended one. */
async function noMicroVm(): Promise<void> {
  await untilGone(() => processesOf(paths, VMM_OR_SANDBOX), 10_000);
}

test("a run resolves with a result typed by the table, whatever the exit status", async () => {
  await using pyro = new Pyro();
  const result: RunResult = await pyro.run({
    environment: "debian:12",
    command: ["sh", "-c", 'echo "$my_var in $PWD"; grep MemTotal /proc/meminfo; echo err >&2; exit 7'],
    vcpuCount: 2,
    memMib: 512,
    cwd: "/usr",
    env: { my_var: "here" },
  });
  const code: number | null = result.exitCode;
  const state: "running" | "exited" = result.state;
  assert.equal(code, 7);
  assert.equal(state, "exited");
  const [first, memory] = result.stdout.split("\n");
  assert.equal(first, "here in /usr");
  assert.ok(Number(memory?.split(/\s+/)[1]) <= 512 * 1024, memory);
  assert.equal(result.stdoutEncoding, "utf-8");
  assert.equal(result.stderr, "err\n");
  assert.equal(result.signal, null);
  assert.equal(result.timedOut, false);
  assert.equal(result.omittedBytes, 0);
  assert.match(result.vmId, /^vm_/);
  assert.equal(new Date(result.startedAt).toISOString(), result.startedAt);
  assert.ok(result.durationMs > 0);
});

test("what the table does not have is neither typed nor taken", async () => {
  await using pyro = new Pyro();
  // @ts-expect-error: keys of the SDK are camelCase
  const snake = pyro.run({ command: ["true"], mem_mib: 512 });
  await assert.rejects(Promise.resolve(snake), withCode("INVALID_INPUT"));
  // @ts-expect-error: waiting for a part of a run is for faces that cannot wait for the whole
  const partly = pyro.run({ command: ["true"], waitSeconds: 1 });
  await assert.rejects(Promise.resolve(partly), withCode("INVALID_INPUT"));
  // @ts-expect-error: a code that there is not
  const none: ErrorCode = "NO_SUCH_CODE";
  assert.equal(typeof none, "string");
  await assert.rejects(Promise.resolve(pyro.run({ command: [] })), withCode("INVALID_INPUT"));
});

test("a string is run by a shell; bytes go in and come out as they are", async () => {
  await using pyro = new Pyro();
  const stdin = Uint8Array.from({ length: 256 }, (_, index) => index);
  const [text, bytes] = await Promise.all([
    pyro.run({ command: "echo one | tr a-z A-Z; kill -TERM $$" }),
    pyro.run({ command: ["cat"] }, { stdin }),
  ]);
  assert.equal(text.stdout, "ONE\n");
  assert.deepEqual([text.exitCode, text.signal], [143, "SIGTERM"]);
  assert.equal(bytes.stdoutEncoding, "base64");
  assert.deepEqual(Buffer.from(bytes.stdout, "base64"), Buffer.from(stdin));
});

test("a loop gets the streams apart and as they come, and what is written is read", async () => {
  await using pyro = new Pyro();
  const run = pyro.run({ command: ["sh", "-c", 'echo ready; read line; echo "got $line" >&2; cat'] });
  const seen = { stdout: "", stderr: "" };
  let answered = false;
  for await (const { stream, data } of run) {
    assert.ok(data instanceof Uint8Array);
    seen[stream] += Buffer.from(data).toString();
    // The command waits for this line: its first output came while it ran.
    if (!answered && seen.stdout.includes("ready")) {
      answered = true;
      assert.equal(await run.write("first\n"), true);
      await run.write(Buffer.from("the rest"));
      await run.end();
    }
  }
  assert.deepEqual(seen, { stdout: "ready\nthe rest", stderr: "got first\n" });
  const result = await run;
  assert.equal(result.exitCode, 0);
  assert.equal(result.stdout, seen.stdout);
});

test("a signal reaches the command", async () => {
  await using pyro = new Pyro();
  const run = pyro.run({ command: "trap 'echo caught; exit 42' USR1; echo ready; while :; do sleep 0.1; done" });
  for await (const { data } of run) if (Buffer.from(data).includes("ready")) run.signal("SIGUSR1");
  const result = await run;
  assert.equal(result.exitCode, 42);
  assert.match(result.stdout, /caught/);
});

test("an abort rejects with its own reason and ends the microVM, at any moment", async () => {
  await using pyro = new Pyro();
  const reason = new Error("enough");
  const abort = new AbortController();
  const run = pyro.run({ command: "echo ready; trap '' TERM INT; sleep 1000" }, { signal: abort.signal });
  const early = new AbortController();
  const starting = pyro.run({ command: "sleep 1000" }, { signal: early.signal });
  setTimeout(() => early.abort("too early"), 300);
  await assert.rejects(Promise.resolve(starting), (thrown) => thrown === "too early");
  const looped = (async () => {
    for await (const _ of run) abort.abort(reason);
  })();
  await assert.rejects(looped, (thrown) => thrown === reason);
  await assert.rejects(Promise.resolve(run), (thrown) => thrown === reason);
  await noMicroVm();
  await assert.rejects(
    pyro.readProcess({ vmId: run.vmId, processId: "proc_1" }),
    withCode("VM_NOT_FOUND"),
    "nothing of the run is kept",
  );
  await assert.rejects(
    Promise.resolve(pyro.run({ command: ["true"] }, { signal: AbortSignal.abort(reason) })),
    (thrown) => thrown === reason,
  );
});

test("check: a failing command rejects with its result; a good one resolves", async () => {
  await using pyro = new Pyro();
  assert.equal((await pyro.run({ command: ["echo", "good"] }, { check: true })).stdout, "good\n");
  const failing = pyro.run({ command: "echo why >&2; exit 3" }, { check: true });
  await assert.rejects(Promise.resolve(failing), (thrown) => {
    withCode("COMMAND_FAILED")(thrown);
    const { result } = (thrown as PyroError).details as { result: RunResult };
    assert.equal(result.exitCode, 3);
    assert.equal(result.stderr, "why\n");
    return true;
  });
});

test("a timeout resolves, with what was printed and the tree gone", async () => {
  await using pyro = new Pyro();
  const result = await pyro.run({
    command: "echo partial; (trap '' TERM; sleep 1000) & sleep 1000",
    timeoutSeconds: 1,
  });
  assert.equal(result.timedOut, true);
  assert.equal(result.state, "exited");
  assert.equal(result.stdout, "partial\n");
  assert.notEqual(result.exitCode, 0);
  await noMicroVm();
});

test("what a run cannot have is an error with a code, a hint and nothing left", async () => {
  await using pyro = new Pyro();
  const refused = async (input: Parameters<Pyro["run"]>[0], code: ErrorCode, says: RegExp) => {
    await assert.rejects(Promise.resolve(pyro.run(input)), (thrown) => {
      withCode(code)(thrown);
      assert.match((thrown as PyroError).message, says);
      assert.notEqual((thrown as PyroError).hint, "");
      return true;
    });
  };
  await Promise.all([
    refused({ command: ["true"], cwd: "/no/such" }, "CWD_NOT_FOUND", /\/no\/such/),
    refused({ command: ["true"], user: "nobody-here" }, "USER_NOT_FOUND", /nobody-here/),
    refused({ environment: "debian:99", command: ["true"] }, "ENVIRONMENT_NOT_FOUND", /debian:99/),
  ]);
  await noMicroVm();
});

test("a run that goes on can be read beside it, and only as what it is", async () => {
  await using pyro = new Pyro();
  const run = pyro.run({ command: ["sh", "-c", "echo one; cat"] }, { keepStdin: true });
  const { vmId } = run;
  const read = await untilRead(pyro, vmId);
  assert.equal(read.stdout, "one\n");
  assert.equal(read.state, "running");
  assert.equal(read.exitCode, null);
  const processId = "proc_1";
  await assert.rejects(pyro.readProcess({ vmId, processId: "proc_9" }), withCode("PROCESS_NOT_FOUND"));
  await assert.rejects(pyro.readProcess({ vmId, processId, cursor: "nonsense" }), withCode("CURSOR_INVALID"));
  await assert.rejects(pyro.readProcess({ vmId, processId, cursor: "c999" }), withCode("CURSOR_INVALID"));
  await assert.rejects(pyro.readProcess({ vmId: "vm_aaaaaaaaaa", processId }), withCode("VM_NOT_FOUND"));
  await run.write("two\n");
  const more = await pyro.readProcess({ vmId, processId, cursor: read.nextCursor, waitSeconds: 20 });
  assert.equal(more.stdout, "two\n");
  const waiting = new AbortController();
  const wait = pyro.readProcess(
    { vmId, processId, cursor: more.nextCursor, waitSeconds: 50 },
    { signal: waiting.signal },
  );
  setTimeout(() => waiting.abort("no more"), 100);
  await assert.rejects(wait, (thrown) => thrown === "no more");
  await run.end();
  assert.equal((await run).stdout, "one\ntwo\n", "reading ended nothing and took nothing away");
});

test("close ends what the client runs", async () => {
  const pyro = new Pyro();
  const run = pyro.run({ command: "echo ready; sleep 1000" });
  const over = assert.rejects(Promise.resolve(run), withCode("CANCELLED"));
  await untilRead(pyro, run.vmId);
  await pyro.close();
  await over;
  await noMicroVm();
});

test("environments are listed, installed or not, by pages", async () => {
  await using pyro = new Pyro();
  const { environments, nextCursor } = await pyro.listEnvironments();
  assert.equal(nextCursor, null);
  const debian = environments.find(({ environment }) => environment === "debian:12");
  assert.equal(debian?.installed, true);
  assert.ok((debian?.sizeBytes ?? 0) > 10_000_000);
  assert.match(debian?.digest ?? "", /[0-9a-f]{64}/);
  const paged: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await pyro.listEnvironments({ limit: 1, cursor });
    assert.equal(page.environments.length, 1);
    paged.push(...page.environments.map(({ environment }) => environment));
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined);
  assert.deepEqual(
    paged,
    environments.map(({ environment }) => environment),
  );
  await assert.rejects(pyro.listEnvironments({ cursor: "nonsense" }), withCode("CURSOR_INVALID"));
});

test("a program with an idle client ends by itself", { timeout: 60_000 }, async () => {
  const program = [
    'import { Pyro } from "pyro-mcp";',
    "const idle = new Pyro(), used = new Pyro();",
    'const { stdout } = await used.run({ command: ["echo", "done"] });',
    "await used.listEnvironments();",
    "process.stdout.write(stdout);",
    "const printed = Date.now();",
    "process.on('exit', () => process.stdout.write([idle !== used, Date.now() - printed].join(' ')));",
  ].join("\n");
  // A script given as text imports as from the working directory.
  const child = startProgram("env", ["-C", ROOT, process.execPath, "--input-type=module", "-e", program]);
  const { status, stdout, stderr } = await child.finished;
  assert.equal(status, 0, stderr.toString());
  const lasted = /^done\ntrue (\d+)$/.exec(stdout.toString())?.[1];
  assert.ok(lasted !== undefined && Number(lasted) < 2000, stdout.toString());
});

/** The first output of a run, as soon as there is some. */
async function untilRead(pyro: Pyro, vmId: string) {
  const deadline = Date.now() + 30_000;
  for (;;) {
    try {
      const read = await pyro.readProcess({ vmId, processId: "proc_1", waitSeconds: 20 });
      if (read.stdout !== "") return read;
    } catch (thrown) {
      // The daemon has not heard of the run yet.
      if (!(thrown instanceof PyroError) || thrown.code !== "VM_NOT_FOUND") throw thrown;
    }
    if (Date.now() > deadline) throw new Error("no output");
    await sleep(20);
  }
}
