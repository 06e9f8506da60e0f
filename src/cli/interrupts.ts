// Ctrl-C and its kin while a command runs: the first goes to the command, the second ends it.
import { Ended } from "./context.ts";

const SIGINT = 2;

export interface Interrupts {
  /** From now on there is a command that the first Ctrl-C can go to. */
  started(): void;
  dispose(): void;
}

/**
 * `send` passes a signal on to the command; `cancel` ends everything, with the reason. A Ctrl-C before the command
 * has started cancels at once, one after a cancel ends this process where it stands. `leave` is what a lost terminal
 * means to a command that does not end with its caller; without it that cancels too.
 */
export function watchInterrupts(
  send: (signal: number) => void,
  cancel: (reason: Ended) => void,
  leave?: (reason: Ended) => void,
): Interrupts {
  let running = false;
  let passed = false;
  let cancelled = false;
  const end = (status: number, name: NodeJS.Signals) => {
    if (cancelled) dieOf(status - 128);
    cancelled = true;
    cancel(new Ended(status, `cancelled by ${name}`));
  };
  const onInt = () => {
    if (!running || passed) return end(130, "SIGINT");
    passed = true;
    send(SIGINT);
  };
  const onTerm = () => end(143, "SIGTERM");
  const onHup = () => {
    if (!running || !leave || cancelled) return end(129, "SIGHUP");
    cancelled = true;
    leave(new Ended(129, "left by SIGHUP"));
  };
  process.on("SIGINT", onInt);
  process.on("SIGTERM", onTerm);
  process.on("SIGHUP", onHup);
  return {
    started: () => {
      running = true;
    },
    dispose: () => {
      process.removeListener("SIGINT", onInt);
      process.removeListener("SIGTERM", onTerm);
      process.removeListener("SIGHUP", onHup);
    },
  };
}

/** Work that any of these signals ends: it then rejects with Ended. */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const abort = new AbortController();
  const interrupts = watchInterrupts(
    () => {},
    (reason) => abort.abort(reason),
  );
  try {
    return await work(abort.signal);
  } finally {
    interrupts.dispose();
  }
}

/** What has to be put right before this process dies of a signal: the terminal. */
export const lastThings = new Set<() => void>();

/** Ends this process by a signal, whatever it still waits for. */
export function dieOf(signal: number): void {
  for (const last of lastThings) last();
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"]) process.removeAllListeners(name);
  process.kill(process.pid, signal);
}
