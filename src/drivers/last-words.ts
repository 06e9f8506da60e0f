// What a VMM leaves to be told about it: how it ended, and the end of its console.
import { constants, open } from "node:fs/promises";
import type { VmEnd } from "../launcher/launcher.ts";

const CONSOLE_TAIL_BYTES = 4096;

/** How a VMM of that name ended, as a part of a sentence. */
export function describeEnd(vmm: string, end: VmEnd): string {
  if (end.launcherLost) return "the launcher has gone, and its microVMs with it";
  return end.signal === 0 ? `${vmm} exited with ${end.exitCode}` : `${vmm} was ended by signal ${end.signal}`;
}

/** The last part of a text file; empty where there is none. The VMM owns the directory: it may be anything. */
export async function readTail(path: string): Promise<string> {
  try {
    const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
    try {
      const stats = await file.stat();
      if (!stats.isFile()) return "";
      const { size } = stats;
      const start = Math.max(0, size - CONSOLE_TAIL_BYTES);
      const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(CONSOLE_TAIL_BYTES), position: start });
      return buffer.subarray(0, bytesRead).toString("utf8");
    } finally {
      await file.close();
    }
  } catch {
    return "";
  }
}
