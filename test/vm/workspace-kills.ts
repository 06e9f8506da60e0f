// Kills a program under a workspace's operation at a random moment, and judges what follows: a workspace is usable or
// failed with its reason, every file is its old or its new self, a command ran at most once and its output is exact, it
// can be deleted, and nothing is left.
import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Seeded } from "../seed.ts";
import { codeOf, within } from "./faulty.ts";
import { type Finished, type OwnHome, sha256, untilGone } from "./harness.ts";
import { type HomeProcess, type Kind, processesAt, untilAtRest } from "./remains.ts";
import { type LogEntry, Workspace, type WorkspaceRecord, Workspaces } from "./workspaces.ts";

export const OPERATIONS = ["create", "push", "exec", "delete"] as const;
export type Operation = (typeof OPERATIONS)[number];
export const VICTIMS = ["daemon", "vmm", "launcher", "guest"] as const;
export type Victim = (typeof VICTIMS)[number];

/**
 * What an operation may fail with when this was killed under it. A daemon that dies is no failure where the client can ask
 * again: whoever deletes may not, as the next workspace might have the name.
 */
const CODES: Record<Victim, readonly string[]> = {
  daemon: [],
  vmm: ["MICROVM_LOST", "MICROVM_START_FAILED", "GUEST_UNRESPONSIVE"],
  launcher: ["MICROVM_LOST", "MICROVM_START_FAILED", "GUEST_UNRESPONSIVE"],
  guest: ["MICROVM_LOST", "MICROVM_START_FAILED", "GUEST_UNRESPONSIVE"],
};

const FILES = 150;
const FILE_BYTES = 20_000;
const LINES = 40;
const OPERATION_MS = 180_000;
/** How long the microVM of a creation that nobody finished may be there: an unclaimed one is ended by the launcher. */
const REST_MS = 90_000;

export interface Kill {
  readonly operation: Operation;
  readonly victim: Victim;
  /** From the operation's beginning, as a part of half as much again as it usually takes. */
  readonly moment: number;
}

export function randomKill(random: Seeded, operation: Operation): Kill {
  // Nobody can crash a guest from inside that is not there yet.
  const victim = random.pick(operation === "create" ? VICTIMS.slice(0, 3) : VICTIMS);
  return { operation, victim, moment: random.next() };
}

/** Operations and kills in one home, one after the other. */
export class WorkspaceGround implements AsyncDisposable {
  readonly #home: OwnHome;
  readonly #all: Workspaces;
  readonly #trees: string;
  readonly #usualMs = new Map<Operation, number>();
  /** The workspace of pushes and commands, as long as it is usable. */
  #workspace: Workspace | undefined;
  /** The tree that was pushed last, and the one before: each file is that of one of them. */
  #generation = 0;
  #commands = 0;

  private constructor(home: OwnHome, trees: string) {
    this.#home = home;
    this.#all = new Workspaces(home.env);
    this.#trees = trees;
  }

  /** Does each operation once in peace, to know how long it takes. */
  static async open(home: OwnHome): Promise<WorkspaceGround> {
    const ground = new WorkspaceGround(home, await mkdtemp(join(tmpdir(), "pyro-kills-")));
    for (const operation of OPERATIONS) {
      await ground.#prepare(operation);
      const begun = performance.now();
      const { status, stdout, stderr } = await ground.#start(operation).finished;
      assert.equal(status, 0, `${operation} in peace: ${stdout}${stderr}`);
      ground.#usualMs.set(operation, performance.now() - begun);
      await ground.#settle(operation, 0);
    }
    return ground;
  }

