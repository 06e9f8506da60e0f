// A name of the host that something is written to: made beside it, and renamed when it is whole. Before that nobody finds
// anything at the name, and after a failure nothing is left.
import { randomBytes } from "node:crypto";
import { link, lstat, mkdir, rename, rm, rmdir, stat } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { PyroError } from "../../errors/error.ts";

const MOST_NAME = 200;

export class HostOutput {
  readonly path: string;
  /** Where it is made. */
  readonly temporary: string;
  readonly #madeParent: string | undefined;

  private constructor(path: string, madeParent: string | undefined) {
    this.path = path;
    // Found by nobody who looks for something else, and told from others' by whoever cleans up.
    const name = Buffer.from(basename(path))
      .subarray(0, MOST_NAME)
      .toString("latin1")
      .replace(/[^\w.-]/g, "_");
    this.temporary = join(dirname(path), `.${name}.pyro-${randomBytes(6).toString("hex")}`);
    this.#madeParent = madeParent;
  }

  /**
   * `path` is absolute. With `makeParents` directories above it are made where they are missing.
   * Errors: OUTPUT_EXISTS, HOST_IO_FAILED.
   */
  static async open(path: string, makeParents = false): Promise<HostOutput> {
    await checkFree(path);
    const parent = dirname(path);
    let made: string | undefined;
    try {
      if (makeParents) made = await mkdir(parent, { recursive: true });
      if (!(await stat(parent)).isDirectory()) throw unwritable(path, `${parent} is no directory`);
    } catch (thrown) {
      throw outputError(path, thrown);
    }
    return new HostOutput(path, made);
  }

  /** What was made is at the name from here on. Errors: OUTPUT_EXISTS, HOST_IO_FAILED. */
  async commit(): Promise<void> {
    try {
      if (!(await lstat(this.temporary)).isDirectory() && (await linked(this.temporary, this.path))) {
        await rm(this.temporary, { force: true });
        return;
      }
      await checkFree(this.path);
      await rename(this.temporary, this.path);
    } catch (thrown) {
      throw outputError(this.path, thrown);
    }
  }

  /** Removes what there is of it. Never rejects. */
  async discard(): Promise<void> {
    await rm(this.temporary, { recursive: true, force: true }).catch(() => {});
    if (this.#madeParent === undefined) return;
    // Those that were made for it, unless something else is in them by now.
    for (let at = dirname(this.path); at.startsWith(this.#madeParent); at = dirname(at)) {
      if (
        !(await rmdir(at).then(
          () => true,
          () => false,
        ))
      )
        return;
    }
  }
}

/** True when it has the name now; false where the file system has no such links. It replaces nothing. */
async function linked(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === "EEXIST") throw exists(to);
    return false;
  }
}

async function checkFree(path: string): Promise<void> {
  const found = await lstat(path).catch((thrown: NodeJS.ErrnoException) => {
    if (thrown.code === "ENOENT") return undefined;
    throw outputError(path, thrown);
  });
  if (found !== undefined) throw exists(path);
}

function exists(path: string): PyroError {
  return new PyroError("OUTPUT_EXISTS", `There is something at ${path} already.`, { details: { path } });
}

function unwritable(path: string, why: string, cause?: unknown): PyroError {
  return new PyroError("HOST_IO_FAILED", `${path} cannot be written: ${why}.`, {
    hint: "Name an output in a directory that is there and may be written to; nothing was left there.",
    cause,
    details: { path },
  });
}

/** What the system says of writing, as an error of pyro; anything else as it is. */
export function outputError(path: string, thrown: unknown): unknown {
  const { code, syscall, message } = thrown as NodeJS.ErrnoException;
  if (thrown instanceof PyroError || syscall === undefined) return thrown;
  if (code === "ENOSPC" || code === "EDQUOT") {
    return new PyroError("HOST_DISK_FULL", `There is no space left for ${path}.`, {
      hint: "Free space where the output goes, or name another place; nothing was left there.",
      cause: thrown,
    });
  }
  return unwritable(path, message, thrown);
}
