// Kills one of the programs under `pyro env pull` at a random moment, and judges what follows: a daemon that dies is no
// failure of the pull, a builder that dies is one with its code, and nothing half-made is left once a daemon runs again.
import assert from "node:assert/strict";
import { chmod, mkdir, mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Seeded } from "../seed.ts";
import { OwnHome, pyro, type Started, startPyro } from "./harness.ts";
import { processesAt, untilAtRest, untilNothingRuns } from "./remains.ts";

const ENVIRONMENT = "debian:12";
const VICTIMS = ["daemon", "daemon and client", "client", "builder"] as const;
type Victim = (typeof VICTIMS)[number];
/** A kill comes so long after the pull has begun to work, at most: late enough for every kind of step but the last. */
const LATEST_MS = 5000;
const BEGIN_MS = 60_000;
/** How long the client has to find another daemon, which is to begin anew. */
const ANEW_MS = 60_000;
const POLL_MS = 20;

/** Fresh homes without any environment, one after the other. */
export class PullGround {
  readonly #random: Seeded;
  #next = 0;

  constructor(random: Seeded) {
    this.#random = random;
  }

  /** One kill, in a home of its own. Gives one line of what happened. */
  async kill(): Promise<string> {
    const victim = VICTIMS[this.#next++ % VICTIMS.length] ?? "daemon";
    const ms = this.#random.below(LATEST_MS);
    const path = await mkdtemp(join(tmpdir(), "pyro-pull-"));
    // apt's own user passes through it.
    await chmod(path, 0o755);
    const temporary = join(path, "..", `${path.slice(path.lastIndexOf("/") + 1)}-tmp`);
    await mkdir(temporary, { mode: 0o1777 });
    const home = new OwnHome(path, 0);
    try {
      await using stopped = home;
      const env = { ...stopped.env, TMPDIR: temporary };
      const pull = startPyro(["env", "pull", ENVIRONMENT, "--json"], { env });
      await until("the pull begins", () => this.#works(home), BEGIN_MS, pull);
      await sleep(ms);
      const how = await this.#strike(home, pull, victim);
      // Whatever was killed, a daemon of the same home puts it right: as a client of any kind starts one.
      const list = await pyro(["env", "list", "--json"], { env });
      assert.equal(list.status, 0, `env list: ${list.stderr}`);
      assert.match(list.stdout.toString(), /"installed":\s*false/);
      await untilAtRest(home, () => ({ vms: 0, runs: 0 }));
      assert.deepEqual(await readdir(temporary), [], "temporary files");
      return `${victim} killed after ${ms} ms: ${how}`;
    } finally {
      await untilNothingRuns(home);
      await rm(temporary, { recursive: true, force: true });
    }
  }

  async #strike(home: OwnHome, pull: Started, victim: Victim): Promise<string> {
    if (victim === "client") {
      pull.child.kill("SIGKILL");
      await pull.finished;
      return "the client is gone";
    }
    if (victim === "builder") {
      const builders = async () => (await processesAt(home)).filter(({ args }) => /mmdebstrap .*--mode=/.test(args));
      await until("a builder builds", async () => (await builders()).length > 0, BEGIN_MS, pull);
      // One of those that hold it, or itself.
      const builder = this.#random.pick(await builders());
      kill(builder.pid);
      const { status, stdout } = await pull.finished;
      const { error } = JSON.parse(stdout.toString()) as { error?: { code: string } };
      assert.equal(error?.code, "ENVIRONMENT_BUILD_FAILED", `${builder.args}: ${stdout}`);
      assert.equal(status, 1);
      return `ENVIRONMENT_BUILD_FAILED (${builder.args.slice(0, 30)})`;
    }
    const [daemon] = (await processesAt(home)).filter(({ kind }) => kind === "daemon");
    assert.ok(daemon !== undefined, "no daemon runs");
    if (victim === "daemon and client") pull.child.kill("SIGKILL");
    kill(daemon.pid);
    if (victim === "daemon and client") {
      await pull.finished;
      return "both are gone";
    }
    const another = async () => {
      const processes = await processesAt(home);
      const daemons = processes.filter(({ kind, pid }) => kind === "daemon" && pid !== daemon.pid);
      return daemons.length > 0 && processes.some(({ kind }) => kind === "other");
    };
    await until("another daemon pulls anew", another, ANEW_MS, pull);
    assert.equal(pull.child.exitCode, null, "the client gave up");
    pull.child.kill("SIGKILL");
    await pull.finished;
    return "the client had another daemon begin anew";
  }

  async #works(home: OwnHome): Promise<boolean> {
    const names = await readdir(home.paths.environments).catch(() => []);
    return names.some((name) => name.startsWith(".staging-"));
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch {
    // It ended by itself.
  }
}

async function until(what: string, holds: () => Promise<boolean>, ms: number, pull: Started): Promise<void> {
  const deadline = Date.now() + ms;
  while (!(await holds())) {
    if (pull.child.exitCode !== null || Date.now() > deadline) {
      const ended = pull.child.exitCode === null ? undefined : await pull.finished;
      throw new Error(`it did not happen that ${what}: ${ended?.stdout ?? ""}${ended?.stderr ?? ""}`);
    }
    await sleep(POLL_MS);
  }
}
