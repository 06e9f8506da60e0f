// What comes on stdin, sent on piece by piece, and how much of it was taken when one of them fails.
import { PyroError } from "../errors/error.ts";

/**
 * Gives `take` the bytes of stdin, at most `size` at a time and in turn, until there are no more or it says false. stdin
 * is of no use afterwards. Errors: those of `take`; the signal's reason when it is what ended it.
 */
export async function eachPieceOfStdin(
  size: number,
  signal: AbortSignal,
  take: (piece: Buffer) => Promise<boolean>,
): Promise<void> {
  const stop = () => process.stdin.destroy();
  signal.addEventListener("abort", stop, { once: true });
  try {
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
      for (let at = 0; at < chunk.length; at += size) {
        if (!(await take(chunk.subarray(at, at + size)))) return;
      }
    }
  } catch (thrown) {
    signal.throwIfAborted();
    throw thrown;
  } finally {
    signal.removeEventListener("abort", stop);
    process.stdin.destroy();
  }
}

/** An error of one piece as that of all of them: what was accepted before counts too. */
export function withAcceptedBefore(thrown: unknown, before: number): unknown {
  if (!(thrown instanceof PyroError) || typeof thrown.details.accepted_bytes !== "number") return thrown;
  const details = { ...thrown.details, accepted_bytes: before + thrown.details.accepted_bytes };
  return new PyroError(thrown.code, thrown.message, { hint: thrown.hint, details, cause: thrown });
}
