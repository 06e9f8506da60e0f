// What of a shell's output one answer holds: bytes as they are, the text that a person would have seen, or the screen; never
// more than was asked for, and with cursors that lose nothing.
import type { OutputOf, ParsedInputOf } from "../../operations/table.ts";
import { DEFAULT_RESULT_BYTES, encode, formatCursor, trimToCharacter } from "../result.ts";
import { partOf, type Spool } from "../spool.ts";
import { plainEnd } from "../terminal/sequences.ts";
import type { Terminals } from "../terminal/terminals.ts";
import { type Shown, sizeOf, type View } from "../terminal/view.ts";

type Read = OutputOf<"shell.read">;
/** The part of an answer that is about output. */
export type ShellOutput = Pick<
  Read,
  "cursor" | "next_cursor" | "output" | "output_encoding" | "truncated" | "dropped_bytes" | "screen" | "redacted"
>;
export type ReadRequest = Omit<ParsedInputOf<"shell.read">, "workspace_id" | "shell_id">;

/** Output takes more bytes than the text that a person saw of it: this many times as much is looked at, at most. */
const PLAIN_FACTOR = 8;
const MOST_PLAIN_BYTES = 256 << 10;

/** How the place of a secret looks on a screen. */
const MARK = /\[redacted:[A-Za-z_]/;

interface Piece {
  readonly data: Buffer;
  readonly redacted: boolean;
  /** Cursor behind so many bytes of the data. */
  readonly cursorAt: (bytes: number) => bigint;
  /** Of its first and behind its last byte. */
  readonly from: bigint;
  readonly next: bigint;
  readonly dropped: number;
}

/** Errors: SHELL_NOT_RENDERED, the signal's reason. */
export async function outputOf(
  shown: Shown,
  from: bigint,
  request: Pick<ReadRequest, "plain" | "screen" | "max_bytes">,
  tools: { readonly view: View; readonly terminals: Terminals; readonly signal: AbortSignal },
): Promise<ShellOutput> {
  const most = request.max_bytes ?? DEFAULT_RESULT_BYTES;
  if (request.screen) return await screenOf(shown, most, tools.view, tools.signal);
  if (request.plain) return await plainOf(shown, from, most, tools.terminals);
  const { spool } = shown;
  const piece = await pieceOf(spool, from, most);
  const parts = [piece.data];
  // One that runs may be in the middle of a character too.
  const open = piece.next < spool.end || !spool.finished;
  const cut = open ? trimToCharacter(parts) : 0;
  const { text, encoding } = encode(parts[0] ?? Buffer.alloc(0));
  return told(spool, { ...piece, next: piece.cursorAt(piece.data.length - cut) }, text, encoding);
}

async function plainOf(shown: Shown, from: bigint, most: number, terminals: Terminals): Promise<ShellOutput> {
  const { spool, sizes } = shown;
  let bytes = Math.min(PLAIN_FACTOR * most, MOST_PLAIN_BYTES);
  for (;;) {
    const piece = await pieceOf(spool, from, bytes);
    const open = piece.next < spool.end || !spool.finished;
    const whole = open ? plainEnd(piece.data) : piece.data.length;
    const next = piece.cursorAt(whole);
    const size = sizeOf(sizes, piece.from);
    const text = whole === 0 ? "" : await terminals.plain(piece.data.subarray(0, whole), size);
    // A few bytes can print a whole row: less of them is looked at until what they print fits.
    if (Buffer.byteLength(text) <= most || whole <= 1) {
      return told(spool, { ...piece, next }, text.slice(0, most), "utf-8");
    }
    bytes = whole >> 1;
  }
}

async function screenOf(shown: Shown, most: number, view: View, signal: AbortSignal): Promise<ShellOutput> {
  const { cursor, screen } = await view.screen(shown, signal);
  const { lines, row, column, alternate } = screen;
  const kept = [...lines];
  while (kept.length > 0 && Buffer.byteLength(kept.join("\n")) > most) kept.pop();
  return {
    cursor: formatCursor(cursor),
    next_cursor: formatCursor(cursor),
    output: kept.join("\n"),
    output_encoding: "utf-8",
    truncated: kept.length < lines.length,
    dropped_bytes: 0,
    screen: { cursor_row: row, cursor_column: column, alternate },
    // A mark may be cut by the end of a row.
    redacted: shown.spool.redacted && MARK.test(kept.join("")),
  };
}

function told(spool: Spool, piece: Piece, output: string, encoding: "utf-8" | "base64"): ShellOutput {
  return {
    cursor: formatCursor(piece.from),
    next_cursor: formatCursor(piece.next),
    output,
    output_encoding: encoding,
    truncated: piece.dropped > 0 || (piece.next < spool.end && piece.data.length > 0),
    dropped_bytes: piece.dropped,
    screen: null,
    redacted: piece.redacted,
  };
}

/** At most that many bytes from a cursor on, without a hole in them: one in front is passed over. */
async function pieceOf(spool: Spool, from: bigint, most: number): Promise<Piece> {
  const parts: { readonly at: number; readonly data: Buffer; readonly cursor: bigint; readonly redacted: boolean }[] =
    [];
  let bytes = 0;
  let begin = from;
  let next = from;
  for await (const chunk of spool.read(from, false)) {
    if (chunk.stream === "gap") {
      if (bytes > 0) break;
      begin = chunk.next;
      next = begin;
      continue;
    }
    const part = partOf(chunk, most - bytes, bytes === 0);
    parts.push({ at: bytes, data: part.data, cursor: chunk.cursor, redacted: chunk.redacted === true });
    bytes += part.data.length;
    next = part.next;
    if (bytes >= most || next < chunk.next) break;
  }
  const cursorAt = (count: number) => {
    const part = parts.findLast(({ at }) => at < count);
    if (part === undefined) return begin;
    const inside = count - part.at;
    // What stands for a secret is all there, or the next answer begins with it.
    if (part.redacted) return inside < part.data.length ? part.cursor : behind(parts.indexOf(part));
    return part.cursor + BigInt(inside);
  };
  const behind = (index: number) => parts[index + 1]?.cursor ?? next;
  const data = Buffer.concat(
    parts.map((part) => part.data),
    bytes,
  );
  const redacted = parts.some((part) => part.redacted);
  return { data, from: begin, next, dropped: Number(begin - from), redacted, cursorAt };
}