  get summary(): string {
    return [...this.#usualMs].map(([operation, ms]) => `${operation} takes ${Math.round(ms)} ms`).join(", ");
  }

  /** One kill and everything that must hold after it. Gives one line of what happened. */
  async kill(kill: Kill): Promise<string> {
    const { operation, victim } = kill;
    await this.#prepare(operation);
    const ms = Math.round(kill.moment * 1.5 * (this.#usualMs.get(operation) ?? 0));
    // A guest is crashed from inside, by a command that is there before.
    const crashed = victim === "guest" ? await this.#crashLater(ms) : undefined;
    const running = this.#start(operation);
    const struck = victim === "guest" ? "crashed" : await this.#strike(victim, kill.moment, ms);
    const finished = await within(running.finished, OPERATION_MS);
    await crashed?.();
    let how = "success";
    if (finished.status !== 0) {
      const text = finished.stdout.toString() || finished.stderr.toString();
      how = codeIn(operation, finished);
      const codes = operation === "delete" ? [...CODES[victim], "DAEMON_UNREACHABLE"] : CODES[victim];
      assert.ok(codes.includes(how), `${how} when the ${victim} was killed under ${operation}: ${text}`);
    }
    const after = await this.#settle(operation, finished.status, finished);
    return `${operation}: ${victim} ${struck} after ${ms} ms: ${how}; then ${after}`;
  }

  /** Deletes what is there; then nothing may be left. */
  async finish(): Promise<void> {
    await this.#workspace?.delete();
    this.#workspace = undefined;
    await untilAtRest(this.#home, () => ({ vms: 0, runs: 0, workspaces: 0 }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.#trees, { recursive: true, force: true });
  }

  /** What the operation needs: a tree to send, a workspace to use. */
  async #prepare(operation: Operation): Promise<void> {
    if (operation === "create" || operation === "push") await this.#makeTree(++this.#generation);
    if (operation !== "create" && this.#workspace === undefined) {
      const generation = operation === "push" ? this.#generation - 1 : this.#generation;
      await this.#makeTree(generation);
      this.#workspace = await this.#all.create(["--seed-path", this.#tree(generation)]);
    }
  }

  #start(operation: Operation): { readonly finished: Promise<Finished> } {
    const id = this.#workspace?.id ?? "";
    const tree = this.#tree(this.#generation);
    switch (operation) {
      case "create":
        return this.#all.start(["create", "--seed-path", tree, "--name", `made-${this.#generation}`, "--json"]);
      case "push":
        return this.#all.start(["sync", "push", id, tree, "--json"]);
      case "exec":
        return this.#all.start(["exec", id, "--no-stdin", "--verbose", "--", ...SCRIPT, String(++this.#commands)]);
      case "delete":
        return this.#all.start(["delete", id, "--json"]);
    }
  }

  /** What is returned waits until the guest that is there now has crashed. */
  async #crashLater(ms: number): Promise<() => Promise<void>> {
    const workspace = this.#present();
    await workspace.ok(["true"]);
    const pids = (await this.#vmms()).map(({ pid }) => pid);
    const seconds = (ms / 1000).toFixed(3);
    await workspace.sh(`sync; (sleep ${seconds}; echo c >/proc/sysrq-trigger) >/dev/null 2>&1 &`);
    return async () =>
      await untilGone(async () => (await this.#vmms()).filter(({ pid }) => pids.includes(pid)), 30_000);
  }

  async #vmms(): Promise<HomeProcess[]> {
    return (await processesAt(this.#home)).filter(({ kind }) => kind === "vmm");
  }

  async #strike(victim: Exclude<Victim, "guest">, moment: number, ms: number): Promise<string> {
    await sleep(ms);
    const kinds: readonly Kind[] = victim === "vmm" ? ["vmm", "sandbox"] : [victim];
    const found: HomeProcess[] = (await processesAt(this.#home)).filter(({ kind }) => kinds.includes(kind));
    const struck = found[Math.floor(moment * found.length)];
    if (struck === undefined) return "not there";
    try {
      process.kill(struck.pid, "SIGKILL");
    } catch {
      return "gone by itself";
    }
    return "killed";
  }

  /** Everything that must hold now. Gives in words how the workspace is. */
  async #settle(operation: Operation, status: number | null, finished?: Finished): Promise<string> {
    let how: string;
    if (operation === "create") how = await this.#afterCreate(status);
    else if (operation === "delete") how = await this.#afterDelete(status);
    else if (operation === "push") how = await this.#afterPush(status);
    else how = await this.#afterExec(status, finished);
    const count = this.#workspace === undefined ? 0 : 1;
    await untilAtRest(this.#home, () => ({ vms: count, runs: 0, workspaces: count }), REST_MS);
    return how;
  }

  async #afterCreate(status: number | null): Promise<string> {
    const name = `made-${this.#generation}`;
    const left = (await this.#all.list()).find((record) => record.name === name);
    if (left === undefined) {
      assert.notEqual(status, 0, "a workspace that was made is not there");
      return "nothing is left";
    }
    const how = await this.#usable(left, async (workspace) => {
      assert.equal(status, 0, "a creation that failed left a usable workspace");
      assert.deepEqual(await generations(workspace), [this.#generation]);
    });
    await this.#all.delete(left.workspace_id);
    return how;
  }

  async #afterPush(status: number | null): Promise<string> {
    const workspace = this.#present();
    return await this.#usable(await workspace.status(), async () => {
      const found = await generations(workspace);
      if (status === 0) assert.deepEqual(found, [this.#generation], "a push that succeeded is not there as a whole");
      for (const generation of found) assert.ok(generation <= this.#generation, `files of tree ${generation}`);
      // Later pushes begin with one tree again.
      await workspace.push(this.#tree(this.#generation));
      assert.deepEqual(await generations(workspace), [this.#generation]);
    });
  }

  async #afterExec(status: number | null, finished: Finished | undefined): Promise<string> {
    const workspace = this.#present();
    const own = [...SCRIPT, String(this.#commands)].join("\n");
    const [entry, ...more] = (await workspace.logs()).filter(({ command }) => command.join("\n") === own);
    assert.equal(more.length, 0, "the command is in the log twice");
    if (finished !== undefined) judgeOutput(finished, status, await this.#wholeOf(workspace, entry), entry);
    return await this.#usable(await workspace.status(), async () => {});
  }

  async #afterDelete(status: number | null): Promise<string> {
    const id = this.#present().id;
    const left = (await this.#all.list()).find(({ workspace_id }) => workspace_id === id);
    this.#workspace = undefined;
    if (left === undefined) return "it is gone";
    assert.notEqual(status, 0, "a workspace that was deleted is there");
    await this.#all.delete(id);
    return "it was there, and is gone now";
  }

  /** Uses a workspace, or has its failure said and deletes it. */
  async #usable(record: WorkspaceRecord, use: (workspace: Workspace) => Promise<void>): Promise<string> {
    const workspace = new Workspace(this.#all, record);
    if (record.state === "failed") {
      assert.ok((record.failure?.message ?? "").length > 10, JSON.stringify(record.failure));
      await this.#all.refused(["exec", record.workspace_id, "--", "true"], "WORKSPACE_FAILED");
      if (this.#workspace?.id === record.workspace_id) {
        await workspace.delete();
        this.#workspace = undefined;
      }
      return `failed: ${record.failure?.message}`;
    }
    await this.#answers(workspace);
    await use(workspace);
    return `usable (it was ${record.state})`;
  }

  /** The next command works; or, where nobody had noticed yet that the microVM is gone, the one after it. */
  async #answers(workspace: Workspace): Promise<void> {
    const first = await workspace.exec(["echo", "usable"], { args: ["--json"] });
    if (first.status === 125) assert.equal(codeOf(first.stdout), "MICROVM_LOST", first.stdout.toString());
    assert.equal(await workspace.ok(["echo", "usable"]), "usable\n");
  }

  #present(): Workspace {
    if (this.#workspace === undefined) throw new Error("there is no workspace");
    return this.#workspace;
  }

  /** All that the log has of a command's output, as text. */
  async #wholeOf(workspace: Workspace, entry: LogEntry | undefined): Promise<string> {
    if (entry === undefined) return "";
    let text = "";
    let cursor: string | undefined;
    for (;;) {
      const args: string[] = cursor === undefined ? [] : ["--cursor", cursor];
      const read: LogEntry = await this.#all.ask([
        ...["process", "read", workspace.id, entry.process_id, "--max-bytes", "65536", "--wait-seconds", "0", ...args],
      ]);
      if (read.stdout === "") return text;
      text += read.stdout;
      cursor = read.next_cursor;
    }
  }

  #tree(generation: number): string {
    return join(this.#trees, `tree-${generation}`);
  }

  /** Files whose content says which tree they are of, some of them new in it. */
  async #makeTree(generation: number): Promise<void> {
    const path = this.#tree(generation);
    await rm(this.#tree(generation - 2), { recursive: true, force: true });
    await mkdir(path, { recursive: true });
    const line = `tree ${generation}\n`;
    for (let index = 0; index < FILES; index++) {
      const directory = join(path, `d${index % 7}`);
      await mkdir(directory, { recursive: true });
      await writeFile(join(directory, `f${index}`), line.repeat(Math.ceil(FILE_BYTES / line.length)));
    }
  }
}

/** Kinds of files, by their different lines and their size, with how many there are: one process, as each is slow here. */
const KINDS = `
import os
kinds = {}
for name in (d + "/" + f for d in os.listdir(".") if d[0] == "d" for f in os.listdir(d)):
    text = open(name).read()
    kind = "%s %d" % (" ".join(sorted(set(text.splitlines()))), len(text))
    kinds[kind] = kinds.get(kind, 0) + 1
for kind in kinds: print(kinds[kind], kind)
`;

/** Which trees the files of a workspace are of, in order. A file that is of none, or of two, is an error. */
async function generations(workspace: Workspace): Promise<number[]> {
  const found = (await workspace.ok(["python3", "-c", KINDS])).trim().split("\n");
  let count = 0;
  const trees = found.map((text) => {
    const [, times, generation, bytes] = /^\s*(\d+) tree (\d+) (\d+)$/.exec(text) ?? [];
    const line = `tree ${generation}\n`;
    assert.equal(Number(bytes), line.length * Math.ceil(FILE_BYTES / line.length), `a torn file: ${text}`);
    count += Number(times);
    return Number(generation);
  });
  assert.equal(count, FILES, `${count} files`);
  return trees.sort((a, b) => a - b);
}

/** What it prints tells one execution from another, and every line from every other. */
const SCRIPT: readonly string[] = [
  "sh",
  "-c",
  [
    'echo x >>"starts-$1"',
    "read -r id </proc/sys/kernel/random/uuid",
    'echo "begin $id"',
    `i=0; while [ $i -lt ${LINES} ]; do printf 'line %d %s %4000d\\n' $i $id $i; i=$((i+1)); sleep 0.02; done`,
    'echo "end $id $(cat "starts-$1")"',
  ].join("; "),
  "sh",
];

/** What the client had, and what the log has, must be those of one execution; the log has at least as much. */
function judgeOutput(finished: Finished, status: number | null, logged: string, entry: LogEntry | undefined): void {
  const got = finished.stdout.toString();
  const id = /^begin ([0-9a-f-]{36})\n/.exec(logged)?.[1];
  const lines = Array.from({ length: LINES }, (_, index) => `line ${index} ${id} ${String(index).padStart(4000)}\n`);
  const whole = id === undefined ? "begin" : `begin ${id}\n${lines.join("")}end ${id} x\n`;
  assert.ok(whole.startsWith(logged), `the log is no beginning of what the command prints: ${sample(logged)}`);
  assert.ok(logged.startsWith(got), `the client had what is not in the log: ${sample(got)}`);
  if (status === 0) {
    assert.equal(sha256(Buffer.from(got)), sha256(Buffer.from(whole)), "a success with a part of the output");
    assert.deepEqual([entry?.state, entry?.exit_code], ["exited", 0]);
  } else if (entry !== undefined) {
    assert.equal(entry.state, "exited", "a command that was lost still runs");
    if (entry.exit_code === null)
      assert.ok((entry.lost_reason ?? "") !== "", "it is not said why its end is not known");
  }
}

function sample(text: string): string {
  return JSON.stringify(text.replace(/ {20,}/g, "...").slice(0, 400));
}

function codeIn(operation: Operation, { status, stdout, stderr }: Finished): string {
  if (operation !== "exec") return codeOf(stdout);
  assert.equal(status, 125, `status ${status}: ${stderr}`);
  return /^\{"code":"(\w+)"/m.exec(stderr.toString())?.[1] ?? "no code";
}
