// Kills one of the programs under `pyro run` at a random moment, and judges what follows: the command ran at most once,
// its output is exact, the failure (if it is one) has the code of what was killed, the next call works, nothing is left.
import assert from "node:assert/strict";
import { cp, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathsFor } from "../../src/engine/paths.ts";
import type { Seeded } from "../seed.ts";
import { type Finished, type OwnHome, ownHome, pyro, runOk, type Started, sharedHome, startPyro } from "./harness.ts";
import { type Kind, processesAt, untilAtRest } from "./remains.ts";

export const VICTIMS = ["daemon", "launcher", "vmm", "guest", "client"] as const;
export type Victim = (typeof VICTIMS)[number];

/** What a run may fail with when this was killed under it. A daemon that dies is no failure. */
const CODES: Record<Victim, readonly string[]> = {
  daemon: [],
  launcher: ["MICROVM_LOST", "MICROVM_START_FAILED"],
  vmm: ["MICROVM_LOST", "MICROVM_START_FAILED"],
  guest: ["MICROVM_LOST", "GUEST_UNRESPONSIVE"],
  client: [],
};

/** The moment is a random while after one of these; what does not come before the run's end kills after it. */
const PHASES = ["any", "template", "preparing", "machine", "ready", "output", "end"] as const;
type Phase = (typeof PHASES)[number];

/** Longest while after the phase has begun, ms. `any` has the usual duration of a run instead, and half as much again. */
const WHILE_MS: Record<Exclude<Phase, "any">, number> = {
  template: 6000,
  preparing: 300,
  machine: 800,
  ready: 300,
  output: 1000,
  end: 300,
};
/** How often each phase comes up; a template takes ten times as long as anything else. */
const WEIGHTED_PHASES: readonly Phase[] = [
  ..."any any any preparing preparing machine machine machine ready ready output output end end template".split(" "),
] as Phase[];

const LINES = 40;
const STATUS_PYRO_FAILED = 125;
/** A run whose client was killed is kept for so long, and then some; anew by each daemon that takes it up. */
const CLAIM_MS = 80_000;
const POLL_MS = 5;

export interface Kill {
  readonly victim: Victim;
  readonly phase: Phase;
  /** From the beginning of the phase, as a part of what it may be at most. */
  readonly moment: number;
  /** Line of the output at which a guest crashes itself, or at which the phase `output` begins. */
  readonly line: number;
  /** A size that has no template yet, for the phase that needs one to be made. */
  readonly memMib: number | undefined;
}

export function randomKill(random: Seeded, victim: Victim): Kill {
  const phase = random.pick(WEIGHTED_PHASES);
  return {
    victim,
    phase,
    moment: random.next(),
    line: random.below(LINES),
    memMib: phase === "template" ? 260 + random.below(200) : undefined,
  };
}

/** A home with templates and probes of its own: the tests' home's, copied, so that nothing here can harm those. */
export async function homeWithCopies(options: { poolSize: number }): Promise<OwnHome> {
  const home = await ownHome({ templates: false, ...options });
  const shared = pathsFor({ PYRO_HOME: sharedHome() }, process.getuid?.() ?? 0);
  await cp(shared.probes, home.paths.probes, { recursive: true });
  for (const name of await readdir(shared.templates)) {
    // A template of the tests' home that is being made, or goes, meanwhile is none of ours.
    if (!/^[0-9a-f]{64}$/.test(name)) continue;
    await cp(join(shared.templates, name), join(home.paths.templates, name), { recursive: true }).catch(() => {});
  }
  return home;
}

/** Runs and kills in one home, one after the other. */
export class KillingGround {
  readonly #home: OwnHome;
  readonly #idleVms: number;
  readonly #usualMs: number;
  /** When the runs of killed clients are over. */
  #abandoned: number[] = [];

  private constructor(home: OwnHome, idleVms: number, usualMs: number) {
    this.#home = home;
    this.#idleVms = idleVms;
    this.#usualMs = usualMs;
  }

