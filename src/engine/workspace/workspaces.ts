// All workspaces of a home: made, found by id or name, listed, changed, removed, and taken up after another daemon.
import { orAborted } from "../../abort/or-aborted.ts";
import { PyroError } from "../../errors/error.ts";
import { nearest } from "../../errors/nearest.ts";
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import { newWorkspaceId, WORKSPACE_ID_PATTERN } from "../../wire/ids.ts";
import type { KnownVms } from "../known-vms.ts";
import { wishOf } from "../network.ts";
import { givenSecrets } from "../secrets/given.ts";
import { type SecretFacts, Secrets } from "../secrets/secrets.ts";
import type { Progress } from "../templates.ts";
import type { WorkspaceContext } from "./life.ts";
import { cloneRecord } from "./lifecycle.ts";
import {
  findWorkspaces,
  type StoredWorkspace,
  storedSecrets,
  syncWorkspaceDirectory,
  WORKSPACE_SCHEMA_VERSION,
} from "./record.ts";
import type { Upload } from "./seeding.ts";
import { Workspace } from "./workspace.ts";

const MOST_LABELS = 64;
/** Most of a page of a list as JSON, bytes: a client takes 64 MiB. */
const PAGE_BYTES = 16 << 20;
/** How long a daemon that stops waits for creations to be undone, ms. */
const CREATIONS_MS = 5000;

export interface CreateRequest {
  /** Chosen by the caller, so that a call that is made again makes one workspace. */
  readonly workspaceId: string | undefined;
  readonly input: ParsedInputOf<"workspace.create">;
  readonly upload: Upload | undefined;
  readonly progress: Progress;
  /** Called when environment and template are there. */
  readonly prepared: () => void;
  readonly signal: AbortSignal;
}

export interface CloneRequest {
  /** As in CreateRequest. */
  readonly workspaceId: string | undefined;
  readonly input: ParsedInputOf<"workspace.clone">;
  readonly progress: Progress;
  readonly signal: AbortSignal;
}

export class Workspaces {
  readonly #context: WorkspaceContext;
  /** In the order of their creation. */
  readonly #all = new Map<string, Workspace>();
  /** Creations under way, by id. */
  readonly #creating = new Map<string, Promise<unknown>>();
  /** Names that creations and updates under way are about to have. */
  readonly #taken = new Set<string>();
  readonly #stopping = new AbortController();

  constructor(context: WorkspaceContext) {
    this.#context = context;
  }

  /** Those whose microVM runs. */
  get live(): Workspace[] {
    return [...this.#all.values()].filter(({ vm }) => vm !== undefined);
  }

  /** Takes up what an earlier daemon left, and takes the microVMs of that out of `known`. */
  async adopt(known: KnownVms): Promise<void> {
    const found: Workspace[] = [];
    for (const one of await findWorkspaces(this.#context.paths)) {
      found.push(await Workspace.take(this.#context, one, known));
    }
    found.sort(inOrder);
    for (const workspace of found) this.#all.set(workspace.workspaceId, workspace);
  }

  /**
   * Makes one; on failure nothing of it is left. The same id again gives the same workspace.
   * Errors: WORKSPACE_NAME_TAKEN, LIMIT_EXCEEDED, SECRET_INVALID, those of Preparation.prepare, Machines.obtain and
   * sendTransfer; the signal's reason.
   */
  async create(request: CreateRequest): Promise<Workspace> {
    const { input, signal } = request;
    const workspaceId = request.workspaceId ?? newWorkspaceId();
    checkLabels(input.labels ?? {});
    const secrets = givenSecrets(input, wishOf(input));
    return await this.#create(workspaceId, input.name, signal, () => {
      const { upload, progress, prepared } = request;
      return this.#make(recordOf(workspaceId, input, secrets.facts), secrets, signal, (workspace, until) =>
        workspace.create(input, upload, { progress, prepared, signal: until }),
      );
    });
  }

  /**
   * Makes one that begins as another is, or was in a snapshot; on failure nothing of it is left. The same id again gives the
   * same workspace. Errors: WORKSPACE_NAME_TAKEN, those of Lifecycle.copyFrom; the signal's reason.
   */
  async clone(request: CloneRequest): Promise<Workspace> {
    const { input, progress, signal } = request;
    const workspaceId = request.workspaceId ?? newWorkspaceId();
    const source = this.get(input.workspace_id);
    return await this.#create(workspaceId, input.name, signal, () =>
      this.#make(
        cloneRecord(source.record, workspaceId, input.name ?? null),
        Secrets.none,
        signal,
        async (workspace, until) => {
          await syncWorkspaceDirectory(this.#context.paths);
          await workspace.lifecycle.copyFrom(source.lifecycle, input.snapshot_name, progress, until);
        },
      ),
    );
  }

