// Running a program of the host: status, output, deadline, cancellation, and that the whole group goes.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PyroError } from "../../../src/errors/error.ts";
import { runProgram } from "../../../src/host/spawn.ts";

const options = { deadlineMs: 10_000, aptPackage: "dash" };

test("status, stdout, tail and lines", async () => {
  const lines: string[] = [];
  const result = await runProgram("sh", ["-c", "cat; echo two >&2; exit 7"], {
    ...options,
    input: "one\n",
    onLine: (line) => lines.push(line),
  });
  assert.deepEqual([result.exitCode, result.stdout, result.timedOut], [7, "one\n", false]);
  assert.deepEqual(lines.sort(), ["one", "two"]);
  assert.match(result.tail, /two/);
});

test("a missing program names its package", async () => {
  await assert.rejects(runProgram("no-such-program", [], { deadlineMs: 1000, aptPackage: "some-package" }), (error) => {
    assert.ok(error instanceof PyroError);
    assert.equal(error.code, "HOST_TOOL_MISSING");
    assert.match(error.message, /no-such-program.*some-package/);
    assert.match(error.hint, /apt-get install some-package/);
    return true;
  });
});

test("a bound program that is missing names its package, and one that is there runs as itself", async () => {
  const bound = { ...options, bound: true };
  await assert.rejects(
    runProgram("no-such-program", [], bound),
    (error) => error instanceof PyroError && error.code === "HOST_TOOL_MISSING" && error.details.apt_package === "dash",
  );
  assert.deepEqual((await runProgram("sh", ["-c", "exit 7"], bound)).exitCode, 7);
});

/** True while a process runs; one that only waits to be reaped does not. */
function lives(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3) !== "Z";
  } catch {
    return false;
  }
}

/** Starts a shell whose grandchild prints its pid and would live on; returns that pid. */
async function grandchild(run: (onLine: (line: string) => void) => Promise<unknown>): Promise<number> {
  let pid = 0;
  await run((line) => {
    pid = Number(line);
  }).catch(() => {});
  assert.ok(pid > 0);
  return pid;
}

test("the deadline ends the whole group, also one that ignores SIGTERM", async () => {
  const begin = performance.now();
  const pid = await grandchild(async (onLine) => {
    const result = await runProgram("sh", ["-c", 'trap "" TERM; sleep 60 & echo $!; wait; wait'], {
      ...options,
      deadlineMs: 200,
      graceMs: 200,
      onLine,
    });
    assert.deepEqual([result.timedOut, result.signal], [true, "SIGKILL"]);
  });
  await sleep(50);
  assert.equal(lives(pid), false);
  assert.ok(performance.now() - begin < 5000);
});

test("an abort ends the group and rejects with the reason", async () => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(new Error("enough")), 100);
  let reason: unknown;
  const pid = await grandchild((onLine) =>
    runProgram("sh", ["-c", "sleep 60 & echo $!; wait"], { ...options, signal: controller.signal, onLine }).catch(
      (error) => {
        reason = error;
      },
    ),
  );
  await sleep(50);
  assert.match(String(reason), /enough/);
  assert.equal(lives(pid), false);
});
