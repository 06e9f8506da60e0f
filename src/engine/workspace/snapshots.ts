// The snapshots of one workspace: snapshots/<name>/ with a disk and, written last, its record. What has no record never was:
// a torn one is listed by nobody and removed by the next daemon. The baseline is always there, and no directory.
import { mkdir, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { PyroError } from "../../errors/error.ts";
import { nearest } from "../../errors/nearest.ts";
import { isThere } from "../../host/is-there.ts";
import { readRecord, syncPath, writeRecord } from "../../host/records.ts";
import { BASELINE, SNAPSHOT_NAME_PATTERN } from "../../operations/snapshot.ts";
import type { OutputOf } from "../../operations/table.ts";
import { bytesHeld } from "../disk-copy.ts";
import type { Ledger } from "./ledger.ts";
import { layoutOf } from "./record.ts";

const SCHEMA_VERSION = 1;
/** Most that one workspace has. */
const MOST = 1000;

const storedSnapshot = z.object({
  schema_version: z.literal(SCHEMA_VERSION),
  snapshot_name: z.string().regex(SNAPSHOT_NAME_PATTERN),
  /** From 1, in the order in which they were made. */
  sequence: z.int().min(1),
  /** What a caller named the call by that made it. */
  request_id: z.string().nullable(),
  created_at: z.string(),
});

type StoredSnapshot = Readonly<z.infer<typeof storedSnapshot>>;
type Listed = OutputOf<"snapshot.list">["snapshots"][number];

interface Kept {
  readonly record: StoredSnapshot;
  readonly diskPath: string;
  /** It never changes. */
  readonly bytes: number;
}

/** Where a disk comes from: a file, or nothing but its size. */
export type Source = { readonly diskPath: string } | "pristine";

/** What lies in the directory of a snapshot. */
const snapshotLayout = (directory: string) =>
  ({ record: join(directory, "snapshot.json"), disk: join(directory, "disk.ext4") }) as const;

export class Snapshots {
  readonly #ledger: Ledger;
  readonly #directory: string;
  readonly #kept = new Map<string, Kept>();
  /** One was being made when the last daemon ended: a guest may hold its disk still for that. */
  readonly foundTorn: boolean;
  #highest = 0;

  private constructor(ledger: Ledger, kept: readonly Kept[], foundTorn: boolean) {
    this.#ledger = ledger;
    this.#directory = layoutOf(ledger.directory).snapshots;
    this.foundTorn = foundTorn;
    for (const one of kept) this.#add(one);
  }

  /** Reads what is on disk, and removes what was never finished. What is damaged there is not listed, and stays. */
  static async open(ledger: Ledger): Promise<Snapshots> {
    const { snapshots: directory } = layoutOf(ledger.directory);
    const kept: Kept[] = [];
    let foundTorn = false;
    for (const name of await readdir(directory).catch(() => [])) {
      const place = join(directory, name);
      const read = await readSnapshot(place, name);
      if (read === "torn") {
        foundTorn = true;
        // What does not go now is tried again by the next daemon.
        await rm(place, { recursive: true, force: true }).catch(() => {});
      } else if (read !== "damaged") kept.push(read);
    }
    kept.sort((a, b) => a.record.sequence - b.record.sequence);
    return new Snapshots(ledger, kept, foundTorn);
  }

  get count(): number {
    return this.#kept.size;
  }

  /** What all of them hold on the host's disk. */
  get bytes(): number {
    return [...this.#kept.values()].reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** The baseline first, then in the order in which they were made. Errors: CURSOR_INVALID. */
  async list(options: {
    readonly limit: number;
    readonly cursor?: string | undefined;
  }): Promise<Pick<OutputOf<"snapshot.list">, "snapshots" | "next_cursor">> {
    const from = options.cursor === undefined ? -1 : Number(/^s(\d{1,15})$/.exec(options.cursor)?.[1] ?? Number.NaN);
    if (Number.isNaN(from)) throw new PyroError("CURSOR_INVALID", `${options.cursor} is not a cursor.`);
    const all: [number, Listed][] = [[0, await this.#baseline()]];
    for (const kept of this.#kept.values()) all.push([kept.record.sequence, listed(kept)]);
    const behind = all.filter(([sequence]) => sequence > from);
    const page = behind.slice(0, options.limit);
    const last = page.at(-1)?.[0];
    return {
      snapshots: page.map(([, one]) => one),
      next_cursor: behind.length > page.length && last !== undefined ? `s${last}` : null,
    };
  }

  /** The disk of one, or of the baseline. Errors: SNAPSHOT_NOT_FOUND, with near names. */
  source(name: string): Source {
    if (name === BASELINE) {
      const { record, directory } = this.#ledger;
      return record.baseline === "disk" ? { diskPath: layoutOf(directory).baseline } : "pristine";
    }
    const found = this.#kept.get(name);
    if (found !== undefined) return found;
    const near = nearest(name, [BASELINE, ...this.#kept.keys()]);
    const guess = near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : "";
    const { workspace_id } = this.#ledger.record;
    throw new PyroError("SNAPSHOT_NOT_FOUND", `There is no snapshot ${name} of ${workspace_id}.${guess}`);
  }

  /**
   * Makes one of what `copy` puts at the path that it is given, whole; nothing is left after a failure. A call that is made
   * again finds what it made. To be called by one at a time. Errors: SNAPSHOT_EXISTS, LIMIT_EXCEEDED, those of the disk
   * and of `copy`.
   */
  async create(name: string, requestId: string | undefined, copy: (to: string) => Promise<void>): Promise<Listed> {
    const { workspace_id } = this.#ledger.record;
    const before = this.#kept.get(name);
    if (before !== undefined) {
      if (requestId !== undefined && before.record.request_id === requestId) return listed(before);
      throw new PyroError("SNAPSHOT_EXISTS", `There is a snapshot ${name} of ${workspace_id} already.`);
    }
    if (this.#kept.size >= MOST) {
      throw new PyroError("LIMIT_EXCEEDED", `${workspace_id} has ${MOST} snapshots, which is the most.`);
    }
    const place = join(this.#directory, name);
    const layout = snapshotLayout(place);
    await mkdir(this.#directory, { recursive: true, mode: 0o700 });
    await mkdir(place, { mode: 0o700 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
      throw new PyroError("SNAPSHOT_EXISTS", `The snapshot ${name} of ${workspace_id} is damaged, and in the way.`);
    });
    try {
      await copy(layout.disk);
      await syncPath(this.#directory);
      await syncPath(this.#ledger.directory);
      const record: StoredSnapshot = {
        schema_version: SCHEMA_VERSION,
        snapshot_name: name,
        sequence: this.#highest + 1,
        request_id: requestId ?? null,
        created_at: new Date().toISOString(),
      };
      const kept = { record, diskPath: layout.disk, bytes: await bytesHeld(layout.disk) };
      await writeRecord(layout.record, record);
      this.#add(kept);
      return listed(kept);
    } catch (error) {
      await rm(place, { recursive: true, force: true }).catch(() => {});
      throw error;
    }
  }

  /** To be called by one at a time. Errors: SNAPSHOT_NOT_FOUND, those of the disk. */
  async delete(name: string): Promise<void> {
    const place = join(this.#directory, name);
    const damaged = !this.#kept.has(name) && SNAPSHOT_NAME_PATTERN.test(name) && (await isThere(place));
    if (!damaged) this.source(name);
    // Without its record it is none any more, whatever of it is still there.
    await rm(snapshotLayout(place).record, { force: true });
    this.#kept.delete(name);
    await syncPath(place);
    await rm(place, { recursive: true, force: true });
  }

  async #baseline(): Promise<Listed> {
    const { record, directory } = this.#ledger;
    const bytes = record.baseline === "disk" ? await bytesHeld(layoutOf(directory).baseline) : 0;
    return { snapshot_name: BASELINE, kind: "baseline", created_at: record.created_at, bytes };
  }

  #add(kept: Kept): void {
    this.#kept.set(kept.record.snapshot_name, kept);
    this.#highest = Math.max(this.#highest, kept.record.sequence);
  }
}

async function readSnapshot(place: string, name: string): Promise<Kept | "torn" | "damaged"> {
  const layout = snapshotLayout(place);
  try {
    const value = await readRecord<unknown>(layout.record);
    if (value === undefined) return "torn";
    const { data } = storedSnapshot.safeParse(value);
    if (data?.snapshot_name !== name || !(await isThere(layout.disk))) return "damaged";
    return { record: data, diskPath: layout.disk, bytes: await bytesHeld(layout.disk) };
  } catch {
    return "damaged";
  }
}

function listed({ record, bytes }: Kept): Listed {
  const { snapshot_name, created_at } = record;
  return { snapshot_name, kind: "named", created_at, bytes };
}
