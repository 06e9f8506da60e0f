// Connecting to a socket in a microVM's directory. The VMM owns that directory, and one that was taken over could put a
// link to somebody else's socket there: so the name is opened without following it, and what was opened is connected to.

import { constants } from "node:fs";
import { open } from "node:fs/promises";
import { connect, type Socket } from "node:net";

/** Linux's O_PATH, which Node has no name for. */
const O_PATH = 0o10000000;

/** Rejects when there is no socket by that name, or nobody listens on it. */
export async function connectOwn(path: string): Promise<Socket> {
  const place = await open(path, O_PATH | constants.O_NOFOLLOW);
  try {
    if (!(await place.stat()).isSocket()) throw new Error(`${path} is not a socket`);
    const socket = connect(`/proc/self/fd/${place.fd}`);
    await new Promise<void>((resolve, reject) => {
      socket.once("connect", resolve);
      socket.once("error", reject);
    });
    return socket;
  } finally {
    await place.close();
  }
}
