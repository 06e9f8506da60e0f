// Having a guest end and forget commands that are over for the host, however long it takes the guest to answer.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Code, ConnectError } from "@connectrpc/connect";
import { orAborted } from "../../abort/or-aborted.ts";
import { PyroError } from "../../errors/error.ts";
import type { GuestCallOptions, GuestClient } from "../../guest/client.ts";
import { SIGKILL } from "../../operations/signals.ts";
import type { CommandHost } from "./command-host.ts";
import { type ProcessKind, sequenceOf } from "./command-record.ts";

const CALL_MS = 30_000;
/** How long a guest may take to say what it has, ms. */
const LIST_MS = 60_000;
/** Between tries to have a guest end a process, ms. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 5000;

/**
 * Has the guest end a process and all it started, if it runs, and forget it: that frees what its output takes there.
 * Tried for as long as it takes a guest that does not answer, or that stands still, to do so again. Rejects when the
 * microVM is gone, and with the signal's reason.
 */
export async function endInGuest(
  guest: GuestClient,
  processId: string,
  signal: AbortSignal,
  options: { readonly remove: boolean } = { remove: true },
): Promise<void> {
  const call = { timeoutMs: CALL_MS, signal };
  for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
    try {
      await guest.untilMoving(signal);
      if (options.remove && (await isForgotten(guest, processId, call))) return;
      const kill = { processId, signal: SIGKILL, wholeTree: true, requestId: randomUUID() };
      await guest.call((calls, how) => calls.signalProcess(kill, how), call);
      if (!options.remove) return;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ConnectError && error.code === Code.NotFound) return;
      const { code } = PyroError.from(error);
      if (code === "MICROVM_LOST" || code === "CANCELLED") throw error;
    }
    await sleep(pause, undefined, { signal, ref: false });
  }
}

/** False when it still runs. Errors: those of the guest client. */
async function isForgotten(guest: GuestClient, processId: string, call: GuestCallOptions): Promise<boolean> {
  try {
    await guest.call((calls, how) => calls.removeProcess({ processId }, how), call);
    return true;
  } catch (error) {
    if (error instanceof ConnectError && error.code === Code.FailedPrecondition) return false;
    throw error;
  }
}

/** The same, waited for no longer than this, ms; it is done in any case. Never rejects. */
export async function endWithin(ms: number, guest: GuestClient, processId: string, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return;
  const ended = endInGuest(guest, processId, signal);
  await orAborted(ended, AbortSignal.any([signal, AbortSignal.timeout(ms)])).catch(() => {});
}

/** Ends and forgets the processes of a kind that a guest still has and nobody here knows. Rejects as endInGuest does. */
export async function sweep(
  kind: ProcessKind,
  guest: GuestClient,
  isOver: (sequence: number) => boolean,
  signal: AbortSignal,
): Promise<void> {
  await guest.untilMoving(signal);
  const options = { timeoutMs: LIST_MS, signal };
  const { processes } = await guest.call((calls, call) => calls.listProcesses({}, call), options);
  for (const { processId } of processes) {
    const sequence = sequenceOf(kind, processId);
    if (sequence !== undefined && isOver(sequence)) await endInGuest(guest, processId, signal);
  }
}

/** What whoever waits for a command is told when the daemon stops: that it goes on, unless it was never started. */
export function stopping(host: CommandHost, processId: string | undefined): PyroError {
  const { workspaceId, processKind } = host;
  const [what, noun] = processKind === "sh" ? ["shell", "shell"] : ["command", "process"];
  if (processId === undefined) {
    return new PyroError("CANCELLED", `The daemon is stopping; the ${what} was not started.`);
  }
  const message = `The daemon is stopping; the ${what} goes on in ${workspaceId} as ${processId}.`;
  const hint = `\`pyro workspace ${noun} read ${workspaceId} ${processId}\` shows what it prints.`;
  return new PyroError("CANCELLED", message, { hint, details: { workspace_id: workspaceId, process_id: processId } });
}

/** Why nobody can say more of a command that its microVM did not outlive. */
export function gone(): PyroError {
  return new PyroError("MICROVM_LOST", "The microVM ended while no daemon was there.");
}
