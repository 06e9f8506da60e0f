// The daemon's socket: connecting to it, once, and not to somebody else's.
import { lstat } from "node:fs/promises";
import { connect as connectSocket, type Socket } from "node:net";
import { dirname } from "node:path";
import { PyroError } from "../errors/error.ts";
import type { Where } from "./where.ts";

const CONNECT_MS = 5000;

/** True for what connecting says when no daemon listens, or when one died with the connection not yet taken. */
export function isAbsent(thrown: unknown): boolean {
  const { code, syscall }: NodeJS.ErrnoException = thrown instanceof Error ? thrown : new Error();
  return code === "ENOENT" || code === "ECONNREFUSED" || (code === "ECONNRESET" && syscall === "connect");
}

/** Connects, or rejects with the system's error. */
export async function connectOnce(where: Where, signal?: AbortSignal): Promise<Socket> {
  await checkOwner(where);
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const socket = connectSocket({ path: where.paths.daemonSocket });
    const timer = setTimeout(() => fail(new Error(`no connection within ${CONNECT_MS} ms`)), CONNECT_MS);
    const aborted = () => fail(signal?.reason);
    const settle = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
      socket.removeListener("error", fail);
    };
    const fail = (reason: unknown) => {
      settle();
      socket.on("error", () => {});
      socket.destroy();
      reject(reason);
    };
    socket.once("error", fail);
    signal?.addEventListener("abort", aborted, { once: true });
    socket.once("connect", () => {
      settle();
      resolve(socket);
    });
  });
}

/** The sockets live below /tmp: refuse a directory that somebody else made there, it would get our commands. */
async function checkOwner(where: Where): Promise<void> {
  const uid = process.getuid?.();
  const { control, sockets } = where.paths;
  // From the top: what is below a directory of somebody else's says nothing, not even that it is missing.
  for (const directory of [dirname(sockets), sockets, control]) {
    const found = await lstat(directory);
    if (found.isDirectory() && found.uid === uid && (found.mode & 0o022) === 0) continue;
    throw new PyroError("HOST_IO_FAILED", `${directory} is not a directory that only this user can write to.`, {
      hint: `Remove ${directory}; pyro makes it anew.`,
    });
  }
}
