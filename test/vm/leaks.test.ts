// Runs in a row and at once leave daemon, launcher and home as they were: memory, descriptors, threads, processes, files,
// sockets, cgroups. PYRO_LEAK_RUNS and PYRO_LEAK_AT_ONCE say how many; `make soak` asks for 500 and 20.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { countFrom } from "../seed.ts";
import { type Figures, InspectedDaemon, table } from "./figures.ts";
import { runOk } from "./harness.ts";
import { homeWithCopies, untilPoolFull } from "./random-kills.ts";
import { untilAtRest, untilNothingRuns } from "./remains.ts";

const RUNS = countFrom("PYRO_LEAK_RUNS", 12);
const AT_ONCE = countFrom("PYRO_LEAK_AT_ONCE", 6);
const POOL_SIZE = 2;
/** Enough that code is compiled, buffers have grown and the pool is filled. */
const WARM_UP = 4;

/**
 * What a run may add to the daemon's live heap over the second half of the runs, bytes. A run that is not let go has its
 * record, its stream's buffers and its sessions: more than ten times as much.
 */
const HEAP_PER_RUN = 3 * 1024;
/** What the figures of a short row waver by, whatever was run. */
const HEAP_NOISE = 192 * 1024;
/** Resident memory follows the most that was ever needed; a leak of a megabyte a run passes this in any row. */
const RSS_GROWTH_KIB = 32 * 1024;
/** Go adds a thread when all it has are in the kernel at once, and keeps it. */
const MORE_THREADS = 6;

test(`${RUNS} runs in a row and ${AT_ONCE} at once leave nothing behind`, {
  timeout: 180_000 + (RUNS + 2 * AT_ONCE) * 20_000,
}, async (context) => {
  const temporary = await mkdtemp(join(tmpdir(), "pyro-leaks-"));
  const home = await homeWithCopies({ poolSize: POOL_SIZE });
  {
    await using _stopped = home;
    const daemon = await InspectedDaemon.start(home, temporary);
    const run = async (text: string) =>
      assert.equal(await runOk(["--", "echo", text], { env: home.env, input: "not read" }), `${text}\n`);
    const atOnce = async () => void (await Promise.all(Array.from({ length: AT_ONCE }, (_, n) => run(`${n} at once`))));
    const inARow = async (count: number) => {
      for (let n = 0; n < count; n++) await run(`run ${n}`);
    };
    const moments: [string, Figures][] = [];
    const note = async (name: string): Promise<Figures> => {
      const idle = await untilPoolFull(home);
      await untilAtRest(home, () => ({ vms: idle, runs: 0 }));
      const figures = await daemon.figures();
      moments.push([name, figures]);
      return figures;
    };

    await inARow(WARM_UP);
    await atOnce();
    const before = await note("before");
    const half = Math.floor(RUNS / 2);
    await inARow(half);
    const middle = await note(`${half} runs`);
    await inARow(RUNS - half);
    const row = await note(`${RUNS} runs`);
    await atOnce();
    const after = await note(`${AT_ONCE} at once`);
    daemon.close();
    for (const line of table(moments).split("\n")) context.diagnostic(line);

    for (const [name, figures] of moments.slice(1)) {
      assert.deepEqual(figures.counts, before.counts, `${name}: counts`);
      for (const who of ["daemon", "launcher"] as const) {
        assert.deepEqual(figures[who].descriptors, before[who].descriptors, `${name}: descriptors of the ${who}`);
        assert.ok(figures[who].threads <= before[who].threads + MORE_THREADS, `${name}: threads of the ${who}`);
        assert.ok(figures[who].rss <= before[who].rss + RSS_GROWTH_KIB, `${name}: resident memory of the ${who}`);
      }
    }
    const held = (figures: Figures) => figures.heap + figures.external;
    const grown = held(row) - held(middle);
    const most = HEAP_NOISE + (RUNS - half) * HEAP_PER_RUN;
    assert.ok(
      grown <= most,
      `${RUNS - half} runs added ${grown} live bytes to the daemon's heap, at most ${most} are right`,
    );
    assert.ok(
      held(after) - held(row) <= HEAP_NOISE + AT_ONCE * HEAP_PER_RUN,
      "runs at once added to the daemon's heap",
    );
  }
  await untilNothingRuns(home);
  await rm(temporary, { recursive: true, force: true });
});
