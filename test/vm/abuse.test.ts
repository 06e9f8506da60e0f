// Commands that take all they can get. While one runs, another run beside it goes on and finishes, daemon and launcher
// stay as large as they were, and the command's own end is what the caller is told.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { type TestContext, test } from "node:test";
import { type Finished, type OwnHome, ownHome, startPyro, untilGone, VMM_OR_SANDBOX } from "./harness.ts";

/** How much daemon and launcher may grow over what they were before, MiB: far below what a command can throw at them. */
const DAEMON_GROWTH_MIB = 100;
const LAUNCHER_GROWTH_MIB = 32;
const SAMPLE_MS = 100;
/** A small guest is full soon, and has a template of its own. */
const SMALL = ["--mem-mib", "256", "--disk-mib", "64"];
/** A run beside the abuser: work of the guest's, output over its whole time, and an exit status of its own. */
const NEIGHBOUR = "i=0; while [ $i -lt 20 ]; do echo line $i; i=$((i+1)); sleep 0.1; done; exit 9";
const NEIGHBOUR_OUTPUT = Array.from({ length: 20 }, (_, index) => `line ${index}\n`).join("");

interface Result {
  readonly exit_code: number;
  readonly stdout: string;
  readonly stdout_truncated: boolean;
  readonly stderr: string;
}

function resultOf({ stdout, stderr }: Finished): Result {
  const result = JSON.parse(stdout.toString()) as Result & { error?: unknown };
  assert.equal(result.error, undefined, `${stdout}${stderr}`);
  return result;
}

test("abusive commands", { timeout: 590_000 }, async (context) => {
  await using home = await ownHome({ templates: true });
  // The templates, and a daemon and launcher that have done their work once.
  for (const size of [[], SMALL]) {
    const { status, stderr } = await startPyro(["run", ...size, "--", "true"], { env: home.env }).finished;
    assert.equal(status, 0, stderr.toString());
  }

  await abuse(
    context,
    home,
    "50 MB of output",
    ["run", "--quiet", "--", "sh", "-c", "yes abcdefg | head -c 50000000"],
    {
      limitS: 240,
      check: ({ status, stdout, stderr }) => {
        assert.equal(status, 0, stderr.toString());
        assert.equal(stdout.length, 50_000_000);
        assert.ok(stdout.equals(Buffer.alloc(50_000_000, "abcdefg\n")), "bytes are lost or changed");
      },
    },
  );

  // More than a result holds.
  const line = "tr '\\0' x </dev/zero | head -c 20000000; exit 3";
  await abuse(context, home, "a line of 20 MB", ["run", "--json", "--", "sh", "-c", line], {
    limitS: 120,
    check: (finished) => {
      const result = resultOf(finished);
      assert.equal(finished.status, 3);
      assert.equal(result.stdout_truncated, true);
      assert.match(result.stdout.slice(-1000), /^x+$/);
    },
  });

  // As many as 5,000 do not fit into its memory: fork is refused before that, and the shell says so.
  const forks = "mkfifo /tmp/f; i=0; while [ $i -lt 5000 ]; do (read x </tmp/f) & i=$((i+1)); done; echo all";
  await abuse(context, home, "5,000 children", ["run", "--json", ...SMALL, "--", "sh", "-c", forks], {
    limitS: 90,
    check: (finished) => {
      assert.equal(finished.status, 2, finished.stdout.toString());
      assert.match(resultOf(finished).stderr, /Cannot fork/);
    },
  });

  const fill = "dd if=/dev/zero of=/fill bs=1M; echo dd $?; rm /fill; echo again >/small && cat /small";
  await abuse(context, home, "a full disk", ["run", "--json", ...SMALL, "--", "sh", "-c", fill], {
    limitS: 90,
    check: (finished) => {
      const result = resultOf(finished);
      assert.equal(result.exit_code, 0);
      assert.equal(result.stdout, "dd 1\nagain\n");
      assert.match(result.stderr, /No space left on device/);
    },
  });

  // The program goes, its shell and guestd live on.
  const hog = "python3 -c 'x=[]\nwhile True: x.append(bytearray(1<<20))'; echo hog $?; exit 5";
  await abuse(context, home, "all the memory", ["run", "--json", ...SMALL, "--", "sh", "-c", hog], {
    limitS: 90,
    check: (finished) => {
      assert.equal(finished.status, 5, finished.stdout.toString());
      assert.equal(resultOf(finished).stdout, "hog 137\n");
    },
  });
  await abuse(context, home, "all the memory at once", ["run", ...SMALL, "--", "sh", "-c", `exec ${hog}`], {
    limitS: 90,
    check: ({ status }) => assert.equal(status, 137),
  });

  // An emulated guest makes some 2,500 files a second. A million are asked for: this disk has room for 16,000.
  const files = [
    "import os, itertools",
    "try:",
    "  for n in range(1000000): os.close(os.open('/workspace/%d' % n, os.O_CREAT | os.O_WRONLY))",
    "except OSError as error: print(error.errno, n > 10000, n < 20000)",
  ].join("\n");
  await abuse(context, home, "a million files", ["run", "--json", ...SMALL, "--", "python3", "-c", files], {
    limitS: 120,
    check: (finished) => assert.equal(resultOf(finished).stdout, "28 True True\n"),
  });

  const closed = "exec >&-; sleep 1; echo late >&2; exit 3";
  await abuse(context, home, "stdout closed", ["run", "--json", "--", "sh", "-c", closed], {
    limitS: 60,
    check: (finished) => {
      assert.equal(finished.status, 3);
      assert.equal(resultOf(finished).stdout, "");
      assert.equal(resultOf(finished).stderr, "late\n");
    },
  });

  const deaf = "trap '' TERM INT HUP QUIT; kill -TERM 0; echo deaf; while :; do sleep 1; done";
  await abuse(
    context,
    home,
    "no ear for signals",
    ["run", "--json", "--timeout-seconds", "2", "--", "sh", "-c", deaf],
    {
      limitS: 60,
      check: (finished) => {
        assert.equal(finished.status, 124);
        assert.equal(resultOf(finished).stdout, "deaf\n");
      },
    },
  );

  const noise =
    "for i in 1 2 3; do (trap '' TERM HUP; while :; do echo noise; done) & setsid sleep 1000 & done; exit 4";
  await abuse(context, home, "children that hold the pipes", ["run", "--quiet", "--", "sh", "-c", noise], {
    limitS: 60,
    check: ({ status }) => assert.equal(status, 4),
  });

  await untilGone(() => home.processes(VMM_OR_SANDBOX));
});

