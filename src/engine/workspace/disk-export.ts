// The disk of a stopped workspace as one image: the host formats an empty one, an inspector fills it with all that the workspace's
// processes had as their root, and its bytes go to whoever asked.
import { rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { formatDisk } from "../../environments/disk.ts";
import { PyroError } from "../../errors/error.ts";
import { packSparse } from "../../host/sparse-archive.ts";
import type { Inspections } from "../inspections.ts";
import type { Progress } from "../templates.ts";
import { nonsense, numberOf } from "./file-facts.ts";
import type { Inspection, StoppedDisk } from "./stopped-disk.ts";

/** How long one look at the copy waits, may take on a loaded host, and how long a copy may stand still, ms. */
const LOOK_MS = 1000;
const CALL_MS = 60_000;
const STILL_MS = 300_000;
/**
 * What a base may hold of each byte of its image: first a guess, then the most that its compression can do. An image has no
 * room beyond what the disk and the base can hold, whatever a hostile disk says that it holds.
 */
const EXPANSIONS = [4, 256] as const;
/** For the file system itself, MiB. */
const SPARE_MIB = 1024;
const MOST_MIB = 15 << 20;
const NAME = "disk.ext4";

export interface ExportedDisk {
  readonly entryCount: number;
  readonly bytesWritten: number;
  readonly sizeBytes: number;
}

export interface ExportCalls {
  readonly progress: Progress;
  /** Takes the image, a piece at a time; the next is made when it resolves. */
  readonly take: (bytes: Uint8Array) => Promise<void>;
  readonly signal: AbortSignal;
}

/** Errors: those of StoppedDisk.inspect, DISK_DAMAGED, HOST_DISK_FULL; what `take` throws; the signal's reason. */
export async function exportDisk(
  disk: StoppedDisk,
  inspections: Inspections,
  { progress, take, signal }: ExportCalls,
): Promise<ExportedDisk> {
  return await inspections.withDirectory(async (directory) => {
    const { entryCount, mib } = await fill(disk, directory, progress, signal);
    const { size, blocks } = await stat(join(directory, NAME));
    // Its VMM had its hands on it.
    if (size !== mib * 2 ** 20) throw nonsense();
    progress({ stage: "send", message: "Writing the image", fraction: null });
    for await (const chunk of packSparse(directory, NAME, signal)) await take(chunk);
    return { entryCount, bytesWritten: blocks * 512, sizeBytes: size };
  });
}

async function fill(disk: StoppedDisk, directory: string, progress: Progress, signal: AbortSignal) {
  const imageMib = Math.ceil((await disk.imageBytes(signal)) / 2 ** 20);
  for (const [at, expansion] of EXPANSIONS.entries()) {
    const mib = Math.min(MOST_MIB, disk.record.disk_mib + expansion * imageMib + SPARE_MIB);
    const path = join(directory, `${at}-${NAME}`);
    await formatDisk(path, mib, signal);
    const aux = { path, readOnly: false, virtualBytes: mib * 2 ** 20 };
    try {
      const entryCount = await disk.inspect({ aux, long: true, progress }, signal, (inspection, ending) =>
        copy(inspection, disk.record.identity?.machineId ?? "", progress, ending),
      );
      await rename(path, join(directory, NAME));
      return { entryCount, mib };
    } catch (error) {
      const isFull = error instanceof PyroError && error.code === "GUEST_DISK_FULL";
      if (!isFull || at === EXPANSIONS.length - 1) throw error;
      await rm(path, { force: true });
    }
  }
  throw nonsense();
}

/** How many entries there are, when all are copied. */
async function copy(
  { ask }: Inspection,
  blankMachineId: string,
  progress: Progress,
  signal: AbortSignal,
): Promise<number> {
  let last = -1n;
  let moved = Date.now();
  for (;;) {
    const request = { blankMachineId, waitMilliseconds: LOOK_MS };
    const { done, entries, bytes } = await ask(CALL_MS, (calls, options) => calls.copyDisk(request, options));
    if (done) return numberOf(entries);
    progress({ stage: "copy", message: `Copying: ${entries} files, ${bytes >> 20n} MiB`, fraction: null });
    if (entries + bytes !== last) moved = Date.now();
    last = entries + bytes;
    if (Date.now() - moved > STILL_MS) {
      throw new PyroError("GUEST_UNRESPONSIVE", `The copy of the disk stood still for ${STILL_MS / 1000} s.`);
    }
    // A guest that answers at once, and lies about it, is not asked in a circle.
    await sleep(20, undefined, { signal });
  }
}
