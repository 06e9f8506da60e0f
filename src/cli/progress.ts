// Progress on stderr: one line that is rewritten on a terminal, plain lines elsewhere, nothing with --quiet.
import type { Context } from "./context.ts";

export interface ProgressEvent {
  readonly message: string;
  readonly fraction: number | null;
}

export class Progress {
  readonly #live: boolean;
  readonly #silent: boolean;
  #last = "";
  #shown = false;

  constructor(context: Context) {
    this.#silent = context.quiet;
    this.#live = process.stderr.isTTY === true && process.env.TERM !== "dumb";
  }

  show({ message, fraction }: ProgressEvent): void {
    if (this.#silent) return;
    if (!this.#live) {
      // A line for each new message; percentages alone would fill a log.
      if (message !== this.#last) process.stderr.write(`${message}\n`);
      this.#last = message;
      return;
    }
    const percent = fraction === null ? "" : ` ${Math.round(fraction * 100)}%`;
    const room = Math.max(20, (process.stderr.columns ?? 80) - 1);
    process.stderr.write(`\r\x1b[K${`${message}${percent}`.slice(0, room)}`);
    this.#shown = true;
  }

  /** A line that stays. */
  note(text: string): void {
    if (this.#silent) return;
    this.clear();
    process.stderr.write(`${text}\n`);
  }

  /** Before anything else is written to the terminal. */
  clear(): void {
    if (!this.#shown) return;
    process.stderr.write("\r\x1b[K");
    this.#shown = false;
  }
}
