// Progress on stderr: one line that is rewritten on a terminal, plain lines elsewhere, nothing with --quiet.
import { printable } from "../text/printable.ts";
import type { Context } from "./context.ts";

export interface ProgressEvent {
  readonly message: string;
  readonly fraction: number | null;
  readonly bytes?: number;
  readonly total_bytes?: number;
}

/** How long something takes before a terminal says how long it has taken, ms. */
const PATIENCE_MS = 3000;
const TICK_MS = 1000;
const MIB = 1 << 20;

export class Progress {
  readonly #live: boolean;
  readonly #silent: boolean;
  #last = "";
  #began: number | undefined;
  #shown: ProgressEvent | undefined;
  #ticks: NodeJS.Timeout | undefined;

  constructor(context: Context) {
    this.#silent = context.quiet;
    this.#live = process.stderr.isTTY === true && process.env.TERM !== "dumb";
  }

  show({ message, ...rest }: ProgressEvent): void {
    if (this.#silent) return;
    // Names of a registry or of a host's files may stand in it.
    const event: ProgressEvent = { message: printable(message), ...rest };
    if (!this.#live) {
      // A line for each new message; percentages alone would fill a log.
      if (event.message !== this.#last) process.stderr.write(`${event.message}\n`);
      this.#last = event.message;
      return;
    }
    this.#began ??= Date.now();
    this.#shown = event;
    this.#draw();
    // What says nothing for a while is seen to go on.
    this.#ticks ??= setInterval(() => this.#draw(), TICK_MS).unref();
  }

  /** A line that stays. */
  note(text: string): void {
    if (this.#silent) return;
    this.clear();
    process.stderr.write(`${text}\n`);
  }

  /** Before anything else is written to the terminal. */
  clear(): void {
    clearInterval(this.#ticks);
    this.#ticks = undefined;
    if (this.#shown === undefined) return;
    process.stderr.write("\r\x1b[K");
    this.#shown = undefined;
  }

  #draw(): void {
    if (this.#shown === undefined) return;
    const room = Math.max(20, (process.stderr.columns ?? 80) - 1);
    process.stderr.write(`\r\x1b[K${progressLine(this.#shown, Date.now() - (this.#began ?? 0), room)}`);
  }
}

/** What happens, how far it is, and since when; where there is no room for all of it, what happens is cut. */
export function progressLine(
  { message, fraction, bytes, total_bytes }: ProgressEvent,
  ms: number,
  room: number,
): string {
  const percent = fraction === null ? "" : ` ${Math.round(fraction * 100)}%`;
  const known = bytes !== undefined && total_bytes !== undefined;
  const fetched = known ? ` ${(bytes / MIB).toFixed(1)} of ${(total_bytes / MIB).toFixed(1)} MiB` : "";
  const elapsed = ms < PATIENCE_MS ? "" : ` ${durationOf(ms)}`;
  const rest = `${percent}${fetched === "" ? "" : `,${fetched}`}${elapsed === "" ? "" : `,${elapsed}`}`;
  return `${message.slice(0, Math.max(0, room - rest.length))}${rest.slice(0, room)}`;
}

function durationOf(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${String(seconds % 60).padStart(2, "0")} s`;
}