interface Case {
  /** Longest time until its end, s, on a machine that has other work. */
  readonly limitS: number;
  readonly check: (finished: Finished) => void;
}

async function abuse(context: TestContext, home: OwnHome, name: string, args: string[], { limitS, check }: Case) {
  await context.test(name, { timeout: (limitS + 60) * 1000 }, async (part) => {
    const daemon = await home.pid();
    const [launcher] = await home.processes(/pyro-launch/);
    assert.ok(launcher !== undefined, "no launcher runs");
    const watched = { daemon: await Watch.begin(daemon), launcher: await Watch.begin(launcher) };
    const begun = performance.now();
    const abuser = startPyro(args, { env: home.env });
    const neighbour = startPyro(["run", "--quiet", "--", "sh", "-c", NEIGHBOUR], { env: home.env });
    const killer = setTimeout(() => abuser.child.kill("SIGKILL"), limitS * 1000);
    try {
      const [abused, beside] = await Promise.all([abuser.finished, neighbour.finished]);
      assert.notEqual(abused.signal, "SIGKILL", `no end within ${limitS} s`);
      check(abused);
      assert.equal(beside.status, 9, beside.stderr.toString());
      assert.equal(beside.stdout.toString(), NEIGHBOUR_OUTPUT);
    } finally {
      clearTimeout(killer);
    }
    assert.equal(await home.pid(), daemon, "another daemon runs");
    const grown = { daemon: await watched.daemon.end(), launcher: await watched.launcher.end() };
    const seconds = ((performance.now() - begun) / 1000).toFixed(1);
    part.diagnostic(`${seconds} s; daemon +${grown.daemon} MiB, launcher +${grown.launcher} MiB at most`);
    assert.ok(grown.daemon < DAEMON_GROWTH_MIB, `the daemon grew by ${grown.daemon} MiB`);
    assert.ok(grown.launcher < LAUNCHER_GROWTH_MIB, `the launcher grew by ${grown.launcher} MiB`);
  });
}

/** The most resident memory of a process over a time, by samples. */
class Watch {
  readonly #pid: number;
  readonly #before: number;
  readonly #timer: NodeJS.Timeout;
  #most: number;

  private constructor(pid: number, before: number) {
    this.#pid = pid;
    this.#before = before;
    this.#most = before;
    this.#timer = setInterval(() => void this.#sample().catch(() => {}), SAMPLE_MS);
  }

  static async begin(pid: number): Promise<Watch> {
    return new Watch(pid, await residentMib(pid));
  }

  /** How many MiB it was larger than at the beginning. Rejects when the process has gone. */
  async end(): Promise<number> {
    clearInterval(this.#timer);
    await this.#sample();
    return Math.round(this.#most - this.#before);
  }

  async #sample(): Promise<void> {
    this.#most = Math.max(this.#most, await residentMib(this.#pid));
  }
}

/** Memory of its own, MiB: the templates that a launcher holds are in files that it does not map. */
async function residentMib(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, "utf8");
  const kib = /^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1];
  assert.ok(kib !== undefined, `${pid} has no memory`);
  return Number(kib) / 1024;
}
