// Sockets in a microVM's directory. The VMM owns that directory, and one that was taken over could put a link to somebody
// else's socket or file there: so the name is opened without following it, and what was opened is used.

import { constants } from "node:fs";
import { chmod, type FileHandle, open } from "node:fs/promises";
import { connect, type Socket } from "node:net";

/** Linux's O_PATH, which Node has no name for. */
const O_PATH = 0o10000000;

/** Rejects when there is no socket by that name, or nobody listens on it. */
export async function connectOwn(path: string): Promise<Socket> {
  const place = await openSocket(path);
  try {
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

/** Lets every user connect to a socket that this process made. Rejects when something else is there by now. */
export async function openToAll(path: string): Promise<void> {
  const place = await openSocket(path);
  try {
    await chmod(`/proc/self/fd/${place.fd}`, 0o666);
  } finally {
    await place.close();
  }
}

async function openSocket(path: string): Promise<FileHandle> {
  const place = await open(path, O_PATH | constants.O_NOFOLLOW);
  try {
    if ((await place.stat()).isSocket()) return place;
  } catch (error) {
    await place.close();
    throw error;
  }
  await place.close();
  throw new Error(`${path} is not a socket`);
}
