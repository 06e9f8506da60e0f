// Bytes to stdout and stderr. Written by the thread pool, so that a reader who is slow holds back the command and
// not our own signal handlers.
import { write } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { Ended, STATUS_PIPE } from "./context.ts";

export const STDOUT = 1;
export const STDERR = 2;

/** Resolves when the system has taken all of it. Errors: Ended with 141 when nobody reads any more, HOST_IO_FAILED. */
export async function writeAll(fd: number, data: Uint8Array | string): Promise<void> {
  const bytes = typeof data === "string" ? Buffer.from(data) : data;
  pending++;
  try {
    for (let at = 0; at < bytes.length; ) at += await writeSome(fd, bytes.subarray(at));
  } finally {
    pending--;
  }
}

async function writeSome(fd: number, bytes: Uint8Array): Promise<number> {
  try {
    return await writeOnce(fd, bytes);
  } catch (thrown) {
    const { code, message } = thrown as NodeJS.ErrnoException;
    if (code === "EPIPE") throw new Ended(STATUS_PIPE, "nobody reads the output any more");
    if (code !== "EAGAIN") {
      const { PyroError } = await import("../errors/error.ts");
      throw new PyroError("HOST_IO_FAILED", `${fd === STDOUT ? "stdout" : "stderr"} takes no output: ${message}.`, {
        hint: "Open it, or make room where it goes to; what was asked for may have been done.",
        cause: thrown,
      });
    }
    // Somebody who shares the terminal or pipe made it non-blocking.
    await sleep(5);
    return 0;
  }
}

export async function writeJson(value: unknown): Promise<void> {
  await writeAll(STDOUT, `${JSON.stringify(value)}\n`);
}

let pending = 0;

/** True while a write waits for its reader: the process cannot end by itself then. */
export function isWriting(): boolean {
  return pending > 0;
}

function writeOnce(fd: number, bytes: Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    write(fd, bytes, (error, written) => {
      if (error) reject(error);
      else resolve(written);
    });
  });
}
