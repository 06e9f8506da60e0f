// Which paths of the host a model may have read or written: the directories that the server was given, and by default the
// work tree around it. Decided on where a path really leads. Nothing that a repository holds widens it.
import { lstat, readlink, realpath, stat } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve, sep } from "node:path";
import { PyroError } from "../errors/error.ts";

/** As the kernel has it. */
const MAX_LINKS = 40;
const OUTPUT = join(".pyro", "out");

export interface HostPathsOptions {
  /** Directory that the server was started in. */
  readonly cwd: string;
  /** Directories that may be read, beside the default. */
  readonly allowRead?: readonly string[];
  /** Directories that may be written to, beside the default. */
  readonly allowWrite?: readonly string[];
  /** Directory that is the project, instead of the work tree around `cwd`; false for none. */
  readonly projectPath?: string | false | undefined;
  /** The user's home; this process's unless given. */
  readonly home?: string;
  /** Whose work trees count; this process's user unless given. */
  readonly uid?: number;
}

export class HostPaths {
  readonly #cwd: string;
  /** The project that the server stands in, where there is one: it may be read. */
  readonly project: string | undefined;
  /** Where symbolic links lead to, for reading and for writing. */
  readonly readable: readonly string[];
  readonly writable: readonly string[];

  private constructor(
    cwd: string,
    project: string | undefined,
    readable: readonly string[],
    writable: readonly string[],
  ) {
    this.#cwd = cwd;
    this.project = project;
    this.readable = [...new Set(readable)];
    this.writable = [...new Set(writable)];
  }

  /** Errors: INVALID_INPUT for a directory to allow that is none, and for a project that holds the user's home. */
  static async open(options: HostPathsOptions): Promise<HostPaths> {
    const { cwd, allowRead, allowWrite, projectPath, home = homedir(), uid = process.geteuid?.() ?? 0 } = options;
    const tree = await projectOf(projectPath, cwd, home, uid);
    const read = await directories(cwd, allowRead ?? [], "--allow-read");
    const write = await directories(cwd, allowWrite ?? [], "--allow-write");
    if (tree === undefined) return new HostPaths(cwd, undefined, read, write);
    // Not resolved any further: a repository that has a link there must not choose where pyro writes.
    return new HostPaths(cwd, tree, [tree, ...read], [join(tree, OUTPUT), ...write]);
  }

  /**
   * Where a path to read really is; it need not exist. Relative ones are relative to the server's directory.
   * Errors: HOST_PATH_FORBIDDEN, which says the same whether there is something at the path or not.
   */
  async checkRead(path: string): Promise<string> {
    return this.#check(path, this.readable, "read");
  }

  /** The same for a path to write to. */
  async checkWrite(path: string): Promise<string> {
    return this.#check(path, this.writable, "write to");
  }

  async #check(path: string, allowed: readonly string[], what: string): Promise<string> {
    const named = resolve(this.#cwd, path);
    const real = await whereItLeads(named);
    if (real !== undefined && allowed.some((directory) => isWithin(real, directory))) return real;
    const these = allowed.length === 0 ? "no path of the host" : `only what is below ${allowed.join(", ")}`;
    throw new PyroError("HOST_PATH_FORBIDDEN", `${named} is not allowed: this server may ${what} ${these}.`, {
      details: { path: named, allowed },
    });
  }
}

/** The directory itself, or a path below it. Both absolute, without "." and "..". */
function isWithin(path: string, directory: string): boolean {
  return path === directory || path.startsWith(directory === sep ? sep : directory + sep);
}

/**
 * Resolves every symbolic link of an absolute path, also one that leads to nothing, and keeps what does not exist as it
 * is written. Undefined when there is no telling: too many links, or a name that is no text.
 */
async function whereItLeads(path: string): Promise<string | undefined> {
  let left = parts(path);
  let at: string = sep;
  let links = 0;
  while (left.length > 0) {
    const [name = "", ...rest] = left;
    left = rest;
    if (name === "..") {
      at = dirname(at);
      continue;
    }
    const next = join(at, name);
    const target = await targetOf(next);
    if (target === undefined) {
      at = next;
    } else {
      if (++links > MAX_LINKS || target.includes("\ufffd")) return undefined;
      left = [...parts(target), ...left];
      if (target.startsWith(sep)) at = sep;
    }
  }
  return at;
}

function parts(path: string): string[] {
  return path.split(sep).filter((part) => part !== "" && part !== ".");
}

/** What a symbolic link holds; undefined for everything else, and for what is not there or may not be looked at. */
async function targetOf(path: string): Promise<string | undefined> {
  try {
    return (await lstat(path)).isSymbolicLink() ? await readlink(path) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * The nearest directory from `cwd` upwards that has a .git, without asking git: its configuration is the repository's.
 * Undefined when there is none, or when it is so much as the user's home: that is not what a server was started for. And
 * when directory or .git are somebody else's, as for git itself: a .git that a stranger made in /tmp widens nothing.
 */
async function workTreeAround(cwd: string, home: string, uid: number): Promise<string | undefined> {
  const from = await realpath(cwd).catch(() => undefined);
  if (from === undefined || from.includes("\ufffd")) return undefined;
  const realHome = (await whereItLeads(resolve(home))) ?? resolve(home);
  for (let at = from; ; at = dirname(at)) {
    const owner = await ownerOf(join(at, ".git"));
    if (owner !== undefined) {
      const own = owner === uid && (await ownerOf(at)) === uid;
      return own && at !== sep && !isWithin(realHome, at) ? at : undefined;
    }
    if (at === dirname(at)) return undefined;
  }
}

async function projectOf(named: string | false | undefined, cwd: string, home: string, uid: number) {
  if (named === false) return undefined;
  return named === undefined ? await workTreeAround(cwd, home, uid) : await namedProject(cwd, named, home);
}

/** A project by its name: any directory but one that holds the user's home, which nobody means to send. */
async function namedProject(cwd: string, name: string, home: string): Promise<string> {
  const [project = ""] = await directories(cwd, [name], "--project-path");
  const realHome = (await whereItLeads(resolve(home))) ?? resolve(home);
  if (!isWithin(realHome, project)) return project;
  throw new PyroError("INVALID_INPUT", `--project-path: ${project} is the home directory, or above it.`, {
    hint: "Give --project-path the directory of one project.",
  });
}

/** Of a path itself, not of what it links to; undefined when there is nothing that may be looked at. */
async function ownerOf(path: string): Promise<number | undefined> {
  return await lstat(path).then(
    ({ uid }) => uid,
    () => undefined,
  );
}

async function directories(cwd: string, named: readonly string[], option: string): Promise<string[]> {
  return await Promise.all(
    named.map(async (name) => {
      const path = resolve(cwd, name);
      const found = name === "" ? undefined : await stat(path).catch(() => undefined);
      if (found?.isDirectory()) return await realpath(path);
      const what = found === undefined ? "does not exist" : "is no directory";
      throw new PyroError("INVALID_INPUT", `${option}: ${name === "" ? "an empty name" : path} ${what}.`, {
        hint: `Give ${option} a directory that exists.`,
      });
    }),
  );
}
