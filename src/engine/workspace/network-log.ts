// The decisions of a workspace's network, as the launcher writes them (go/internal/vmm/netlog.go): lines in files whose
// names say where in the whole they begin. What is in a line comes from netd, which a guest may have taken over.
import { open, readdir } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { PyroError } from "../../errors/error.ts";
import type { OutputOf } from "../../operations/table.ts";

export type NetworkEntry = OutputOf<"network.log">["entries"][number];

const PIECE = /^(\d{16})\.log$/;
/** Longer than the longest line. */
const READ_BYTES = 64 << 10;
const POLL_MS = 250;

const line = z.object({
  time: z.string().max(64),
  protocol: z.string().max(32),
  name: z.string().max(1024).optional(),
  address: z.string().max(64).optional(),
  port: z.int().min(0).max(65_535).optional(),
  verdict: z.enum(["allowed", "denied"]),
  reason: z.string().max(1024),
  count: z.int().min(1).optional(),
  code: z.string().max(64).optional(),
  secret: z.string().max(64).optional(),
});

/** At most `limit` entries from a cursor on; the cursor behind the last one, null when there are no more now. */
export async function networkEntries(
  directory: string,
  options: { limit: number; cursor: string | undefined },
): Promise<{ entries: NetworkEntry[]; next_cursor: string | null }> {
  let at = options.cursor === undefined ? 0 : parseCursor(options.cursor);
  const entries: NetworkEntry[] = [];
  for (;;) {
    const read = await readFrom(directory, at);
    if (read === undefined) return { entries, next_cursor: null };
    for (const { entry, end } of read.lines) {
      if (entries.length === options.limit) return { entries, next_cursor: `n${at}` };
      at = end;
      if (entry !== undefined) entries.push(entry);
    }
    at = read.end;
  }
}

/** Entries from a cursor on, and what comes later, until the signal aborts. */
export async function* followNetwork(
  directory: string,
  cursor: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<NetworkEntry, void, undefined> {
  let at = cursor === undefined ? 0 : parseCursor(cursor);
  for (;;) {
    signal.throwIfAborted();
    const read = await readFrom(directory, at);
    if (read === undefined) {
      await sleep(POLL_MS, undefined, { signal });
      continue;
    }
    for (const { entry } of read.lines) if (entry !== undefined) yield entry;
    at = read.end;
  }
}

interface Part {
  readonly lines: readonly { readonly entry: NetworkEntry | undefined; readonly end: number }[];
  readonly end: number;
}

/** The next whole lines at or behind a place; undefined when there are none yet. */
async function readFrom(directory: string, at: number): Promise<Part | undefined> {
  const names = await readdir(directory).catch(() => []);
  const starts = names
    .flatMap((name) => (PIECE.test(name) ? [Number(PIECE.exec(name)?.[1])] : []))
    .sort((a, b) => a - b);
  // The piece that it is in, else the next: what lies before the first was dropped.
  const within = starts.filter((start) => start <= at).at(-1);
  for (const start of within === undefined ? starts : starts.filter((one) => one >= within)) {
    const from = Math.max(at, start);
    const data = await readPiece(directory, start, from - start);
    const last = data.lastIndexOf(0x0a);
    if (last >= 0) return parse(data.subarray(0, last + 1), from);
    // A line without an end, longer than any that is written whole.
    if (data.length === READ_BYTES) return { lines: [], end: from + data.length };
  }
  return undefined;
}

async function readPiece(directory: string, start: number, offset: number): Promise<Buffer> {
  const file = await open(join(directory, `${String(start).padStart(16, "0")}.log`)).catch(() => undefined);
  if (file === undefined) return Buffer.alloc(0);
  try {
    const { bytesRead, buffer } = await file.read(Buffer.alloc(READ_BYTES), 0, READ_BYTES, offset);
    return buffer.subarray(0, bytesRead);
  } finally {
    await file.close();
  }
}

function parse(data: Buffer, from: number): Part {
  const lines: { entry: NetworkEntry | undefined; end: number }[] = [];
  for (let start = 0, end = data.indexOf(0x0a); end >= 0; start = end + 1, end = data.indexOf(0x0a, start)) {
    lines.push({ entry: entryOf(data.toString("utf8", start, end)), end: from + end + 1 });
  }
  return { lines, end: from + data.length };
}

function entryOf(text: string): NetworkEntry | undefined {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return undefined;
  }
  const { data } = line.safeParse(value);
  if (data === undefined) return undefined;
  const { time, protocol, name = null, address = null, port = null, verdict, reason, count = 1 } = data;
  const { code = null, secret: secret_name = null } = data;
  return { time, protocol, name, address, port, verdict, reason, count, code, secret_name };
}

function parseCursor(text: string): number {
  const at = Number(/^n(\d{1,15})$/.exec(text)?.[1] ?? Number.NaN);
  if (Number.isNaN(at)) throw new PyroError("CURSOR_INVALID", `${text} is not a cursor.`);
  return at;
}
