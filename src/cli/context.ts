// What every command of the CLI is given, and the ways it ends that are no error to print.
import type { Where } from "../client/where.ts";

export interface Context {
  readonly where: Where;
  /** One JSON document on stdout instead of text. */
  readonly json: boolean;
  /** No progress and no notes. */
  readonly quiet: boolean;
  readonly verbose: boolean;
}

/** Ends the program with this status; nothing is printed except what --json owes, and the note if there is one. */
export class Ended extends Error {
  override readonly name = "Ended";
  readonly status: number;
  /** A line for a person, on stderr. */
  readonly note: string | undefined;

  constructor(status: number, message: string, note?: string) {
    super(message);
    this.status = status;
    this.note = note;
  }
}

/** 128 + SIGPIPE: whoever read our output has gone. */
export const STATUS_PIPE = 141;

/** A row that passes a command's status on keeps this one for pyro itself. */
export const STATUS_PYRO_FAILED = 125;
