// Kills a program while a workspace is snapshot, reset, stopped, started or cloned, or something is taken out of it while
// it is stopped, when the VMM is the inspector's, at a random moment, and judges what follows: the workspace is usable or
// says why not, its disk is as before or as it was to become, every snapshot that is listed is whole, what was taken out
// is whole or not there, and nothing stray lies in its directory.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Pyro, PyroError, type Workspace, type WorkspaceRecord } from "pyro-mcp";
import type { Seeded } from "../seed.ts";
import { within } from "./faulty.ts";
import type { OwnHome } from "./harness.ts";
import { type Kind, processesAt, untilAtRest } from "./remains.ts";

export const OPERATIONS = ["reset", "snapshot", "stop", "start", "clone", "export"] as const;
export type Operation = (typeof OPERATIONS)[number];
const VICTIMS = ["daemon", "daemon", "vmm"] as const;

/** What an operation may fail with when this was killed under it. Each but an export is asked for again when its daemon dies. */
const CODES: Record<(typeof VICTIMS)[number], readonly string[]> = {
  daemon: ["DAEMON_UNREACHABLE"],
  vmm: ["MICROVM_LOST", "MICROVM_START_FAILED", "GUEST_UNRESPONSIVE"],
};

/** What lies in the directory of a workspace when nothing is being done to it. */
const FILES = ["commands", "disk.ext4", "services", "shells", "snapshots", "workspace.json"];
const OPERATION_MS = 180_000;
const REST_MS = 90_000;
/** Written to the disk, so that copying it takes a moment, MB. */
const WEIGHT_MB = 16;

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
  readonly #pyro: Pyro;
  readonly #workspace: Workspace;
  readonly #usualMs = new Map<Operation, number>();
  /** What the disk holds now, and each snapshot. */
  #value = 0;
  readonly #kept = new Map<string, number>();
  #count = 0;

  private constructor(home: OwnHome, pyro: Pyro, workspace: Workspace) {
    this.#home = home;
    this.#pyro = pyro;
    this.#workspace = workspace;
  }

  /** Does each operation once in peace, to know how long it takes. */
  static async open(home: OwnHome): Promise<LifecycleGround> {
    const pyro = new Pyro({ home: home.path });
    const ground = new LifecycleGround(home, pyro, await pyro.createWorkspace({ ttlSeconds: 0 }));
    await sh(ground.#workspace, `head -c ${WEIGHT_MB}M /dev/urandom >weight; sha256sum weight >sum; sync`);
    await ground.#write();
    await mkdir(ground.#out);
    for (const operation of ["snapshot", "reset", "stop", "start", "clone", "export"] as const) {
      await ground.#prepare(operation);
      const begun = performance.now();
      await ground.#start(operation);
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
    const how = await within(running, OPERATION_MS).then(
      () => "success",
      (thrown: unknown) => {
        const { code, message } = PyroError.from(thrown);
        assert.ok(CODES[victim].includes(code), `${code} when the ${victim} was killed: ${message}`);
        assert.ok(code !== "DAEMON_UNREACHABLE" || operation === "export", `${operation} was not asked for again`);
        return code;
      },
    );
    const after = await this.#settle(operation, how === "success");
    return `${operation}: ${victim} ${struck} after ${ms} ms: ${how}; then ${after}`;
  }

  /** Deletes what is there; then nothing may be left. */
  async finish(): Promise<void> {
    await this.#workspace.delete();
    await this.#pyro.close();
    await rm(this.#out, { recursive: true });
    await untilAtRest(this.#home, () => ({ vms: 0, runs: 0, workspaces: 0 }));
  }

  /** Where exports go: the host's side of it is judged too. */
  get #out(): string {
    return join(this.#home.path, "out");
  }

  get #snapshot(): string {
    return `s${this.#count}`;
  }

  async #prepare(operation: Operation): Promise<void> {
    this.#count++;
    await this.#workspace.start();
    if (operation !== "start") await this.#write();
    if (operation === "start" || operation === "export") await this.#workspace.stop();
  }

  /** Something new on the disk, in a way that no loss of a microVM undoes. */
  async #write(): Promise<void> {
    this.#value++;
    await sh(this.#workspace, `echo ${this.#value} >value.new; sync; mv value.new value; sync`);
  }

  #start(operation: Operation): Promise<unknown> {
    switch (operation) {
      case "reset":
        return this.#workspace.reset(this.#oldest);
      case "snapshot":
        return this.#workspace.snapshot.create(this.#snapshot);
      case "stop":
        return this.#workspace.stop();
      case "start":
        return this.#workspace.start();
      case "clone":
        return this.#workspace.clone({ name: this.#snapshot });
      case "export":
        return this.#workspace.export(".", join(this.#out, "tree"));
    }
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
    const { workspaceId } = this.#workspace;
    const record = await this.#workspace.status();
    assert.notEqual(record.state, "failed", JSON.stringify(record.failure));
    if (operation === "export") await this.#judgeExport(succeeded);
    if (succeeded && operation === "stop") assert.deepEqual([record.state, record.stopReason], ["stopped", "stopped"]);
    const { workspaces } = await this.#pyro.listWorkspaces();
    const clones = workspaces.filter((other) => other.workspaceId !== workspaceId);
    assert.ok(
      clones.length <= 1 && (clones.length === 1 || operation !== "clone" || !succeeded),
      `${clones.length} clones`,
    );

    await this.#workspace.start();
    await this.#answers(this.#workspace);
    const value = Number(await sh(this.#workspace, "cat value"));
    const then = operation === "reset" ? (this.#kept.get(this.#oldest) ?? -1) : this.#value;
    assert.ok(
      value === then || (value === this.#value && !succeeded),
      `${value} is neither ${then} nor ${this.#value}`,
    );
    if (operation === "reset") await this.#whole(this.#workspace);
    const history = (await this.#workspace.logs()).entries.length;
    if (value !== this.#value) assert.ok(history <= 4, `${history} commands of before the reset`);
    this.#value = value;

    const { snapshots } = await this.#workspace.snapshot.list();
    const names = snapshots.filter(({ kind }) => kind === "named").map(({ snapshotName }) => snapshotName);
    if (operation === "snapshot") {
      if (succeeded) assert.ok(names.includes(this.#snapshot), "a snapshot that was made is not there");
      if (names.includes(this.#snapshot)) this.#kept.set(this.#snapshot, this.#value);
    }
    assert.deepEqual(names, [...this.#kept.keys()]);
    const directory = join(this.#home.paths.workspaces, workspaceId);
    assert.deepEqual(
      (await readdir(directory)).sort(),
      FILES.filter((name) => name !== "snapshots" || names.length > 0),
    );
    assert.deepEqual((await readdir(join(directory, "snapshots"))).sort(), names.toSorted());
    for (const name of names) {
      assert.deepEqual((await readdir(join(directory, "snapshots", name))).sort(), ["disk.ext4", "snapshot.json"]);
    }
    for (const clone of clones) await this.#judgeClone(clone, succeeded);
    // The newest is gone back to now and then; the oldest is what resets go to.
    if (operation === "snapshot" && names.length > 2) {
      const last = names.at(-1) ?? "";
      await this.#workspace.reset(last);
      await this.#whole(this.#workspace);
      assert.equal(Number(await sh(this.#workspace, "cat value")), this.#kept.get(last));
      this.#value = this.#kept.get(last) ?? -1;
      await this.#workspace.snapshot.delete(last);
      this.#kept.delete(last);
    }
    await untilAtRest(this.#home, () => ({ vms: 1, runs: 0, workspaces: 1 }), REST_MS);
    return `usable (it was ${record.state}${record.stopReason === null ? "" : `, ${record.stopReason}`}), value ${value}`;
  }

  async #judgeExport(succeeded: boolean): Promise<void> {
    assert.deepEqual(await readdir(this.#out), succeeded ? ["tree"] : []);
    if (!succeeded) return;
    const tree = join(this.#out, "tree");
    assert.equal(Number(await readFile(join(tree, "value"), "utf8")), this.#value);
    const sum = createHash("sha256")
      .update(await readFile(join(tree, "weight")))
      .digest("hex");
    assert.equal(await readFile(join(tree, "sum"), "utf8"), `${sum}  weight\n`);
    await rm(tree, { recursive: true });
  }

  /** One that could not be finished says so, or is not there; one that is there is whole. */
  async #judgeClone(record: WorkspaceRecord, succeeded: boolean): Promise<void> {
    const clone = this.#pyro.workspace(record.workspaceId);
    if (record.state === "failed") {
      assert.equal(succeeded, false);
      assert.ok((record.failure?.message ?? "").length > 10);
    } else {
      await clone.start();
      await this.#answers(clone);
      await this.#whole(clone);
      assert.equal(Number(await sh(clone, "cat value")), this.#value);
    }
    await clone.delete();
  }

  async #whole(workspace: Workspace): Promise<void> {
    assert.equal(await sh(workspace, "sha256sum -c sum"), "weight: OK\n");
  }

  /** The next command works; or, where nobody had noticed yet that the microVM is gone, the one after it. */
  async #answers(workspace: Workspace): Promise<void> {
    await sh(workspace, "true").catch((thrown: unknown) => {
      assert.equal(PyroError.from(thrown).code, "MICROVM_LOST", String(thrown));
    });
    await sh(workspace, "true");
  }
}

async function sh(workspace: Workspace, script: string): Promise<string> {
  return (await workspace.exec(["sh", "-c", script], { check: true })).stdout;
}
