// What a call makes of the host: the file that its input names. It is written beside and comes to its name whole, or not at all;
// what is there already stays as it is.
import { link, lstat, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { PyroError } from "../errors/error.ts";
import { SparseWriter } from "../host/sparse-archive.ts";
import { FACTS } from "../operations/facts.ts";
import type { EventOf, InputOf, OperationName, OutputOf } from "../operations/table.ts";
import { openStream } from "./stream.ts";
import type { Where } from "./where.ts";

export interface DownloadOptions<N extends OperationName> {
  /** What a relative path is relative to; absolute. */
  readonly cwd: string;
  readonly signal?: AbortSignal | undefined;
  /**
   * Decides on an absolute path before anything is looked at: returns where it really is, with symbolic links resolved,
   * which then is written, its directories made; or throws.
   */
  readonly allow?: ((path: string) => Promise<string>) | undefined;
  readonly onEvent?: (event: EventOf<N>) => void | Promise<void>;
}

/** Errors: OUTPUT_EXISTS, HOST_DISK_FULL, HOST_IO_FAILED; those of the row; what `allow` throws; the abort's reason. */
export async function download<N extends OperationName>(
  where: Where,
  operation: N,
  input: InputOf<N>,
  { cwd, signal, allow, onEvent }: DownloadOptions<N>,
): Promise<OutputOf<N>> {
  const { download: key } = FACTS[operation];
  const named = key === null ? undefined : (input as Readonly<Record<string, unknown>>)[key];
  if (key === null || typeof named !== "string" || named === "" || named.includes("\0")) {
    throw new PyroError("INVALID_INPUT", `${key}: name the file that is to be made.`);
  }
  const path = resolve(cwd, named);
  const place = (await allow?.(path)) ?? path;
  if (allow !== undefined) await wrapped(place, mkdir(dirname(place), { recursive: true, mode: 0o755 }));
  if ((await lstat(place).catch(() => undefined)) !== undefined) throw exists(place);
  const beside = await wrapped(place, mkdtemp(join(dirname(place), `.${basename(place).slice(0, 100)}.pyro-`)));
  const writer = new SparseWriter(beside);
  try {
    const stream = openStream(
      where,
      operation,
      { ...input, [key]: path },
      {
        ...(signal === undefined ? {} : { signal }),
        ...(onEvent === undefined ? {} : { onEvent }),
        onOutput: (_stream, data) => writer.write(data),
      },
    );
    const output = await stream.result;
    await writer.finish();
    signal?.throwIfAborted();
    await wrapped(place, settle(beside, place));
    return output;
  } finally {
    await writer.end();
    await rm(beside, { recursive: true, force: true });
  }
}

/** Gives the one file in a directory its name, unless something has that by now. */
async function settle(beside: string, place: string): Promise<void> {
  const [name] = await readdir(beside);
  if (name === undefined) throw new PyroError("INTERNAL", "The daemon sent no file.");
  const made = join(beside, name);
  try {
    await link(made, place);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A file system without hard links.
    if (code !== "EPERM" && code !== "ENOTSUP" && code !== "ENOSYS") throw error;
    if ((await lstat(place).catch(() => undefined)) !== undefined) throw exists(place);
    await rename(made, place);
  }
}

async function wrapped<T>(path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (error instanceof PyroError) throw error;
    if (code === "EEXIST") throw exists(path);
    const full = code === "ENOSPC" || code === "EDQUOT";
    throw new PyroError(full ? "HOST_DISK_FULL" : "HOST_IO_FAILED", `${path} cannot be made: ${message}`, {
      hint: "Name a file in a directory that is there, can be written to and has room.",
      cause: error,
    });
  }
}

function exists(path: string): PyroError {
  return new PyroError("OUTPUT_EXISTS", `There is something at ${path} already.`);
}
