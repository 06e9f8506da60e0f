// What the tests of workspaces share: one made and used by the command as a user does, and what it answered as data.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ErrorCode } from "../../src/errors/codes.ts";
import type { OutputOf } from "../../src/operations/table.ts";
import { type Told, told, within } from "./faulty.ts";
import { type Finished, type Started, type StartOptions, startPyro } from "./harness.ts";

export type WorkspaceRecord = OutputOf<"workspace.create">;
export type LogEntry = OutputOf<"workspace.exec">;
export type Pushed = OutputOf<"workspace.sync_push">;
export type Deleted = OutputOf<"workspace.delete">;

/** Longest that any command of these tests may take, ms. */
const COMMAND_MS = 240_000;

/** A home's `pyro workspace`, by the words that a user types. */
export class Workspaces {
  readonly #env: NodeJS.ProcessEnv;

  /** Of the tests' home unless an environment names another. */
  constructor(env: NodeJS.ProcessEnv = {}) {
    this.#env = env;
  }

  start(args: readonly string[], options: StartOptions = {}): Started {
    return startPyro(["workspace", ...args], { ...options, env: { ...this.#env, ...options.env } });
  }

  async finish(args: readonly string[], options: StartOptions = {}): Promise<Finished> {
    return await within(this.start(args, options).finished, COMMAND_MS);
  }

  /** Its one JSON document; the command must succeed. */
  async ask<T>(args: readonly string[], options: StartOptions = {}): Promise<T> {
    const { status, stdout, stderr } = await this.finish(asJson(args), options);
    assert.equal(status, 0, `pyro workspace ${args.join(" ")}: status ${status}\n${stdout}${stderr}`);
    return JSON.parse(stdout.toString()) as T;
  }

  /** What it was refused with; the command must fail, with this code if one is given. */
  async refused(args: readonly string[], code?: ErrorCode): Promise<Told> {
    const { status, stdout, stderr } = await this.finish(asJson(args));
    assert.notEqual(status, 0, `pyro workspace ${args.join(" ")} succeeded: ${stdout}${stderr}`);
    const error = told(stdout);
    if (code !== undefined) assert.equal(error.code, code, error.message);
    return error;
  }

  /** A workspace that goes with the block it is made in. */
  async create(args: readonly string[] = []): Promise<Workspace> {
    return new Workspace(this, await this.ask<WorkspaceRecord>(["create", ...args]));
  }

  async status(workspace: string): Promise<WorkspaceRecord> {
    return await this.ask(["status", workspace]);
  }

  async list(args: readonly string[] = []): Promise<readonly WorkspaceRecord[]> {
    return (await this.ask<OutputOf<"workspace.list">>(["list", ...args])).workspaces;
  }

  async delete(workspace: string): Promise<Deleted> {
    return await this.ask(["delete", workspace]);
  }

  async deleteAll(): Promise<void> {
    for (const { workspace_id } of await this.list()) await this.delete(workspace_id);
  }
}

export class Workspace {
  readonly id: string;
  /** As it was created. */
  readonly record: WorkspaceRecord;
  readonly #all: Workspaces;

  constructor(all: Workspaces, record: WorkspaceRecord) {
    this.#all = all;
    this.record = record;
    this.id = record.workspace_id;
  }

  /** A command's exit, stdout and stderr, byte by byte. */
  async exec(command: readonly string[], options: ExecOptions = {}): Promise<Finished> {
    return await this.#all.finish(["exec", this.id, ...(options.args ?? []), "--", ...command], options);
  }

  startExec(command: readonly string[], options: ExecOptions = {}): Started {
    return this.#all.start(["exec", this.id, ...(options.args ?? []), "--", ...command], options);
  }

  /** Stdout of a command that must succeed. */
  async ok(command: readonly string[], options: ExecOptions = {}): Promise<string> {
    const { status, stdout, stderr } = await this.exec(command, options);
    assert.equal(status, 0, `${command.join(" ")}: status ${status}\n${stdout.toString().slice(-2000)}${stderr}`);
    return stdout.toString();
  }

  /** Stdout of a script that must succeed. */
  async sh(script: string): Promise<string> {
    return await this.ok(["sh", "-c", script]);
  }

  async push(source: string, args: readonly string[] = []): Promise<Pushed> {
    return await this.#all.ask(["sync", "push", this.id, source, ...args]);
  }

  async status(): Promise<WorkspaceRecord> {
    return await this.#all.status(this.id);
  }

  /** Every command that was started in it, in order. */
  async logs(): Promise<readonly LogEntry[]> {
    const entries: LogEntry[] = [];
    let cursor: string | null = null;
    do {
      const args: string[] = cursor === null ? [] : ["--cursor", cursor];
      const page: OutputOf<"workspace.logs"> = await this.#all.ask(["logs", this.id, ...args]);
      entries.push(...page.entries);
      cursor = page.next_cursor;
    } while (cursor !== null);
    return entries;
  }

  async delete(): Promise<Deleted> {
    return await this.#all.delete(this.id);
  }

  /** As often as it takes, until the state is this one. */
  async untilState(state: WorkspaceRecord["state"], ms = 60_000): Promise<WorkspaceRecord> {
    const deadline = Date.now() + ms;
    for (;;) {
      const record = await this.status();
      if (record.state === state) return record;
      if (Date.now() > deadline) throw new Error(`${this.id} is ${record.state} and not ${state} after ${ms} ms`);
      await sleep(100);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await pyroGone(this.#all, this.id);
  }
}

export interface ExecOptions extends StartOptions {
  /** Options of the command line. */
  readonly args?: readonly string[];
}

/** With --json, which is pyro's only before the command. */
function asJson(args: readonly string[]): string[] {
  const end = args.includes("--") ? args.indexOf("--") : args.length;
  return [...args.slice(0, end), "--json", ...args.slice(end)];
}

/** A directory of the host that goes with the block it is made in. */
export async function scratch(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), "pyro-tree-"));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** Deletes it; one that the test has deleted is no error. */
async function pyroGone(all: Workspaces, id: string): Promise<void> {
  const { status, stdout } = await all.finish(["delete", id, "--json"]);
  if (status === 0) return;
  const { code, message } = told(stdout);
  if (code !== "WORKSPACE_NOT_FOUND") throw new Error(`${id} could not be deleted: ${code} ${message}`);
}
