// An error as a person reads it on a terminal.
import type { PyroError } from "../errors/error.ts";
import { printable, printableLines } from "../text/printable.ts";

/** One line of what happened, one of what to do, and the end of a log where there is one; ends with a newline. */
export function errorText(error: PyroError): string {
  const tail = typeof error.details.log_tail === "string" ? error.details.log_tail.trimEnd() : "";
  const log = tail === "" ? "" : `${printableLines(tail).replace(/^/gm, "    | ")}\n`;
  return `pyro: ${printable(error.message)}\n      ${printable(error.hint)}\n${log}`;
}
