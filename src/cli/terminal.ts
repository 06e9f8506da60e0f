// The caller's terminal: its size, raw mode while a command owns it, and its restoration on every way out.
import { lastThings } from "./interrupts.ts";

export interface Size {
  readonly columns: number;
  readonly rows: number;
}

/** Size of the terminal on stdout, stderr or stdin's side, whichever there is. */
export function terminalSize(): Size | undefined {
  for (const stream of [process.stdout, process.stderr]) {
    if (stream.isTTY && stream.columns > 0 && stream.rows > 0) return { columns: stream.columns, rows: stream.rows };
  }
  return undefined;
}

/** Takes the terminal over for a command. The returned function gives it back and may be called more than once. */
export function takeTerminal(onResize: (size: Size) => void): () => void {
  const raw = process.stdin.isTTY === true;
  const restore = () => {
    if (raw) process.stdin.setRawMode(false);
  };
  const resized = () => {
    // The streams learn their new size in the same turn, after this handler.
    setImmediate(() => {
      const size = terminalSize();
      if (size) onResize(size);
    });
  };
  if (raw) process.stdin.setRawMode(true);
  process.on("exit", restore);
  lastThings.add(restore);
  process.on("SIGWINCH", resized);
  return () => {
    restore();
    process.removeListener("exit", restore);
    lastThings.delete(restore);
    process.removeListener("SIGWINCH", resized);
  };
}
