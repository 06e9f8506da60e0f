// How what leaves a workspace comes: the guest makes it and hands it over piece by piece, each asked for by its number. A guest
// that is silent is not waited for.
import { randomBytes } from "node:crypto";
import { PyroError } from "../../errors/error.ts";
import type { GuestCalls, GuestClient } from "../../guest/client.ts";
import { fileRefusal } from "./file-refusal.ts";
import { whileAlive } from "./while-alive.ts";

/** What leaving needs of the guest. */
export type OutgoingGuest = Pick<GuestClient, "call">;

const BEGIN_MS = 60_000;
/** The first piece may come after a million files were looked at, on a loaded host, under emulation; another soon, ms. */
const FIRST_PIECE_MS = 900_000;
const PIECE_MS = 300_000;
const DROP_MS = 5_000;

/** A piece as the guest gives it. */
interface Piece {
  readonly end: boolean;
}

/**
 * The pieces of one thing, the last of which says what is to be said at the end. However it is left, the guest drops it.
 * Errors: those of refused calls; GUEST_UNRESPONSIVE, MICROVM_LOST; the signal's reason.
 */
export async function* piecesFrom<P extends Piece>(
  guest: OutgoingGuest,
  begin: (calls: GuestCalls, outgoingId: string, options: { signal: AbortSignal }) => Promise<unknown>,
  read: (calls: GuestCalls, outgoingId: string, piece: bigint, options: { signal: AbortSignal }) => Promise<P>,
  signal: AbortSignal,
): AsyncGenerator<P, void, undefined> {
  const outgoingId = `out_${randomBytes(10).toString("hex")}`;
  try {
    await guest.call((calls, options) => begin(calls, outgoingId, options), { timeoutMs: BEGIN_MS, signal });
    for (let number = 0n; ; number++) {
      const timeoutMs = number === 0n ? FIRST_PIECE_MS : PIECE_MS;
      const piece = await whileAlive(guest, signal, (alive) =>
        guest.call((calls, options) => read(calls, outgoingId, number, options), { timeoutMs, signal: alive }),
      );
      yield piece;
      if (piece.end) return;
    }
  } catch (error) {
    throw fileRefusal(error);
  } finally {
    // One that has gone cannot be told, and nobody waits for one that is silent.
    void guest
      .call((calls, options) => calls.dropOutgoing({ outgoingId }, options), { timeoutMs: DROP_MS })
      .catch(() => {});
  }
}

export function nonsense(what: string): PyroError {
  return new PyroError("GUEST_UNRESPONSIVE", `What the guest says makes no sense: ${what}.`);
}