  async #create(
    workspaceId: string,
    name: string | undefined,
    signal: AbortSignal,
    make: () => Promise<Workspace>,
  ): Promise<Workspace> {
    if (!WORKSPACE_ID_PATTERN.test(workspaceId)) {
      throw new PyroError("INVALID_INPUT", `${workspaceId} cannot be the id of a workspace.`);
    }
    // The connection of a first call may have broken a moment ago, and others may come back with it.
    for (let other = this.#creating.get(workspaceId); other !== undefined; other = this.#creating.get(workspaceId)) {
      await orAborted(
        other.catch(() => {}),
        signal,
      );
    }
    signal.throwIfAborted();
    this.#stopping.signal.throwIfAborted();
    const present = this.#all.get(workspaceId);
    if (present !== undefined && !present.isDeleted && present.failure?.stage !== "create") return present;
    // Nothing may come between the look and this.
    const create = async () => {
      await present?.delete();
      this.#all.delete(workspaceId);
      return await this.#withName(name, make);
    };
    const done = create().finally(() => this.#creating.delete(workspaceId));
    this.#creating.set(workspaceId, done);
    return await done;
  }

  /** Undefined when there is none, or only one that is being deleted. */
  find(idOrName: string): Workspace | undefined {
    return this.#all.get(idOrName) ?? this.#named(idOrName);
  }

  /** Errors: WORKSPACE_NOT_FOUND, with near names. */
  get(idOrName: string): Workspace {
    const found = this.#all.get(idOrName) ?? this.#named(idOrName);
    if (found !== undefined && !found.isDeleted) return found;
    const living = [...this.#all.values()].filter(({ isDeleted }) => !isDeleted);
    const names = living.flatMap(({ workspaceId, name }) => [workspaceId, ...(name ? [name] : [])]);
    const near = nearest(idOrName, names);
    const guess = near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : "";
    throw new PyroError("WORKSPACE_NOT_FOUND", `There is no workspace ${idOrName}.${guess}`);
  }

  /** Errors: CURSOR_INVALID. */
  async list(input: ParsedInputOf<"workspace.list">): Promise<OutputOf<"workspace.list">> {
    const after = input.cursor === undefined ? undefined : parseCursor(input.cursor);
    const wanted = Object.entries(input.labels ?? {});
    // Those made at the same time may be here in another order than their cursors are in.
    const all = [...this.#all.values()]
      .sort(inOrder)
      .filter(
        (workspace) =>
          !workspace.isDeleted &&
          wanted.every(([key, value]) => Object.hasOwn(workspace.labels, key) && workspace.labels[key] === value) &&
          (after === undefined || inOrder(workspace, after) > 0),
      );
    const page = await Promise.all(all.slice(0, input.limit).map((workspace) => workspace.describe()));
    const workspaces = withinBytes(page, PAGE_BYTES);
    const last = all[workspaces.length - 1];
    return {
      workspaces,
      next_cursor: last !== undefined && all.length > workspaces.length ? formatCursor(last) : null,
    };
  }

  /** Errors: WORKSPACE_NOT_FOUND, WORKSPACE_NAME_TAKEN, LIMIT_EXCEEDED, INVALID_INPUT. */
  async update(input: ParsedInputOf<"workspace.update">): Promise<OutputOf<"workspace.status">> {
    const workspace = this.get(input.workspace_id);
    if (input.clear_name && input.name !== undefined) {
      throw new PyroError("INVALID_INPUT", "A name cannot be given and taken away at once.");
    }
    const { ttl_seconds } = input;
    const change = () => {
      const labels = { ...workspace.labels, ...input.labels };
      for (const key of input.clear_labels ?? []) delete labels[key];
      checkLabels(labels);
      const name = input.clear_name ? null : (input.name ?? workspace.name);
      return ttl_seconds === undefined ? { name, labels } : { name, labels, ttl_seconds };
    };
    const changed = input.name === workspace.name ? undefined : input.name;
    await this.#withName(changed, () => workspace.update(change));
    return await workspace.describe();
  }

  /** Errors: WORKSPACE_NOT_FOUND, HOST_IO_FAILED. */
  async delete(idOrName: string): Promise<OutputOf<"workspace.delete">> {
    const workspace = this.get(idOrName);
    const { workspaceId } = workspace;
    await workspace.delete();
    if (this.#all.get(workspaceId) === workspace) this.#all.delete(workspaceId);
    return { workspace_id: workspaceId, deleted: true };
  }

  /**
   * Lets go of all of them and ends nothing: the next daemon takes them up. One that is being created is nobody's yet: it
   * is removed, as far as that does not take long.
   */
  async release(): Promise<void> {
    this.#stopping.abort(new PyroError("CANCELLED", "The daemon is stopping."));
    const creations = Promise.allSettled(this.#creating.values());
    await orAborted(creations, AbortSignal.timeout(CREATIONS_MS)).catch(() => {});
    await Promise.all([...this.#all.values()].map((workspace) => workspace.release()));
  }

  async #make(
    record: StoredWorkspace,
    secrets: Secrets,
    signal: AbortSignal,
    fill: (workspace: Workspace, until: AbortSignal) => Promise<void>,
  ): Promise<Workspace> {
    const { workspace_id: workspaceId } = record;
    const workspace = await Workspace.make(this.#context, record, secrets);
    this.#all.set(workspaceId, workspace);
    try {
      await fill(workspace, AbortSignal.any([signal, this.#stopping.signal]));
      return workspace;
    } catch (error) {
      await workspace.delete().catch(() => {});
      if (this.#all.get(workspaceId) === workspace) this.#all.delete(workspaceId);
      throw error;
    }
  }

  #named(name: string): Workspace | undefined {
    return [...this.#all.values()].find((workspace) => workspace.name === name && !workspace.isDeleted);
  }

  /** Does the work while nobody else can take the name. */
  async #withName<T>(name: string | undefined, work: () => Promise<T>): Promise<T> {
    if (name === undefined) return await work();
    const holder = this.#named(name);
    if (holder !== undefined || this.#taken.has(name)) {
      const whose = holder === undefined ? "is being taken" : `is that of ${holder.workspaceId}`;
      throw new PyroError("WORKSPACE_NAME_TAKEN", `The name ${name} ${whose}.`);
    }
    this.#taken.add(name);
    try {
      return await work();
    } finally {
      this.#taken.delete(name);
    }
  }
}

/** The first of them, as many as fit; one in any case. */
function withinBytes<T>(page: readonly T[], most: number): T[] {
  let bytes = 0;
  const over = page.findIndex((one, index) => {
    bytes += Buffer.byteLength(JSON.stringify(one));
    return index > 0 && bytes > most;
  });
  return over < 0 ? [...page] : page.slice(0, over);
}

interface Placed {
  readonly createdAt: string;
  readonly workspaceId: string;
}

function inOrder(a: Placed, b: Placed): number {
  if (a.createdAt !== b.createdAt) return a.createdAt < b.createdAt ? -1 : 1;
  return a.workspaceId < b.workspaceId ? -1 : a.workspaceId > b.workspaceId ? 1 : 0;
}

function formatCursor({ createdAt, workspaceId }: Placed): string {
  return `w${Date.parse(createdAt)}.${workspaceId.slice(3)}`;
}

function parseCursor(text: string): Placed {
  const parsed = /^w(\d{1,15})\.([a-z2-7]{10})$/.exec(text);
  if (parsed === null) throw new PyroError("CURSOR_INVALID", `${text} is not a cursor.`);
  return { createdAt: new Date(Number(parsed[1])).toISOString(), workspaceId: `ws_${parsed[2]}` };
}

function checkLabels(labels: Readonly<Record<string, string>>): void {
  const count = Object.keys(labels).length;
  if (count <= MOST_LABELS) return;
  throw new PyroError("LIMIT_EXCEEDED", `${count} labels were given; a workspace has at most ${MOST_LABELS}.`);
}

function recordOf(
  workspaceId: string,
  input: ParsedInputOf<"workspace.create">,
  secrets: readonly SecretFacts[],
): StoredWorkspace {
  const now = new Date().toISOString();
  return {
    schema_version: WORKSPACE_SCHEMA_VERSION,
    workspace_id: workspaceId,
    name: input.name ?? null,
    labels: { ...input.labels },
    env: { ...input.env },
    environment: input.environment,
    image: null,
    driver: null,
    ...(input.driver === undefined ? {} : { driver_choice: input.driver }),
    acceleration: null,
    vcpu_count: input.vcpu_count,
    mem_mib: input.mem_mib,
    disk_mib: input.disk_mib,
    state: "creating",
    stop_reason: null,
    failure: null,
    machine_id: null,
    identity: null,
    baseline: "pristine",
    seed: {
      mode: "empty",
      seed_path: input.seed_path ?? null,
      entry_count: 0,
      bytes_written: 0,
      skipped: [],
      skipped_count: 0,
    },
    network_policy: input.network_policy,
    allow_hosts: [...(input.allow_hosts ?? [])],
    reset_count: 0,
    last_reset_at: null,
    last_reset_request: null,
    resetting: null,
    ...(secrets.length === 0 ? {} : { secrets: storedSecrets(secrets) }),
    created_at: now,
    last_activity_at: now,
    ttl_seconds: input.ttl_seconds,
  };
}
