// What is on disk of one command of a workspace: its record, in the directory that its output is in too.
import { stat } from "node:fs/promises";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { ErrorCode } from "../../errors/codes.ts";
import { PyroError } from "../../errors/error.ts";
import { readRecord, writeRecord } from "../../host/records.ts";
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import type { ProcessEnd } from "../process.ts";
import type { ProcessSpec } from "../process-spec.ts";

const SCHEMA_VERSION = 1;
const NAME = "command.json";
/** Between tries to write a record that the host had no room for, ms. */
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 30_000;

/**
 * `ready`: everything is known, and it may have been started in that microVM. `ended`: how is known. `lost`: why that will
 * never be known. Without a record, or before, nothing was started.
 */
type Stage = "ready" | "ended" | "lost";

export interface CommandRecord {
  readonly schema_version: number;
  readonly sequence: number;
  /** The caller's name for the call that began it. */
  readonly request_id: string | null;
  /** The microVM it runs in: see Entered. */
  readonly machine_id: string;
  readonly stage: Stage;
  readonly process: ProcessSpec;
  readonly begun_at: string;
  /** Null while it runs: the guest knows it. */
  readonly started_at: string | null;
  /** Bytes of stdin that came from others than the client that began it. */
  readonly written_bytes: number;
  readonly end: ProcessEnd | null;
  readonly lost: { readonly code: ErrorCode; readonly message: string; readonly at: string } | null;
  /** Cursor behind its output, once that is whole. */
  readonly output_end: string | null;
}

/** What a process of a workspace is used as: its id begins with that, and each kind is numbered on its own. */
export type ProcessKind = "proc" | "sh" | "svc";

export function processIdOf(kind: ProcessKind, sequence: number): string {
  return `${kind}_${sequence}`;
}

/** Undefined for what is no process of that kind. */
export function sequenceOf(kind: ProcessKind, processId: string): number | undefined {
  const [, found, digits] = /^([a-z]+)_([1-9]\d{0,14})$/.exec(processId) ?? [];
  return found === kind ? Number(digits) : undefined;
}

export function newRecord(sequence: number, requestId: string | undefined, process: ProcessSpec): CommandRecord {
  return {
    schema_version: SCHEMA_VERSION,
    sequence,
    request_id: requestId ?? null,
    machine_id: "",
    stage: "ready",
    process,
    begun_at: new Date().toISOString(),
    started_at: null,
    written_bytes: 0,
    end: null,
    lost: null,
    output_end: null,
  };
}

/** Not synced: what the host's own end takes of it is made good when it is read. */
export async function writeCommand(directory: string, record: CommandRecord): Promise<void> {
  await writeRecord(join(directory, NAME), record, { durable: false });
}

/** Writes again and again while the host has no room for it. False when the signal aborted before it was written. */
export async function untilWritten(write: () => Promise<void>, signal: AbortSignal): Promise<boolean> {
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    try {
      await write();
      return true;
    } catch (error) {
      // Somebody removed its directory: there is nothing to be told of it any more.
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return true;
      await sleep(pause, undefined, { signal, ref: false }).catch(() => {});
      if (signal.aborted) return false;
    }
  }
}

/**
 * Undefined when there is none. One that cannot be read, or that a newer version wrote, comes as one that is lost and says
 * why; it is not to be written.
 */
export async function readCommand(
  kind: ProcessKind,
  directory: string,
  sequence: number,
): Promise<CommandRecord | undefined> {
  const path = join(directory, NAME);
  try {
    const record = await readRecord<CommandRecord>(path);
    if (record === undefined) return undefined;
    const newer = record?.schema_version > SCHEMA_VERSION;
    if (newer) return await unreadable(kind, directory, sequence, "A newer version of pyro wrote its record.");
    if (isRecordOf(kind, sequence, record)) return record;
    return await unreadable(kind, directory, sequence, "Its record is damaged.");
  } catch (error) {
    const why = error instanceof SyntaxError ? "is damaged" : `cannot be read: ${(error as Error).message}`;
    return await unreadable(kind, directory, sequence, `Its record ${why}.`);
  }
}

/** What there is of a command whose record does not help. */
export async function unreadable(
  kind: ProcessKind,
  directory: string,
  sequence: number,
  message: string,
): Promise<CommandRecord> {
  const found = await stat(directory).catch(() => undefined);
  const at = (found?.mtime ?? new Date(0)).toISOString();
  const lost = { code: "HOST_IO_FAILED", message: `${message} (${basename(directory)}/${NAME})`, at } as const;
  return { ...unknownRecord(kind, sequence), stage: "lost", begun_at: at, lost };
}

/** How a command that is over has ended. Errors: why that is not known. */
export function knownEnd({ end, lost }: CommandRecord): ProcessEnd {
  if (end !== null) return end;
  throw new PyroError(lost?.code ?? "INTERNAL", lost?.message ?? "A command that is over has no end.");
}

/** Of a command of which only the number is known. */
export function unknownRecord(kind: ProcessKind, sequence: number): CommandRecord {
  return newRecord(sequence, undefined, {
    processId: processIdOf(kind, sequence),
    argv: [],
    env: {},
    cwd: WORKSPACE_PATH,
    user: "",
    terminal: undefined,
    noStdin: true,
    timeoutMs: 0,
  });
}

/** With all that showing it and taking it up need: files may hold anything. */
function isRecordOf(kind: ProcessKind, sequence: number, record: CommandRecord): boolean {
  const { process, end, lost } = record;
  return (
    record.schema_version === SCHEMA_VERSION &&
    record.sequence === sequence &&
    (record.request_id === null || typeof record.request_id === "string") &&
    typeof record.machine_id === "string" &&
    isDate(record.begun_at) &&
    (record.started_at === null || isDate(record.started_at)) &&
    Number.isSafeInteger(record.written_bytes) &&
    (record.output_end === null || /^\d{1,16}$/.test(record.output_end)) &&
    isSpecOf(kind, sequence, process) &&
    (record.stage === "ready" ||
      (record.stage === "ended" && Number.isInteger(end?.exitCode) && isDate(end?.endedAt)) ||
      (record.stage === "lost" && typeof lost?.message === "string" && isDate(lost.at)))
  );
}

function isSpecOf(kind: ProcessKind, sequence: number, spec: ProcessSpec | undefined): boolean {
  return (
    spec?.processId === processIdOf(kind, sequence) &&
    Array.isArray(spec.argv) &&
    spec.argv.every((text) => typeof text === "string") &&
    typeof spec.env === "object" &&
    spec.env !== null &&
    Object.values(spec.env).every((text) => typeof text === "string") &&
    (spec.secretEnv === undefined ||
      (spec.secretEnv !== null && Object.values(spec.secretEnv).every((name) => typeof name === "string"))) &&
    typeof spec.cwd === "string" &&
    typeof spec.user === "string" &&
    typeof spec.timeoutMs === "number"
  );
}

function isDate(text: unknown): boolean {
  return typeof text === "string" && !Number.isNaN(Date.parse(text));
}
