// Kills a program while a workspace is snapshot, reset, stopped, started or cloned, at a random moment, and judges what
// follows: the workspace is usable or says why not, its disk is as before or as it was to become, every snapshot that is
// listed is whole, and nothing stray lies in its directory.
import assert from "node:assert/strict";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { OutputOf } from "../../src/operations/table.ts";
import type { Seeded } from "../seed.ts";
import { codeOf, within } from "./faulty.ts";
import type { OwnHome } from "./harness.ts";
import { type Kind, processesAt, untilAtRest } from "./remains.ts";
import { Workspace, Workspaces } from "./workspaces.ts";

export const OPERATIONS = ["reset", "snapshot", "stop", "start", "clone"] as const;
export type Operation = (typeof OPERATIONS)[number];
const VICTIMS = ["daemon", "daemon", "vmm"] as const;

/** What an operation may fail with when this was killed under it. Each is asked for again when its daemon dies. */
const CODES: Record<(typeof VICTIMS)[number], readonly string[]> = {
  daemon: [],
  vmm: ["MICROVM_LOST", "MICROVM_START_FAILED", "GUEST_UNRESPONSIVE"],
};

/** What lies in the directory of a workspace when nothing is being done to it. */
const FILES = ["commands", "disk.ext4", "services", "shells", "snapshots", "workspace.json"];
const OPERATION_MS = 180_000;
const REST_MS = 90_000;
/** Written to the disk, so that copying it takes a moment, MB. */
const WEIGHT_MB = 40;

export interface Kill {
  readonly operation: Operation;
  readonly victim: (typeof VICTIMS)[number];
  /** From the operation's beginning, as a part of half as much again as it usually takes. */
  readonly moment: number;
}

export function randomKill(random: Seeded, operation: Operation): Kill {
  return { operation, victim: random.pick(VICTIMS), moment: random.next() };
}

/** Operations and kills on one workspace, one after the other. */
export class LifecycleGround {
  readonly #home: OwnHome;
  readonly #all: Workspaces;
  readonly #workspace: Workspace;
  readonly #usualMs = new Map<Operation, number>();
  /** What the disk holds now, and each snapshot. */
  #value = 0;
  readonly #kept = new Map<string, number>();
  #count = 0;

  private constructor(home: OwnHome, all: Workspaces, workspace: Workspace) {
    this.#home = home;
    this.#all = all;
    this.#workspace = workspace;
  }

  /** Does each operation once in peace, to know how long it takes. */
  static async open(home: OwnHome): Promise<LifecycleGround> {
    const all = new Workspaces(home.env);
    const ground = new LifecycleGround(home, all, await all.create(["--ttl-seconds", "0"]));
    await ground.#workspace.sh(`head -c ${WEIGHT_MB}M /dev/urandom >weight; sha256sum weight >sum; sync`);
    await ground.#write();
    for (const operation of ["snapshot", ...OPERATIONS] as const) {
      await ground.#prepare(operation);
      const begun = performance.now();
      const { status, stdout, stderr } = await ground.#start(operation);
      assert.equal(status, 0, `${operation} in peace: ${stdout}${stderr}`);
      ground.#usualMs.set(operation, performance.now() - begun);
      await ground.#settle(operation, true);
    }
    return ground;
  }

