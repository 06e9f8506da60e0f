// Signals by name and number, as callers say them. Linux's own numbers: they are the guest's, whatever the host is.
import { constants } from "node:os";
import { PyroError } from "../errors/error.ts";

export const SIGHUP = 1;
export const SIGKILL = 9;
const HIGHEST = 64;

const NUMBERS: Readonly<Record<string, number>> = constants.signals;

/** Of "SIGTERM", "TERM", "15" or 15. Errors: INVALID_INPUT for one there is not. */
export function signalNumber(signal: string | number): number {
  if (typeof signal === "number" || /^\d+$/.test(signal)) {
    const number = Number(signal);
    if (Number.isInteger(number) && number > 0 && number <= HIGHEST) return number;
  } else {
    const name = signal.startsWith("SIG") ? signal : `SIG${signal}`;
    const number = Object.hasOwn(NUMBERS, name) ? NUMBERS[name] : undefined;
    if (number !== undefined) return number;
  }
  throw new PyroError("INVALID_INPUT", `There is no signal ${signal}.`);
}

/** "SIGTERM" of 15; one without a name is "SIG" and its number. */
export function signalName(number: number): string {
  return Object.entries(NUMBERS).find(([, value]) => value === number)?.[0] ?? `SIG${number}`;
}
