// From a process and its spool to the result that callers get: bounded text, encodings, cursors.

import { PyroError } from "../errors/error.ts";
import type { OutputOf } from "../operations/table.ts";
import type { ProcessEnd } from "./process.ts";
import { partOf, type Spool } from "./spool.ts";

/** Most output in one result when nothing else is asked for, bytes. */
export const DEFAULT_RESULT_BYTES = 65_536;

export interface ProcessFacts {
  readonly processId: string;
  /** Number of the command in its microVM or workspace, from 1. */
  readonly sequence: number;
  readonly command: readonly string[];
  readonly cwd: string;
  readonly startedAt: string;
  readonly end: ProcessEnd | undefined;
  /** Why its end will never be known, and when that was found out. */
  readonly lost: { readonly message: string; readonly at: string } | undefined;
}

type Result = Omit<OutputOf<"run">, "vm_id">;

/** The part of a result that says what became of a process, without its output. */
export function withoutOutput(facts: ProcessFacts, cursor: bigint): Result {
  const { end, lost } = facts;
  const over = end?.endedAt ?? lost?.at;
  const until = over === undefined ? Date.now() : Date.parse(over);
  return {
    process_id: facts.processId,
    sequence: facts.sequence,
    command: [...facts.command],
    cwd: facts.cwd,
    state: over === undefined ? "running" : "exited",
    exit_code: end?.exitCode ?? null,
    signal: end?.signal ?? null,
    timed_out: end?.timedOut ?? false,
    out_of_memory: end?.outOfMemory ?? false,
    lost_reason: lost?.message ?? null,
    stdout: "",
    stdout_encoding: "utf-8",
    stdout_truncated: false,
    stderr: "",
    stderr_encoding: "utf-8",
    stderr_truncated: false,
    omitted_bytes: 0,
    next_cursor: formatCursor(cursor),
    started_at: facts.startedAt,
    duration_ms: Math.max(0, until - Date.parse(facts.startedAt)),
    redacted: false,
  };
}

/** What is known of a process alone. */
export function factsOf(facts: ProcessFacts): OutputOf<"process.list">["processes"][number] {
  const known = withoutOutput(facts, 0n);
  const { process_id, sequence, command, cwd, state, exit_code, signal } = known;
  const { timed_out, out_of_memory, lost_reason, started_at, duration_ms } = known;
  const end = { state, exit_code, signal, timed_out, out_of_memory, lost_reason };
  return { process_id, sequence, command, cwd, ...end, started_at, duration_ms };
}

/** The same with at most `maxBytes` of output from `from` on; what comes later is behind next_cursor. */
export async function withOutput(facts: ProcessFacts, spool: Spool, from: bigint, maxBytes: number): Promise<Result> {
  const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] };
  let cursor = from;
  let left = maxBytes;
  let omitted = 0;
  let more = false;
  let redacted = false;
  let cut: "stdout" | "stderr" | undefined;
  let last: "stdout" | "stderr" | undefined;
  for await (const chunk of spool.read(from, false)) {
    if (chunk.stream === "gap") {
      omitted += Number(chunk.next - chunk.cursor);
      cursor = chunk.next;
      continue;
    }
    const { data, next } = partOf(chunk, left, left === maxBytes);
    parts[chunk.stream].push(data);
    last = chunk.stream;
    left -= data.length;
    cursor = next;
    redacted ||= chunk.redacted === true;
    if (next < chunk.next) cut = chunk.stream;
    if (left === 0 || next < chunk.next) {
      more = cursor < spool.end;
      break;
    }
  }
  // A process that runs may be in the middle of a character too.
  const open = cut ?? (facts.end === undefined && facts.lost === undefined ? last : undefined);
  if (open !== undefined) cursor -= BigInt(trimToCharacter(parts[open]));
  const stdout = encode(Buffer.concat(parts.stdout));
  const stderr = encode(Buffer.concat(parts.stderr));
  return {
    ...withoutOutput(facts, cursor),
    stdout: stdout.text,
    stdout_encoding: stdout.encoding,
    stdout_truncated: omitted > 0 || (more && last === "stdout"),
    stderr: stderr.text,
    stderr_encoding: stderr.encoding,
    stderr_truncated: omitted > 0 || (more && last === "stderr"),
    omitted_bytes: omitted,
    redacted,
  };
}

export function formatCursor(cursor: bigint): string {
  return `c${cursor}`;
}

/** Errors: CURSOR_INVALID. */
export function parseCursor(text: string): bigint {
  if (!/^c\d{1,19}$/.test(text)) throw new PyroError("CURSOR_INVALID", `${text} is not a cursor.`);
  return BigInt(text.slice(1));
}

/** Takes the start of a character that the cut went through off the last part; gives how many bytes that were. */
export function trimToCharacter(parts: Buffer[]): number {
  const last = parts.at(-1);
  if (last === undefined) return 0;
  for (let back = 1; back <= Math.min(3, last.length); back++) {
    const byte = last[last.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const wants = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    // Never all of it: a reader that gets nothing would ask for the same again.
    if (wants <= back || back >= last.length) return 0;
    parts[parts.length - 1] = last.subarray(0, last.length - back);
    return back;
  }
  return 0;
}

/** As text where it is text. */
export function encode(bytes: Buffer): { text: string; encoding: "utf-8" | "base64" } {
  try {
    return { text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes), encoding: "utf-8" };
  } catch {
    return { text: bytes.toString("base64"), encoding: "base64" };
  }
}
