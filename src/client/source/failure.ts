// The errors that a source of the host's files may have, in the same words everywhere.
import { PyroError } from "../../errors/error.ts";

/** What the system says, for people. */
const REASONS: Readonly<Record<string, string>> = {
  EACCES: "permission denied",
  EPERM: "permission denied",
  EIO: "the disk fails",
  ELOOP: "too many symbolic links",
  ENAMETOOLONG: "its name is too long",
};

export function unreadable(path: string, cause: unknown): PyroError {
  return new PyroError("SOURCE_UNREADABLE", `${path} cannot be read: ${reasonOf(cause)}.`, { cause });
}

/** A file that is another than it was a moment ago. */
export function changed(path: string, how: string): PyroError {
  return new PyroError("SOURCE_UNREADABLE", `${path} ${how}.`, { hint: "Try again when nothing writes to it." });
}

export function archiveInvalid(path: string, why: string, cause?: unknown): PyroError {
  return new PyroError("ARCHIVE_INVALID", `${path} ${why}.`, { cause });
}

export function tooManyEntries(path: string, limit: number): PyroError {
  return new PyroError("LIMIT_EXCEEDED", `${path} has more than ${limit} entries, the limit that max_entries sets.`, {
    hint: "Leave something out with --exclude or --gitignore, or raise it with --max-entries.",
    details: { limit: "max_entries", max_entries: limit },
  });
}

export function tooManyBytes(path: string, limit: number): PyroError {
  const mib = Math.floor(limit / 2 ** 20);
  return new PyroError("LIMIT_EXCEEDED", `${path} is larger than ${mib} MiB, the limit that max_transfer_mib sets.`, {
    hint: "Leave something out with --exclude or --gitignore, or raise it with --max-transfer-mib.",
    details: { limit: "max_transfer_mib", max_transfer_mib: mib },
  });
}

export function tooLong(path: string, limit: number): PyroError {
  return new PyroError(
    "SOURCE_UNREADABLE",
    `${path} is larger than ${limit >> 10} KiB, the most that is read of such a file.`,
  );
}

export function codeOf(thrown: unknown): string | undefined {
  return thrown instanceof Error ? (thrown as NodeJS.ErrnoException).code : undefined;
}

/** True for what a path says that is not there, or not any more. */
export function isMissing(thrown: unknown): boolean {
  const code = codeOf(thrown);
  return code === "ENOENT" || code === "ENOTDIR";
}

function reasonOf(cause: unknown): string {
  const code = codeOf(cause);
  return (code === undefined ? undefined : REASONS[code]) ?? code ?? String(cause);
}
