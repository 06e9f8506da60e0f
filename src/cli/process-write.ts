// `pyro workspace process write`: a text of the command line, or all that comes on stdin.
import { call } from "../client/call.ts";
import { PyroError } from "../errors/error.ts";
import type { InputOf, OutputOf } from "../operations/table.ts";
import type { Context } from "./context.ts";
import { interruptible } from "./interrupts.ts";
import { STDERR, writeAll, writeJson } from "./output.ts";
import { eachPieceOfStdin, withAcceptedBefore } from "./stdin-pieces.ts";
import { processWriteView } from "./views/process.ts";

type Input = InputOf<"process.write">;
type Output = OutputOf<"process.write">;

/** Most bytes of one call; base64 of it is below what a row takes. */
const PIECE_BYTES = 512 << 10;

/** The exit status. Errors: those of the row; accepted_bytes in their details counts all that was taken. */
export async function writeProcess(input: Input, context: Context): Promise<number> {
  if (input.input === undefined && input.eof !== true) {
    throw new PyroError("INVALID_INPUT", "There is nothing to write: --input or --eof says what.");
  }
  const output = await interruptible((signal) =>
    input.input === "-" ? writeStdin(input, context, signal) : call(context.where, "process.write", input, { signal }),
  );
  if (context.json) await writeJson(output);
  else if (!context.quiet) await writeAll(STDERR, `${processWriteView(output).note}\n`);
  return 0;
}

/** Piece after piece; one call at least, which says whether there is such a process, and --eof with an end of its own. */
async function writeStdin(input: Input, context: Context, signal: AbortSignal): Promise<Output> {
  let accepted = 0;
  const send = async (data: Buffer, eof: boolean): Promise<Output> => {
    const piece: Input = { ...input, input: data.toString("base64"), input_encoding: "base64", eof };
    try {
      const output = await call(context.where, "process.write", piece, { signal });
      // What follows must not be sent behind a hole.
      if (!output.closed && output.accepted_bytes < data.length) {
        const details = { accepted_bytes: output.accepted_bytes };
        throw new PyroError("PROCESS_NOT_READING", `${input.process_id} took only a part of it.`, { details });
      }
      accepted += output.accepted_bytes;
      return { ...output, accepted_bytes: accepted };
    } catch (thrown) {
      throw withAcceptedBefore(thrown, accepted);
    }
  };
  let last: Output | undefined;
  await eachPieceOfStdin(PIECE_BYTES, signal, async (piece) => {
    last = await send(piece, false);
    return !last.closed;
  });
  if (last?.closed) return last;
  signal.throwIfAborted();
  return last === undefined || input.eof === true ? send(Buffer.alloc(0), input.eof === true) : last;
}