  get summary(): string {
    return [...this.#usualMs].map(([operation, ms]) => `${operation} takes ${Math.round(ms)} ms`).join(", ");
  }

  /** One kill and everything that must hold after it. Gives one line of what happened. */
  async kill({ operation, victim, moment }: Kill): Promise<string> {
    await this.#prepare(operation);
    const ms = Math.round(moment * 1.5 * (this.#usualMs.get(operation) ?? 0));
    const running = this.#start(operation);
    const struck = await this.#strike(victim, moment, ms);
    const { status, stdout, stderr } = await within(running, OPERATION_MS);
    let how = "success";
    if (status !== 0) {
      how = codeOf(stdout);
      assert.ok(CODES[victim].includes(how), `${how} when the ${victim} was killed: ${stdout}${stderr}`);
    }
    return `${operation}: ${victim} ${struck} after ${ms} ms: ${how}; then ${await this.#settle(operation, status === 0)}`;
  }

  /** Deletes what is there; then nothing may be left. */
  async finish(): Promise<void> {
    await this.#workspace.delete();
    await untilAtRest(this.#home, () => ({ vms: 0, runs: 0, workspaces: 0 }));
  }

  get #snapshot(): string {
    return `s${this.#count}`;
  }

  async #prepare(operation: Operation): Promise<void> {
    this.#count++;
    await this.#all.ask(["start", this.#workspace.id]);
    if (operation === "start") await this.#all.ask(["stop", this.#workspace.id]);
    else await this.#write();
  }

  /** Something new on the disk, in a way that no loss of a microVM undoes. */
  async #write(): Promise<void> {
    this.#value++;
    await this.#workspace.sh(`echo ${this.#value} >value.new; sync; mv value.new value; sync`);
  }

  #start(operation: Operation) {
    const { id } = this.#workspace;
    const words: Record<Operation, readonly string[]> = {
      reset: ["reset", id, "--snapshot", this.#oldest],
      snapshot: ["snapshot", "create", id, this.#snapshot],
      stop: ["stop", id],
      start: ["start", id],
      clone: ["clone", id, "--name", this.#snapshot],
    };
    return this.#all.finish([...words[operation], "--json"]);
  }

  get #oldest(): string {
    const [name = ""] = this.#kept.keys();
    return name;
  }

  async #strike(victim: Kill["victim"], moment: number, ms: number): Promise<string> {
    await sleep(ms);
    const kinds: readonly Kind[] = victim === "vmm" ? ["vmm", "sandbox"] : [victim];
    const found = (await processesAt(this.#home)).filter(({ kind }) => kinds.includes(kind));
    const struck = found[Math.floor(moment * found.length)];
    if (struck === undefined) return "not there";
    try {
      process.kill(struck.pid, "SIGKILL");
      return "killed";
    } catch {
      return "gone by itself";
    }
  }

  async #settle(operation: Operation, succeeded: boolean): Promise<string> {
    const { id } = this.#workspace;
    const record = await this.#workspace.status();
    assert.notEqual(record.state, "failed", JSON.stringify(record.failure));
    if (succeeded && operation === "stop") assert.deepEqual([record.state, record.stop_reason], ["stopped", "stopped"]);
    const clones = (await this.#all.list()).filter(({ workspace_id }) => workspace_id !== id);
    assert.ok(
      clones.length <= 1 && (clones.length === 1 || operation !== "clone" || !succeeded),
      `${clones.length} clones`,
    );

    await this.#all.ask(["start", id]);
    await this.#answers(this.#workspace);
    const value = Number(await this.#workspace.ok(["cat", "value"]));
    const then = operation === "reset" ? (this.#kept.get(this.#oldest) ?? -1) : this.#value;
    assert.ok(
      value === then || (value === this.#value && !succeeded),
      `${value} is neither ${then} nor ${this.#value}`,
    );
    await this.#whole(this.#workspace);
    const history = (await this.#workspace.logs()).length;
    if (value !== this.#value) assert.ok(history <= 4, `${history} commands of before the reset`);
    this.#value = value;

    const { snapshots } = await this.#all.ask<OutputOf<"snapshot.list">>(["snapshot", "list", id]);
    const names = snapshots.filter(({ kind }) => kind === "named").map(({ snapshot_name }) => snapshot_name);
    if (operation === "snapshot") {
      if (succeeded) assert.ok(names.includes(this.#snapshot), "a snapshot that was made is not there");
      if (names.includes(this.#snapshot)) this.#kept.set(this.#snapshot, this.#value);
    }
    assert.deepEqual(names, [...this.#kept.keys()]);
    const directory = join(this.#home.paths.workspaces, id);
    assert.deepEqual(
      (await readdir(directory)).sort(),
      FILES.filter((name) => name !== "snapshots" || names.length > 0),
    );
    assert.deepEqual((await readdir(join(directory, "snapshots"))).sort(), names.toSorted());
    for (const name of names) {
      assert.deepEqual((await readdir(join(directory, "snapshots", name))).sort(), ["disk.ext4", "snapshot.json"]);
    }
    for (const clone of clones) await this.#judgeClone(new Workspace(this.#all, clone), succeeded);
    // The newest is gone back to now and then; the oldest is what resets go to.
    if (operation === "snapshot" && names.length > 2) {
      const last = names.at(-1) ?? "";
      await this.#all.ask(["reset", id, "--snapshot", last]);
      await this.#whole(this.#workspace);
      assert.equal(Number(await this.#workspace.ok(["cat", "value"])), this.#kept.get(last));
      this.#value = this.#kept.get(last) ?? -1;
      await this.#all.ask(["snapshot", "delete", id, last]);
      this.#kept.delete(last);
    }
    await untilAtRest(this.#home, () => ({ vms: 1, runs: 0, workspaces: 1 }), REST_MS);
    return `usable (it was ${record.state}${record.stop_reason === null ? "" : `, ${record.stop_reason}`}), value ${value}`;
  }

  /** One that could not be finished says so, or is not there; one that is there is whole. */
  async #judgeClone(clone: Workspace, succeeded: boolean): Promise<void> {
    if (clone.record.state === "failed") {
      assert.equal(succeeded, false);
      assert.ok((clone.record.failure?.message ?? "").length > 10);
    } else {
      await this.#all.ask(["start", clone.id]);
      await this.#answers(clone);
      await this.#whole(clone);
      assert.equal(Number(await clone.ok(["cat", "value"])), this.#value);
    }
    await clone.delete();
  }

  async #whole(workspace: Workspace): Promise<void> {
    assert.equal(await workspace.ok(["sha256sum", "-c", "sum"]), "weight: OK\n");
  }

  /** The next command works; or, where nobody had noticed yet that the microVM is gone, the one after it. */
  async #answers(workspace: Workspace): Promise<void> {
    const first = await workspace.exec(["true"], { args: ["--json"] });
    if (first.status !== 0) assert.equal(codeOf(first.stdout), "MICROVM_LOST", first.stdout.toString());
    await workspace.ok(["true"]);
  }
}
