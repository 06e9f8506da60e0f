// What is written of a workspace, and reading it: workspaces/<id>/workspace.json. A record that cannot be read, or that a
// newer pyro wrote, still stands for a workspace: it is shown as failed and can be deleted, and nothing else touches it.
import { lstat, mkdir, readdir, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { readRecord, syncPath, writeRecord } from "../../host/records.ts";
import { driver, networkPolicy } from "../../operations/fields.ts";
import { exportFacts, pushFacts } from "../../operations/summary.ts";
import { workspaceRecord } from "../../operations/workspace.ts";
import { WORKSPACE_ID_PATTERN } from "../../wire/ids.ts";
import type { Paths } from "../paths.ts";
import type { SecretFacts } from "../secrets/secrets.ts";

/** Raised when a record changes in a way that older readers would misread. */
export const WORKSPACE_SCHEMA_VERSION = 1;

const DELETED = ".deleted-";

const shape = workspaceRecord;

export const storedWorkspace = z.object({
  schema_version: z.literal(WORKSPACE_SCHEMA_VERSION),
  workspace_id: z.string().regex(WORKSPACE_ID_PATTERN),
  name: shape.name,
  labels: shape.labels,
  /** What every command gets beyond the image's own variables. */
  env: z.record(z.string(), z.string()),
  environment: z.string(),
  /** The image it stands on and its variables at that time; null until it was found. */
  image: z.object({ digest: z.string(), env: z.record(z.string(), z.string()) }).nullable(),
  driver: shape.driver,
  /** What was asked for at its creation, if anything was: every start keeps to it. */
  driver_choice: driver.optional(),
  acceleration: shape.acceleration,
  vcpu_count: z.int(),
  mem_mib: z.int(),
  disk_mib: z.int(),
  state: shape.state,
  stop_reason: shape.stop_reason,
  failure: shape.failure,
  /** The launcher's name for its microVM, while it has one. */
  machine_id: z.string().nullable(),
  /** Who its microVM is, the same at every start; null until there was one. */
  identity: z.object({ hostname: z.string(), machineId: z.string() }).nullable(),
  /** What later comparisons start from: a disk with nothing on it, or baseline.ext4. */
  baseline: z.enum(["pristine", "disk"]),
  seed: shape.seed,
  /** Records of an older pyro have neither. */
  network_policy: networkPolicy.default("off"),
  allow_hosts: z.array(z.string()).default([]),
  /** How often it was put back, and when last; what a caller named the call by. An older pyro wrote none of it. */
  reset_count: z.int().min(0).default(0),
  last_reset_at: z.string().nullable().default(null),
  last_reset_request: z.string().nullable().default(null),
  /** From here on a reset is finished by whoever comes; null while there is none: see reset.ts. */
  resetting: z.object({ snapshot_name: z.string(), request_id: z.string().nullable() }).nullable().default(null),
  /** What was pushed into it and brought out of it since it was created or reset; nothing of it in an older record. */
  exchanges: z
    .object({
      push_count: z.int().min(0),
      pushes: z.array(z.object(pushFacts)),
      export_count: z.int().min(0),
      exports: z.array(z.object(exportFacts)),
    })
    .optional(),
  /** Their values are beside the record; one of an older daemon has none. */
  secrets: z
    .array(
      z.object({
        name: z.string(),
        source: z.string(),
        hosts: z.array(z.string()).optional(),
        placeholder: z.string().optional(),
      }),
    )
    .optional(),
  created_at: z.string(),
  last_activity_at: z.string(),
  ttl_seconds: z.int().min(0),
});

export type StoredWorkspace = Readonly<z.infer<typeof storedWorkspace>>;

/** Facts of secrets as a record has them. */
export function storedSecrets(facts: readonly SecretFacts[]): NonNullable<StoredWorkspace["secrets"]> {
  return facts.map(({ hosts, ...one }) => ({ ...one, ...(hosts === undefined ? {} : { hosts: [...hosts] }) }));
}

/** What lies in the directory of a workspace. */
export const layoutOf = (directory: string) =>
  ({
    record: join(directory, "workspace.json"),
    disk: join(directory, "disk.ext4"),
    /** The disk that a reset is about to put in the other's place. */
    nextDisk: join(directory, "disk.next.ext4"),
    baseline: join(directory, "baseline.ext4"),
    /** One directory per snapshot, by its name. */
    snapshots: join(directory, "snapshots"),
    commands: join(directory, "commands"),
    services: join(directory, "services"),
    shells: join(directory, "shells"),
    network: join(directory, "network"),
    secrets: join(directory, "secrets"),
  }) as const;

/** A directory of a workspace as it was found: a record, or why there is none that this version can use. */
export interface FoundWorkspace {
  readonly workspaceId: string;
  readonly directory: string;
  readonly record: StoredWorkspace | undefined;
  readonly unusable: string | undefined;
  /** Of the image it stands on, as far as that can be read. */
  readonly imageDigest: string | undefined;
}

/** Every workspace on disk; what deletions and creations that were killed left is removed. Errors: those of the disk. */
export async function findWorkspaces(paths: Paths): Promise<FoundWorkspace[]> {
  await mkdir(paths.workspaces, { recursive: true, mode: 0o700 });
  const found: FoundWorkspace[] = [];
  for (const name of (await readdir(paths.workspaces)).sort()) {
    const directory = join(paths.workspaces, name);
    // What does not go now is tried again by the next daemon.
    if (name.startsWith(DELETED)) await rm(directory, { recursive: true, force: true }).catch(() => {});
    if (!WORKSPACE_ID_PATTERN.test(name)) continue;
    const read = await readWorkspace(name, directory);
    if (read === undefined) await rm(directory, { recursive: true, force: true }).catch(() => {});
    else found.push(read);
  }
  return found;
}

/** Undefined where neither record nor disk was ever made: nobody was told of such a workspace. */
async function readWorkspace(workspaceId: string, directory: string): Promise<FoundWorkspace | undefined> {
  const facts = { workspaceId, directory, record: undefined, imageDigest: undefined };
  let value: unknown;
  try {
    value = await readRecord<unknown>(layoutOf(directory).record);
  } catch (error) {
    const why = error instanceof SyntaxError ? "is damaged" : `cannot be read: ${(error as Error).message}`;
    return { ...facts, unusable: `Its record ${why}.` };
  }
  if (value === undefined) {
    const { disk } = layoutOf(directory);
    const hasDisk = (await lstat(disk).catch(() => undefined)) !== undefined;
    return hasDisk ? { ...facts, unusable: "Its record is missing." } : undefined;
  }
  const digest: unknown = Object(Object(value).image).digest;
  const imageDigest = typeof digest === "string" ? digest : undefined;
  const version: unknown = Object(value).schema_version;
  if (typeof version === "number" && version > WORKSPACE_SCHEMA_VERSION) {
    return {
      ...facts,
      imageDigest,
      unusable: `Its record is of a newer pyro (schema ${version}; this one reads ${WORKSPACE_SCHEMA_VERSION}).`,
    };
  }
  const { data } = storedWorkspace.safeParse(value);
  if (data?.workspace_id !== workspaceId) return { ...facts, imageDigest, unusable: "Its record is damaged." };
  return { workspaceId, directory, record: data, unusable: undefined, imageDigest };
}

/** `durable`: it is there after a crash of the host too. */
export async function writeWorkspace(
  directory: string,
  record: StoredWorkspace,
  options: { durable: boolean },
): Promise<void> {
  await writeRecord(layoutOf(directory).record, record, options);
}

/** Makes the directory of a new workspace; syncWorkspaceDirectory is to follow. Errors: EEXIST. */
export async function makeWorkspaceDirectory(paths: Paths, workspaceId: string): Promise<string> {
  const directory = join(paths.workspaces, workspaceId);
  await mkdir(directory, { mode: 0o700 });
  await mkdir(layoutOf(directory).commands, { mode: 0o700 });
  return directory;
}

/** Removes what a daemon that was killed left half made beside what there is. */
export async function removeLeftovers(directory: string): Promise<void> {
  const { nextDisk } = layoutOf(directory);
  const halves = (await readdir(directory)).filter((name) => /^workspace\.json\..+\.tmp$/.test(name));
  for (const path of [nextDisk, ...halves.map((name) => join(directory, name))]) await rm(path, { force: true });
}

/** Its record is synced with the directory it lies in; that directory's own name would still go with a crash of the host. */
export async function syncWorkspaceDirectory(paths: Paths): Promise<void> {
  await syncPath(paths.workspaces);
}

/** Removes a workspace at once from what there is, then from the disk: a crash in between leaves no half of it. */
export async function removeWorkspaceDirectory(paths: Paths, workspaceId: string): Promise<void> {
  const away = join(paths.workspaces, `${DELETED}${workspaceId}`);
  await rm(away, { recursive: true, force: true });
  await rename(join(paths.workspaces, workspaceId), away).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== "ENOENT") throw error;
  });
  await syncPath(paths.workspaces);
  await rm(away, { recursive: true, force: true });
}
