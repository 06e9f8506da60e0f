// Whether there is something at a path of the host.
import { lstat } from "node:fs/promises";

/** Links are not followed. What cannot be looked at counts as not there. */
export async function isThere(path: string): Promise<boolean> {
  return await lstat(path).then(
    () => true,
    () => false,
  );
}
