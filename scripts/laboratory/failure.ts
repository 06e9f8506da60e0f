// How the lab fails, and what it says while it works.

/** Something of the lab's own, not of the command, went wrong. The message says what to do where that is known. */
export class LabError extends Error {
  override readonly name = "LabError";
}

/** The outer guest does not answer, or has ended: another one may do better. */
export class GuestLost extends LabError {}

export type Say = (message: string) => void;

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
