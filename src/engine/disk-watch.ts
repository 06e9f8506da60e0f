// Ends runs whose guest wrote what the host had no room for. The guest is told of an I/O error, but its kernel may keep a
// writer waiting for ever on pages that it can no longer write: nobody would hear of the full disk.
import { PyroError } from "../errors/error.ts";
import { freeDiskMib } from "../host/resources.ts";
import type { Run } from "./run.ts";

const LOOK_MS = 5_000;
/** Below this much free space the guests are asked, MiB. */
const SHORT_MIB = 16;

export class DiskWatch {
  readonly #directory: string;
  readonly #live: () => readonly Run[];
  #timer: NodeJS.Timeout | undefined;
  #looking = false;

  /** `directory` is on the file system of the disks; `live` gives the runs that have not ended. */
  constructor(directory: string, live: () => readonly Run[]) {
    this.#directory = directory;
    this.#live = live;
  }

  /** Looks from time to time for as long as there are runs. */
  look(): void {
    this.#timer ??= setInterval(() => void this.#once(), LOOK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #once(): Promise<void> {
    const runs = this.#live();
    if (runs.length === 0) return this.stop();
    // A monitor that does not answer takes its time.
    if (this.#looking) return;
    this.#looking = true;
    try {
      const free = await freeDiskMib(this.#directory).catch(() => Number.POSITIVE_INFINITY);
      if (free < SHORT_MIB) await Promise.all(runs.map((run) => this.#check(run)));
    } finally {
      this.#looking = false;
    }
  }

  async #check(run: Run): Promise<void> {
    if ((await run.failedWrites()) === 0) return;
    run.cancel(
      new PyroError("HOST_DISK_FULL", `The host had no room below ${this.#directory} for what the guest wrote.`),
    );
  }
}
