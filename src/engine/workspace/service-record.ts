// What is on disk of one service of a workspace beside what is of its process: services/<number>-<name>/service.json. The
// name is in the directory's too, so that one whose record is damaged can still be shown, stopped and started anew.
import { join } from "node:path";
import * as z from "zod";
import { readRecord, writeRecord } from "../../host/records.ts";
import { SERVICE_NAME_PATTERN, serviceRecord } from "../../operations/service.ts";

const SCHEMA_VERSION = 1;
const NAME = "service.json";
const DIGITS = 8;

const storedPort = z.object({ host_port: z.int(), guest_port: z.int() });

export const storedService = z.object({
  schema_version: z.literal(SCHEMA_VERSION),
  service_name: z.string(),
  /** What makes it ready; null when it is as soon as it runs. */
  probe: z.object({ type: z.enum(["file", "tcp", "http", "command"]), target: z.string() }).nullable(),
  ready_timeout_ms: z.number().positive(),
  ready_interval_ms: z.number().positive(),
  /** What was asked for, host port 0 for any; and once it has begun, what the host has. */
  publish: z.array(storedPort).default([]),
  published: z.array(storedPort).default([]),
  ready_at: z.iso.datetime().nullable(),
  /** Why it was not ready when it was last looked at. */
  last_reason: z.string().nullable(),
  /** Set before it is asked to end: by whom, and when what is left of it is killed. */
  stop: z.object({ reason: serviceRecord.stop_reason.unwrap(), kill_at: z.number() }).nullable(),
  failure: z
    .object({ reason: serviceRecord.stop_reason.unwrap(), message: z.string(), log_tail: z.string() })
    .nullable(),
});

export type StoredService = Readonly<z.infer<typeof storedService>>;

export function newService(
  name: string,
  asked: Pick<StoredService, "probe" | "ready_timeout_ms" | "ready_interval_ms"> &
    Partial<Pick<StoredService, "publish">>,
): StoredService {
  return {
    schema_version: SCHEMA_VERSION,
    service_name: name,
    publish: [],
    published: [],
    ...asked,
    ready_at: null,
    last_reason: null,
    stop: null,
    failure: null,
  };
}

export function serviceDirectoryName(sequence: number, name: string): string {
  return `${String(sequence).padStart(DIGITS, "0")}-${name}`;
}

/** What a directory's name says; undefined for one that is no service's. */
export function readDirectoryName(directory: string): { sequence: number; name: string } | undefined {
  const [, digits, name = ""] = /^(\d{8,15})-(.*)$/s.exec(directory) ?? [];
  return digits !== undefined && SERVICE_NAME_PATTERN.test(name) ? { sequence: Number(digits), name } : undefined;
}

/** Not synced: a crash of the host ends what it tells of. */
export async function writeService(directory: string, record: StoredService): Promise<void> {
  await writeRecord(join(directory, NAME), record, { durable: false });
}

/** One that is not there, or cannot be used, comes as one that has failed and says why. */
export async function readService(directory: string, name: string): Promise<StoredService> {
  try {
    const value = await readRecord<unknown>(join(directory, NAME));
    if (value === undefined) return unusable(name, "its record is missing.");
    const { data } = storedService.safeParse(value);
    if (data?.service_name === name) return data;
    const newer = Number(Object(value).schema_version) > SCHEMA_VERSION;
    return unusable(name, newer ? "a newer version of pyro wrote its record." : "its record is damaged.");
  } catch (error) {
    const why = error instanceof SyntaxError ? "is damaged" : `cannot be read: ${(error as Error).message}`;
    return unusable(name, `its record ${why}.`);
  }
}

function unusable(name: string, message: string): StoredService {
  const record = newService(name, { probe: null, ready_timeout_ms: 1, ready_interval_ms: 1 });
  return { ...record, failure: { reason: "lost", message, log_tail: "" } };
}
