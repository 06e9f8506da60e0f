// The lab's cache: directories that are complete from the moment they have their name, made by one process at a time.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm, stat, utimes } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { sha256Text } from "../../src/environments/digest.ts";
import { LabError } from "./failure.ts";

/** The build of another process takes no longer, seconds. */
const LOCK_SECONDS = 1800;
/** Directories of one kind that are kept, the last used ones: checkouts differ in what they need. */
const KEPT = 4;

export function cacheDirectory(): string {
  const { PYRO_LAB_CACHE: own, XDG_CACHE_HOME: xdg } = process.env;
  return own || join(xdg?.startsWith("/") ? xdg : join(homedir(), ".cache"), "pyro-lab");
}

/** Something that is built once for each key. */
export interface Recipe<Key> {
  readonly kind: string;
  readonly key: Key;
  /** Fills the directory, which is there and empty. */
  readonly build: (directory: string) => Promise<void>;
}

export class Cache {
  readonly directory: string;

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async open(): Promise<Cache> {
    const directory = cacheDirectory();
    await mkdir(directory, { recursive: true, mode: 0o755 });
    return new Cache(directory);
  }

  /** Where what a recipe makes is, or will be. */
  place<Key>({ kind, key }: Recipe<Key>): string {
    return join(this.directory, `${kind}-${sha256Text(JSON.stringify(key)).slice(0, 16)}`);
  }

  /** The directory that a recipe makes, built when it is missing. */
  async directoryOf<Key>(recipe: Recipe<Key>, signal: AbortSignal): Promise<string> {
    const place = this.place(recipe);
    if (!existsSync(place)) await this.#locked(() => this.#build(recipe, place), signal);
    // For the choice of those that are kept.
    await utimes(place, new Date(), new Date());
    return place;
  }

  async #build<Key>(recipe: Recipe<Key>, place: string): Promise<void> {
    if (existsSync(place)) return;
    const staging = join(this.directory, "staging");
    // Of a process that was killed: nobody else is here.
    await rm(staging, { recursive: true, force: true });
    await mkdir(join(staging, "result"), { recursive: true });
    try {
      await recipe.build(join(staging, "result"));
      await rename(join(staging, "result"), place);
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
    await this.#prune(recipe.kind);
  }

  async #prune(kind: string): Promise<void> {
    const paths = (await readdir(this.directory)).filter((name) => name.startsWith(`${kind}-`));
    const aged = await Promise.all(
      paths.map(async (name) => {
        const path = join(this.directory, name);
        return { path, usedAt: (await stat(path)).mtimeMs };
      }),
    );
    aged.sort((a, b) => b.usedAt - a.usedAt);
    for (const { path } of aged.slice(KEPT)) await rm(path, { recursive: true, force: true });
  }

  /** The lock belongs to a program that ends with this process, however that ends. */
  async #locked(work: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const held = "echo held; exec cat";
    const args = ["--wait", String(LOCK_SECONDS), join(this.directory, "lock"), "sh", "-c", held];
    const holder = spawn("flock", args, { stdio: ["pipe", "pipe", "inherit"], detached: true });
    const ended = once(holder, "exit");
    holder.stdin.on("error", () => {});
    const abort = (): void => {
      holder.kill("SIGKILL");
    };
    signal.addEventListener("abort", abort, { once: true });
    try {
      const [first] = await Promise.race([once(holder.stdout, "data"), ended]);
      signal.throwIfAborted();
      if (!Buffer.isBuffer(first)) {
        throw new LabError(`another process has been building the lab in ${this.directory} for half an hour: end it`);
      }
      await work();
    } finally {
      signal.removeEventListener("abort", abort);
      holder.stdin.end();
    }
  }
}
