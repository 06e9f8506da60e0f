// The log of a service: where its last lines begin, a bounded part of it, and all of it as it comes. Whoever reads a log
// never holds the service back: one that falls too far behind is told what it has missed.
import type { OutputOf } from "../../operations/table.ts";
import { formatCursor } from "../result.ts";
import { partOf, type Spool, type SpoolChunk } from "../spool.ts";

const NEWLINE = 0x0a;
/** Most of a log's end that an error or a record holds, bytes. */
const TAIL_BYTES = 2000;

export type LogPart = Pick<
  OutputOf<"service.logs">,
  "output" | "output_encoding" | "omitted_bytes" | "next_cursor" | "redacted"
>;

/**
 * Cursor from which on there are that many lines, the last of which may have no end yet. What lies before `least` is left
 * out, from the beginning of a line on where there is one.
 */
export async function tailStart(spool: Spool, tail: "all" | number, least: bigint): Promise<bigint> {
  const clipped = least > spool.start;
  const from = Number(clipped ? least : spool.start);
  if (tail === 0) return spool.end;
  if (tail === "all" && !clipped) return spool.start;
  const most = tail === "all" ? Number.POSITIVE_INFINITY : tail;
  // Where the last lines begin, in a ring: as many as may turn out to be the last.
  const starts: number[] = clipped ? [] : [from];
  let oldest = 0;
  let open = false;
  for await (const { stream, cursor, data } of spool.read(BigInt(from), false)) {
    if (stream === "gap") continue;
    for (let at = data.indexOf(NEWLINE); at >= 0; at = data.indexOf(NEWLINE, at + 1)) {
      const start = Number(cursor) + at + 1;
      if (starts.length <= most) starts.push(start);
      else {
        starts[oldest] = start;
        oldest = (oldest + 1) % starts.length;
      }
    }
    open = data.at(-1) !== NEWLINE;
  }
  // One start lies behind the last line when that has an end.
  const skip = starts.length > most && open ? 1 : 0;
  const start = starts[(oldest + skip) % starts.length] ?? from;
  // All of it is one line that is longer than there is room for.
  return BigInt(BigInt(start) === spool.end && clipped ? from : start);
}

/** At most `maxBytes` from a cursor on, both streams as they came. */
export async function logPart(spool: Spool, from: bigint, maxBytes: number): Promise<LogPart> {
  const parts: Buffer[] = [];
  let cursor = from;
  let left = maxBytes;
  let omitted = 0;
  let redacted = false;
  for await (const chunk of spool.read(from, false)) {
    omitted += Number(chunk.cursor - cursor);
    cursor = chunk.cursor;
    if (chunk.stream === "gap") {
      omitted += Number(chunk.next - chunk.cursor);
      cursor = chunk.next;
      continue;
    }
    const { data, next } = partOf(chunk, left, left === maxBytes);
    parts.push(data);
    left -= data.length;
    cursor = next;
    redacted ||= chunk.redacted === true;
    if (left === 0 || next < chunk.next) break;
  }
  const whole = Buffer.concat(parts);
  // What is cut, or still being printed, may end inside a character.
  const cut = cursor < spool.end || !spool.finished ? openCharacter(whole) : 0;
  const data = whole.subarray(0, whole.length - cut);
  // A cursor may stand inside a character, where only the end of a log was asked for.
  const inside = continuations(data);
  const text = decoded(data.subarray(inside));
  return {
    output: text ?? data.toString("base64"),
    output_encoding: text === undefined ? "base64" : "utf-8",
    omitted_bytes: omitted + (text === undefined ? 0 : inside),
    next_cursor: formatCursor(cursor - BigInt(cut)),
    redacted,
  };
}

/** The end of a log as text, from the beginning of a line where there is one. */
export async function logTail(spool: Spool): Promise<string> {
  const parts: Buffer[] = [];
  const from = spool.end - BigInt(TAIL_BYTES);
  for await (const { data } of spool.read(from > spool.start ? from : spool.start, false)) parts.push(data);
  const whole = Buffer.concat(parts);
  const line = whole.indexOf(NEWLINE) + 1;
  const cut = from > spool.start && line < whole.length ? line : 0;
  return whole.subarray(cut).toString("utf8");
}

/**
 * Chunks from a cursor on; with `follow`, what comes later too, until the service has ended. Errors: the signal's reason.
 */
export async function* logChunks(
  spool: Spool,
  from: bigint,
  follow: boolean,
  signal: AbortSignal,
): AsyncGenerator<SpoolChunk> {
  let cursor = from;
  for await (const chunk of spool.read(from, follow, signal, { holds: false })) {
    // What was dropped while it was being read.
    if (chunk.cursor > cursor) yield { stream: "gap", cursor, next: chunk.cursor, data: Buffer.alloc(0) };
    yield chunk;
    cursor = chunk.next;
  }
}

/** How many bytes at the end are the beginning of a character; never all of it. */
function openCharacter(data: Buffer): number {
  for (let back = 1; back <= Math.min(3, data.length - 1); back++) {
    const byte = data[data.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const wants = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return wants > back ? back : 0;
  }
  return 0;
}

/** How many bytes at the beginning are the rest of a character. */
function continuations(data: Buffer): number {
  let count = 0;
  while (count < Math.min(3, data.length) && ((data[count] ?? 0) & 0xc0) === 0x80) count++;
  return count;
}

function decoded(data: Buffer): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(data);
  } catch {
    return undefined;
  }
}
