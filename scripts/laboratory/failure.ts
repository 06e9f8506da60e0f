// How the lab fails, and what it says while it works.

/** Something of the lab's own, not of the command, went wrong. The message says what to do where that is known. */
export class LabError extends Error {
  override readonly name = "LabError";
}

/** The outer guest does not answer, or has ended: another one may do better. */
export class GuestLost extends LabError {}

/** Tells whoever waits what is being done. */
export type Say = (message: string) => unknown;

/** How often a guest is tried in all. */
const ATTEMPTS = 3;

/** Does something with a guest, from its beginning again when that is lost. Errors: those of the last attempt. */
export async function persistently<T>(work: () => Promise<T>, say: Say, signal: AbortSignal): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await work();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof GuestLost) || attempt === ATTEMPTS) throw error;
      say(`${error.message}\nlab: trying again from the beginning (${attempt + 1} of ${ATTEMPTS})`);
    }
  }
}

/** A promise that is rejected with `late` when it takes too long. */
export async function within<T>(milliseconds: number, work: Promise<T>, late: () => Error): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(late()), milliseconds);
  });
  try {
    return await Promise.race([work, over]);
  } finally {
    clearTimeout(timer);
  }
}
