// Waiting for a promise only as long as a signal is not aborted. A leaf, pure.

/**
 * What the promise comes to, or a rejection with the signal's reason when that aborts first. What the promise stands
 * for goes on: only this wait is given up. Leaves no listener behind on either.
 */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return await new Promise<T>((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
