// `pyro workspace shell write`: a text or keys of the command line, or all that comes on stdin.
import { call } from "../client/call.ts";
import type { InputOf, OutputOf } from "../operations/table.ts";
import type { Context } from "./context.ts";
import { interruptible } from "./interrupts.ts";
import { STDERR, writeAll, writeJson } from "./output.ts";
import { eachPieceOfStdin, withAcceptedBefore } from "./stdin-pieces.ts";
import { shellWriteView } from "./views/shell.ts";

type Input = InputOf<"shell.write">;
type Output = OutputOf<"shell.write">;

/** Most bytes of one call; base64 of it is below what a row takes. */
const PIECE_BYTES = 256 << 10;
const ENTER = 0x0d;
const NEWLINE = 0x0a;

/** The exit status. Errors: those of the row; accepted_bytes in their details counts all that was taken. */
export async function writeShell(input: Input, context: Context): Promise<number> {
  const output = await interruptible((signal) =>
    input.input === "-" && input.keys === undefined
      ? writeStdin(input, context, signal)
      : call(context.where, "shell.write", input, { signal }),
  );
  if (context.json) await writeJson(output);
  else if (!context.quiet) await writeAll(STDERR, `${shellWriteView(output).note}\n`);
  return 0;
}

/** Piece after piece, lines ended as Enter ends them; one call at least, which says whether there is such a shell. */
async function writeStdin(input: Input, context: Context, signal: AbortSignal): Promise<Output> {
  const first: { cursor?: string } = {};
  let accepted = 0;
  let last: number | undefined;
  const send = async (data: Buffer): Promise<Output> => {
    const piece: Input = { ...input, input: data.toString("base64"), input_encoding: "base64", no_newline: true };
    try {
      const output = await call(context.where, "shell.write", piece, { signal });
      accepted += output.accepted_bytes;
      first.cursor ??= output.cursor;
      return { ...output, cursor: first.cursor, accepted_bytes: accepted };
    } catch (thrown) {
      throw withAcceptedBefore(thrown, accepted);
    }
  };
  let output: Output | undefined;
  await eachPieceOfStdin(PIECE_BYTES, signal, async (piece) => {
    const typed = asTyped(piece, last);
    last = piece.at(-1);
    output = await send(typed);
    return true;
  });
  signal.throwIfAborted();
  const ended = last === NEWLINE || last === ENTER;
  if (output !== undefined && (ended || input.no_newline === true)) return output;
  return await send(Buffer.from(input.no_newline === true ? "" : "\r"));
}

/** A newline is Enter, once where a carriage return stands before it. */
function asTyped(data: Buffer, before: number | undefined): Buffer {
  const typed = Buffer.allocUnsafe(data.length);
  let length = 0;
  let previous = before;
  for (const byte of data) {
    if (byte !== NEWLINE || previous !== ENTER) typed[length++] = byte === NEWLINE ? ENTER : byte;
    previous = byte;
  }
  return typed.subarray(0, length);
}