  static async open(home: OwnHome): Promise<KillingGround> {
    const { env } = home;
    await runOk(["--", "true"], { env });
    const begun = performance.now();
    const { status, stdout, stderr } = await pyro(["run", "--", "sh", "-c", script(undefined)], { env });
    const usualMs = performance.now() - begun;
    assert.equal(status, 0, stderr.toString());
    judge({ victim: "daemon" }, stdout.toString(), stderr.toString(), status);
    return new KillingGround(home, await untilPoolFull(home), usualMs);
  }

  get summary(): string {
    return `a run takes ${Math.round(this.#usualMs)} ms, ${this.#idleVms} idle microVMs`;
  }

  /** One kill and everything that must hold after it. Gives one line of what happened. */
  async kill(kill: Kill): Promise<string> {
    const size = kill.memMib === undefined ? [] : ["--mem-mib", String(kill.memMib)];
    const crashAt = kill.victim === "guest" ? kill.line : undefined;
    const command = ["run", "--verbose", ...size, "--", "sh", "-c", script(crashAt)];
    const run = startPyro(command, { env: this.#home.env });
    const killed = crashAt === undefined ? await this.#strike(run, kill) : `crashed at line ${crashAt}`;
    const finished = await within(run.finished, 180_000, "the run under which something was killed");
    if (kill.victim === "daemon") this.#abandoned = this.#living().map(() => Date.now() + CLAIM_MS);
    if (kill.victim === "client") this.#abandoned.push(Date.now() + CLAIM_MS);
    const how = judge(kill, finished.stdout.toString(), finished.stderr.toString(), finished.status);

    assert.equal(await runOk(["--", "echo", "next"], { env: this.#home.env }), "next\n", "the next call");
    await untilAtRest(this.#home, () => this.#allowed());
    return `${kill.victim} ${killed}: ${how}`;
  }

  /** Waits until the runs of killed clients are over too; then only what was idle before may be there. */
  async settle(): Promise<void> {
    const last = Math.max(0, ...this.#abandoned);
    await untilAtRest(this.#home, () => ({ vms: this.#idleVms, runs: 0 }), Math.max(20_000, last - Date.now()));
  }

  #allowed(): { vms: number; runs: number } {
    this.#abandoned = this.#living();
    return { vms: this.#idleVms + this.#abandoned.length, runs: this.#abandoned.length };
  }

  #living(): number[] {
    return this.#abandoned.filter((until) => until > Date.now());
  }

  /** Waits for the moment and kills. */
  async #strike(run: Started, kill: Kill): Promise<string> {
    const over = new AbortController();
    run.finished.finally(() => over.abort()).catch(() => {});
    if (kill.phase !== "any") await this.#untilPhase(run, kill, over.signal);
    const longest = kill.phase === "any" ? 1.5 * this.#usualMs : WHILE_MS[kill.phase];
    const ms = Math.round(kill.moment * longest);
    await sleep(ms);
    const after = `${ms} ms after ${kill.phase === "any" ? "the start" : kill.phase}`;
    if (kill.victim === "client") {
      run.child.kill("SIGKILL");
      return `killed ${after}`;
    }
    const kinds: readonly Kind[] = kill.victim === "vmm" ? ["vmm", "sandbox"] : [kill.victim as Kind];
    const victims = (await processesAt(this.#home)).filter(({ kind }) => kinds.includes(kind));
    const victim = victims[Math.floor(kill.moment * victims.length)];
    if (victim === undefined) return `not there ${after}`;
    try {
      process.kill(victim.pid, "SIGKILL");
    } catch {
      return `gone by itself ${after}`;
    }
    return `killed (${victim.kind}) ${after}`;
  }

  async #untilPhase(run: Started, kill: Kill, over: AbortSignal): Promise<void> {
    const { runs, vms } = this.#home.paths;
    const earlier = new Set([...(await names(runs)), ...(await names(vms))]);
    const fresh = async (directory: string) => (await names(directory)).filter((name) => !earlier.has(name));
    const reached: Record<Exclude<Phase, "any">, () => Promise<boolean>> = {
      template: async () => (await names(vms)).some((name) => name.startsWith("prepare-")),
      preparing: async () => (await fresh(runs)).length > 0,
      machine: async () => (await fresh(vms)).length > 0,
      ready: async () => {
        const [name] = await fresh(runs);
        const record = name && (await readFile(join(runs, name, "run.json"), "utf8").catch(() => ""));
        return Boolean(record) && !record?.includes('"preparing"');
      },
      output: async () => run.printed(`line ${kill.line} `),
      end: async () => run.printed("\nend "),
    };
    if (kill.phase === "any") return;
    const ready = reached[kill.phase];
    while (!over.aborted && !(await ready())) await sleep(POLL_MS);
  }
}

/** The command: what it prints tells one execution from another, and every line from every other. */
function script(crashAt: number | undefined): string {
  const crash = crashAt === undefined ? "" : `[ $i = ${crashAt} ] && { sleep 0.1; echo c >/proc/sysrq-trigger; }; `;
  return [
    "echo x >>/workspace/starts",
    "read -r id </proc/sys/kernel/random/uuid",
    'echo "begin $id"',
    `i=0; while [ $i -lt ${LINES} ]; do ${crash}printf 'line %d %s %4000d\\n' $i $id $i; i=$((i+1)); sleep 0.01; done`,
    'echo "end $id $(cat /workspace/starts)"',
  ].join("; ");
}

/** Output and status must be those of one execution. Gives what happened in a word. */
function judge({ victim }: { victim: Victim }, stdout: string, stderr: string, status: number | null): string {
  const id = /^begin ([0-9a-f-]{36})\n/.exec(stdout)?.[1];
  if (id === undefined) {
    assert.ok(
      "begin ".startsWith(stdout) || /^begin [0-9a-f-]{0,36}$/.test(stdout),
      `stdout begins ${stdout.slice(0, 200)}`,
    );
  } else {
    const lines = Array.from({ length: LINES }, (_, index) => `line ${index} ${id} ${String(index).padStart(4000)}\n`);
    const whole = `begin ${id}\n${lines.join("")}end ${id} x\n`;
    if (!whole.startsWith(stdout))
      assert.fail(`the output is no prefix of what the command prints:\n${excerpt(whole, stdout)}`);
    if (status === 0) assert.equal(stdout.length, whole.length, "a success with a part of the output");
  }
  if (status === 0) {
    assert.ok(id !== undefined, "a success without output");
    return "success";
  }
  if (status === null) {
    assert.equal(victim, "client", `the client was killed by a signal\n${stderr}`);
    return "client gone";
  }
  const code = /^\{"code":"(\w+)"/m.exec(stderr)?.[1] ?? "no code";
  assert.equal(status, STATUS_PYRO_FAILED, `status ${status}\n${stderr}`);
  assert.ok(CODES[victim].includes(code), `${code} when the ${victim} was killed\n${stderr}`);
  return code;
}

function excerpt(whole: string, got: string): string {
  let at = 0;
  while (whole[at] === got[at]) at++;
  const around = (text: string) => JSON.stringify(text.slice(Math.max(0, at - 60), at + 60).replace(/ {20,}/g, "..."));
  return `at byte ${at}: expected ${around(whole)}, got ${around(got)}`;
}

/** Waits until the pool is full, and gives the count of microVMs that an idle daemon keeps in it. */
export async function untilPoolFull(home: OwnHome): Promise<number> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const { stdout } = await pyro(["daemon", "status", "--json"], { env: home.env });
    const { pool } = JSON.parse(stdout.toString()) as { pool: { size: number; ready: number } };
    if (pool.ready === pool.size) return pool.size;
    if (Date.now() > deadline) throw new Error(`only ${pool.ready} of ${pool.size} microVMs of the pool are ready`);
    await sleep(200);
  }
}

async function names(directory: string): Promise<string[]> {
  return await readdir(directory).catch(() => []);
}

async function within(finished: Promise<Finished>, ms: number, what: string): Promise<Finished> {
  const late = new AbortController();
  const timer = sleep(ms, undefined, { signal: late.signal }).then(() => {
    throw new Error(`${what} did not end within ${ms / 1000} s`);
  });
  timer.catch(() => {});
  try {
    return await Promise.race([finished, timer]);
  } finally {
    late.abort();
  }
}
