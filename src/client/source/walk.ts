// Walks a directory of the host and decides what of it is sent, before a byte is. It asks the system for no more than it
// must: one stat for each regular file (size, hard links, readable), none for directories and links.
import { access, constants, type Dirent, lstat, readdir, type Stats } from "node:fs";
import { readFile, stat } from "node:fs/promises";
import { isMissing, tooLong, tooManyBytes, tooManyEntries, unreadable } from "./failure.ts";
import { gitIgnored } from "./git.ts";
import { type ByteName, byteName, bytesOf, type Skipped, shown } from "./names.ts";
import { IGNORE_FILE, Rules } from "./rules.ts";

/** Calls to the system at once: beyond this a walk of many files becomes no quicker. */
const AT_ONCE = 64;

export interface WalkOptions {
  readonly exclude: readonly string[];
  readonly gitignore: boolean;
  /** Of all files together, a file with several names once. */
  readonly maxBytes: number;
  readonly maxEntries: number;
  readonly signal?: AbortSignal | undefined;
}

/** Far beyond what a person writes: every name is held against every line. */
const MAX_IGNORE_BYTES = 1 << 20;

/** A directory and what of it is sent. */
interface Directory {
  /** "" for the source itself. */
  readonly name: ByteName;
  readonly rules: Rules;
  /** What git ignores here and below: of the nearest repository. */
  readonly ignored: ReadonlySet<ByteName>;
  others: ByteName[];
  directories: Directory[];
}

/**
 * The names of everything below `root` (an absolute path) that is to be sent: parents first, the entries of a directory
 * together, in the order of their bytes. What is skipped goes into `skipped`. What vanishes meanwhile was never there.
 * Errors: SOURCE_UNREADABLE, LIMIT_EXCEEDED, INVALID_INPUT for gitignore outside of a work tree; an abort rejects with its
 * reason.
 */
export async function walk(root: string, options: WalkOptions, skipped: Skipped): Promise<Iterable<ByteName>> {
  options.signal?.throwIfAborted();
  const ignored = options.gitignore ? await gitIgnored(root, options.signal) : new Set<ByteName>();
  const top: Directory = { name: "", rules: Rules.of(options.exclude), ignored, others: [], directories: [] };
  await new Walk(root, options, skipped).run(top);
  return inOrder(top);
}

function* inOrder(directory: Directory): Generator<ByteName> {
  if (directory.name !== "") yield directory.name;
  yield* directory.others;
  for (const below of directory.directories) yield* inOrder(below);
}

class Walk {
  readonly #root: string;
  readonly #base: string;
  readonly #options: WalkOptions;
  readonly #skipped: Skipped;
  readonly #uid = process.geteuid?.() ?? 0;
  readonly #links = new Set<string>();
  readonly #over = Promise.withResolvers<void>();
  #directories: Directory[] = [];
  #files: ByteName[] = [];
  #active = 0;
  #failed = false;
  #entries = 0;
  #bytes = 0;

  constructor(root: string, options: WalkOptions, skipped: Skipped) {
    this.#root = root;
    this.#base = byteName(root === "/" ? "" : root);
    this.#options = options;
    this.#skipped = skipped;
  }

  async run(top: Directory): Promise<void> {
    const { signal } = this.#options;
    const aborted = () => this.#fail(signal?.reason);
    signal?.addEventListener("abort", aborted, { once: true });
    try {
      this.#directories.push(top);
      this.#next();
      await this.#over.promise;
    } finally {
      signal?.removeEventListener("abort", aborted);
    }
  }

