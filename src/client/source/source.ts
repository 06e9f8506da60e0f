// A path of the host as what a workspace is seeded with or gets pushed: a directory, a file or an archive as a stream of
// tar. Whatever can be known before a byte is sent is checked first, so that what cannot work fails before it begins.
import { access, constants, readdir, realpath, stat } from "node:fs/promises";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { PyroError } from "../../errors/error.ts";
import { nearest } from "../../errors/nearest.ts";
import type { UploadEnd } from "../../wire/protocol.ts";
import { archiveBytes, checkArchive, isArchiveName } from "./archive.ts";
import { isMissing, tooManyBytes, unreadable } from "./failure.ts";
import { type ByteName, byteName, Skipped } from "./names.ts";
import { findTar, tarOf } from "./tar.ts";
import { type WalkOptions, walk } from "./walk.ts";

export interface SourceOptions {
  /** Patterns in the syntax of .gitignore; of directories only. */
  readonly exclude: readonly string[];
  /** Leave out what git ignores; of directories in a work tree only. */
  readonly gitignore: boolean;
  /** Most bytes of all files, holes included. */
  readonly maxBytes: number;
  readonly maxEntries: number;
  readonly signal?: AbortSignal | undefined;
  /** Where it really is (symbolic links resolved), when the caller knows that already and only that may be read. */
  readonly realPath?: string | undefined;
}

export interface Source {
  readonly mode: UploadEnd["mode"];
  /** Absolute, as it was named. */
  readonly path: string;
  /**
   * The tar archive, made while it is read; leaving early ends what makes it. Every call begins anew, with what is there
   * then. Errors: SOURCE_UNREADABLE, ARCHIVE_INVALID, LIMIT_EXCEEDED; an abort rejects with its reason.
   */
  bytes(signal: AbortSignal): AsyncIterable<Uint8Array>;
  /** What there is to say when the last of the bytes were read. */
  end(): UploadEnd;
}

/**
 * A relative path is relative to this process's directory. ".." goes up in the text of a path, as everywhere in Node.
 * Errors: SOURCE_NOT_FOUND, SOURCE_UNREADABLE, ARCHIVE_INVALID, LIMIT_EXCEEDED, HOST_TOOL_MISSING, INVALID_INPUT for
 * exclude or gitignore where they mean nothing; an abort rejects with its reason.
 */
export async function openSource(path: string, options: SourceOptions): Promise<Source> {
  options.signal?.throwIfAborted();
  const named = resolve(path);
  const real = options.realPath ?? (await realPathOf(named));
  const found = await stat(real).catch((thrown: unknown) => {
    throw isMissing(thrown) ? gone(named) : unreadable(named, thrown);
  });
  if (found.isDirectory()) return await openDirectory(named, real, options);
  if (!found.isFile()) {
    throw new PyroError("SOURCE_UNREADABLE", `${named} is neither a directory nor a regular file.`, {
      hint: "Name a directory, a file or a .tar, .tar.gz or .tgz archive of this host.",
    });
  }
  refusePatterns(named, options);
  await access(real, constants.R_OK).catch((thrown: unknown) => {
    throw unreadable(named, thrown);
  });
  if (isArchiveName(named)) return await openArchive(named, real, options);
  if (found.size > options.maxBytes) throw tooManyBytes(named, options.maxBytes);
  await findTar();
  return fileSource(named, real);
}

async function openDirectory(named: string, real: string, options: SourceOptions): Promise<Source> {
  let skipped = new Skipped();
  const look = (signal: AbortSignal | undefined) => {
    skipped = new Skipped();
    return walk(real, { ...options, signal } satisfies WalkOptions, skipped);
  };
  const tar = findTar();
  tar.catch(() => {});
  // What was found is what the first connection sends: walked twice in a row nobody would be wiser.
  let fresh: Iterable<ByteName> | undefined = await look(options.signal);
  await tar;
  return {
    mode: "directory",
    path: named,
    bytes: async function* (signal) {
      const names = fresh ?? (await look(signal));
      fresh = undefined;
      yield* tarOf(names, { directory: real, skipped, signal });
    },
    end: () => ({ mode: "directory", skipped: skipped.told, skipped_count: skipped.count }),
  };
}

async function openArchive(named: string, real: string, options: SourceOptions): Promise<Source> {
  await checkArchive(real, options);
  return {
    mode: "tar",
    path: named,
    bytes: (signal) => archiveBytes(real, options, signal),
    end: () => ({ mode: "tar", skipped: [], skipped_count: 0 }),
  };
}

/** A file that is reached by a symbolic link is sent under the link's name. */
function fileSource(named: string, real: string): Source {
  let skipped = new Skipped();
  const [own, called] = [basename(real), basename(named)];
  return {
    mode: "file",
    path: named,
    bytes: (signal) => {
      skipped = new Skipped();
      return tarOf([byteName(own)], {
        directory: dirname(real),
        calledAs: called === own ? undefined : called,
        // The one file there is must come: without it there is nothing to put in its place.
        complete: true,
        skipped,
        signal,
      });
    },
    end: () => ({ mode: "file", skipped: skipped.told, skipped_count: skipped.count }),
  };
}

function refusePatterns(path: string, { exclude, gitignore }: SourceOptions): void {
  if (exclude.length === 0 && !gitignore) return;
  const what = gitignore ? "gitignore" : "exclude";
  throw new PyroError(
    "INVALID_INPUT",
    `${what}: ${path} is no directory, and nothing is left out of a file or an archive.`,
    {
      hint: `Leave ${what} out.`,
    },
  );
}

async function realPathOf(path: string): Promise<string> {
  try {
    const real = await realpath(path);
    // Where a link leads to a name that is no text, only the path as it was given can be handed on.
    return real.includes("\ufffd") ? path : real;
  } catch (thrown) {
    if (!isMissing(thrown)) throw unreadable(path, thrown);
    throw await missing(path);
  }
}

async function missing(path: string): Promise<PyroError> {
  const near = await nearNames(path);
  const guess = near.length === 0 ? "" : ` Did you mean ${near.join(" or ")}?`;
  return new PyroError("SOURCE_NOT_FOUND", `${path} does not exist.${guess}`, {
    details: near.length > 0 ? { near } : {},
  });
}

function gone(path: string): PyroError {
  return new PyroError("SOURCE_NOT_FOUND", `${path} does not exist.`);
}

async function nearNames(path: string): Promise<string[]> {
  const parent = dirname(path);
  if (!isAbsolute(parent)) return [];
  const names = await readdir(parent).catch(() => []);
  return nearest(basename(path), names.slice(0, 10_000)).map((name) => join(parent, name));
}
