// Waiting for a guest that has much to do: for as long as it answers other questions.
import type { GuestClient } from "../../guest/client.ts";

/** While a call waits the guest is asked whether it lives; one that does not say so in time is not waited for, ms. */
const ASK_EVERY_MS = 10_000;
const ALIVE_MS = 30_000;

/** A call that may take long, for as long as the guest answers others. Its signal aborts when it does not. */
export async function whileAlive<T>(
  guest: Pick<GuestClient, "call">,
  signal: AbortSignal,
  call: (alive: AbortSignal) => Promise<T>,
): Promise<T> {
  const dead = new AbortController();
  const ask = setInterval(() => {
    guest
      .call((calls, options) => calls.hello({}, options), { timeoutMs: ALIVE_MS, signal: dead.signal })
      .catch((error: unknown) => dead.abort(error));
  }, ASK_EVERY_MS);
  try {
    return await call(AbortSignal.any([signal, dead.signal]));
  } finally {
    clearInterval(ask);
    // Questions under way are not waited for.
    dead.abort();
  }
}
