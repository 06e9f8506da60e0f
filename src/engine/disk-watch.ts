// Looks after microVMs that stand still because the host had no room for what their guests wrote: a run is ended, a
// workspace is told, and goes on where it was as soon as there is room.
import { PyroError } from "../errors/error.ts";
import { freeDiskMib } from "../host/resources.ts";

const LOOK_MS = 1_000;
/** Below this much free space the microVMs are asked, MiB: much can be written between two looks. */
const SHORT_MIB = 1024;
/** At the first look, and at each one of so many, they are asked whatever is free. */
const ASK_ANYWAY = 60;

/** Something with a microVM whose disk is on the file system that is watched. */
export interface DiskUser {
  /** False when it has no microVM. `freeMib` is what is free where its disk is. */
  outOfRoom(freeMib: number): Promise<boolean>;
  /** With so much free, MiB, it may go on. */
  readonly roomToGoOnMib: number;
  /** It stands still. Called once, until it went on. */
  noRoom(error: PyroError): void;
  /** There is room: it is to go on. */
  roomAgain(): Promise<void>;
}

export class DiskWatch {
  readonly #directory: string;
  readonly #users: () => readonly DiskUser[];
  readonly #standing = new Set<DiskUser>();
  #timer: NodeJS.Timeout | undefined;
  #looking = false;
  #looks = 0;

  /** `directory` is on the file system of the disks; `users` gives those that may have a microVM. */
  constructor(directory: string, users: () => readonly DiskUser[]) {
    this.#directory = directory;
    this.#users = users;
  }

  start(): void {
    this.#timer ??= setInterval(() => void this.#once().catch(() => {}), LOOK_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }

  async #once(): Promise<void> {
    // A monitor that does not answer takes its time.
    if (this.#looking) return;
    this.#looking = true;
    try {
      const users = this.#users();
      for (const user of this.#standing) if (!users.includes(user)) this.#standing.delete(user);
      if (users.length === 0) return;
      const free = await freeDiskMib(this.#directory);
      // What an earlier daemon left may stand still though there is room by now, and so may what ran into a quota.
      const anyway = this.#looks++ % ASK_ANYWAY === 0;
      if (anyway || free < SHORT_MIB) await Promise.all(users.map((user) => this.#check(user, free)));
      const ready = [...this.#standing].filter((user) => free >= user.roomToGoOnMib);
      await Promise.all(ready.map((user) => this.#goOn(user)));
    } finally {
      this.#looking = false;
    }
  }

  async #check(user: DiskUser, freeMib: number): Promise<void> {
    if (this.#standing.has(user) || !(await user.outOfRoom(freeMib).catch(() => false))) return;
    this.#standing.add(user);
    user.noRoom(
      new PyroError("HOST_DISK_FULL", `The host had no room below ${this.#directory} for what the guest wrote.`),
    );
  }

  /** One that cannot go on is tried again at the next look. */
  async #goOn(user: DiskUser): Promise<void> {
    await user.roomAgain().then(
      () => this.#standing.delete(user),
      () => {},
    );
  }
}
