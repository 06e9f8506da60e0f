// Turns what went wrong on the host's disk into errors of pyro.
import type { ErrorCode } from "../errors/codes.ts";
import { PyroError } from "../errors/error.ts";

/** A PyroError as it is; no space left as HOST_DISK_FULL; anything else as `code` with the cause in the message. */
export function failBuild(code: ErrorCode, message: string, error: unknown): unknown {
  if (error instanceof PyroError) return error;
  if (error instanceof Error && error.name === "AbortError") return error;
  const errno = (error as NodeJS.ErrnoException | undefined)?.code;
  if (errno === "ENOSPC" || errno === "EDQUOT") {
    return new PyroError("HOST_DISK_FULL", `${message}: no space is left.`, { cause: error });
  }
  const reason = error instanceof Error ? error.message : String(error);
  return new PyroError(code, `${message}: ${reason}`, { cause: error });
}