  #fail(reason: unknown): void {
    this.#failed = true;
    this.#over.reject(reason);
  }

  /** Starts what may be started. Files first, which keeps short what waits. */
  #next(): void {
    while (!this.#failed && this.#active < AT_ONCE) {
      const file = this.#files.pop();
      const directory = file === undefined ? this.#directories.pop() : undefined;
      if (file !== undefined) this.#file(file);
      else if (directory !== undefined) this.#directory(directory);
      else break;
    }
    if (this.#active === 0 && !this.#failed) this.#over.resolve();
  }

  #file(name: ByteName): void {
    const path = this.#pathOf(name);
    this.#active++;
    const done = (error: NodeJS.ErrnoException | null) => {
      if (error && !isMissing(error)) this.#fail(unreadable(this.#shown(name), error));
      this.#active--;
      this.#next();
    };
    lstat(path, (error, stat) => {
      if (error) return done(error);
      this.#weigh(stat);
      if (this.#surelyReadable(stat)) done(null);
      else access(path, constants.R_OK, done);
    });
  }

  #weigh(stat: Stats): void {
    if (!stat.isFile()) return;
    if (stat.nlink > 1) {
      const id = `${stat.dev}:${stat.ino}`;
      if (this.#links.has(id)) return;
      this.#links.add(id);
    }
    this.#bytes += stat.size;
    if (this.#bytes > this.#options.maxBytes) this.#fail(tooManyBytes(this.#root, this.#options.maxBytes));
  }

  /** Saves a call for nearly every file. */
  #surelyReadable(stat: Stats): boolean {
    return this.#uid === 0 || (stat.uid === this.#uid && (stat.mode & 0o400) !== 0);
  }

  #directory(directory: Directory): void {
    this.#active++;
    // With names as buffers: else Node could not find the type where the file system does not tell it.
    readdir(this.#pathOf(directory.name), { withFileTypes: true, encoding: "buffer" }, (error, entries) => {
      const taken = error ? Promise.reject(error) : this.#take(directory, entries);
      taken
        .catch((thrown: unknown) => {
          if (isMissing(thrown) && directory.name !== "") return;
          this.#fail(isErrno(thrown) ? unreadable(this.#shown(directory.name), thrown) : thrown);
        })
        .finally(() => {
          this.#active--;
          this.#next();
        });
    });
  }

  async #take(directory: Directory, entries: Dirent<Buffer>[]): Promise<void> {
    const prefix = directory.name === "" ? "" : `${directory.name}/`;
    const { rules, ignored } = await this.#rulesIn(directory, entries);
    for (const entry of entries) {
      const own = entry.name.toString("latin1");
      const name = prefix + own;
      const isDirectory = entry.isDirectory();
      // Git never ignores its own directory, whatever a repository's patterns say.
      if (own !== ".git" && ignored.has(name)) continue;
      if (rules.leavesOut(name, isDirectory)) continue;
      const reason = reasonToSkip(entry);
      if (reason !== undefined) {
        this.#skipped.add(name, reason);
        continue;
      }
      if (++this.#entries > this.#options.maxEntries) throw tooManyEntries(this.#root, this.#options.maxEntries);
      if (isDirectory) {
        directory.directories.push({ name, rules, ignored, others: [], directories: [] });
      } else {
        directory.others.push(name);
        if (entry.isFile()) this.#files.push(name);
      }
    }
    directory.others.sort();
    directory.directories.sort((a, b) => (a.name < b.name ? -1 : 1));
    for (const below of directory.directories) this.#directories.push(below);
  }

  async #rulesIn(
    { name, rules, ignored }: Directory,
    entries: readonly Dirent<Buffer>[],
  ): Promise<{ rules: Rules; ignored: ReadonlySet<ByteName> }> {
    const has = (own: string) => entries.find((entry) => entry.name.toString("latin1") === own);
    const prefix = name === "" ? "" : `${name}/`;
    const file = has(IGNORE_FILE)?.isFile() ? `${prefix}${IGNORE_FILE}` : undefined;
    // A repository inside of this one (a submodule, say) has patterns of its own, which git does not look at from outside.
    const nested = this.#options.gitignore && name !== "" && has(".git") !== undefined;
    return {
      rules: file === undefined ? rules : rules.with(name, await this.#content(file)),
      ignored: nested ? await this.#ignoredBelow(name, ignored) : ignored,
    };
  }

  async #content(name: ByteName): Promise<Buffer> {
    try {
      const { size } = await stat(this.#pathOf(name));
      if (size > MAX_IGNORE_BYTES) throw tooLong(this.#shown(name), MAX_IGNORE_BYTES);
      return await readFile(this.#pathOf(name));
    } catch (thrown) {
      if (!isErrno(thrown)) throw thrown;
      if (isMissing(thrown)) return Buffer.alloc(0);
      throw unreadable(this.#shown(name), thrown);
    }
  }

  async #ignoredBelow(name: ByteName, ignored: ReadonlySet<ByteName>): Promise<ReadonlySet<ByteName>> {
    const path = this.#shown(name);
    // Its path goes into arguments, which are text.
    if (byteName(path) !== `${this.#base}/${name}`) return ignored;
    const below = await gitIgnored(path, this.#options.signal);
    return new Set([...below].map((one) => `${name}/${one}`));
  }

  #pathOf(name: ByteName): Buffer {
    return bytesOf(name === "" ? this.#base || "/" : `${this.#base}/${name}`);
  }

  #shown(name: ByteName): string {
    return name === "" ? this.#root : shown(`${this.#base}/${name}`);
  }
}

function reasonToSkip(entry: Dirent<Buffer>): string | undefined {
  if (entry.isSocket()) return "a socket";
  if (entry.isFIFO()) return "a named pipe";
  if (entry.isBlockDevice() || entry.isCharacterDevice()) return "a device";
  return undefined;
}

function isErrno(thrown: unknown): boolean {
  return thrown instanceof Error && "syscall" in thrown;
}
