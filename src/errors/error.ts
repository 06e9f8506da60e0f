// The one error class of pyro, and its form as data. A leaf: imports only the codes.
import { CODES, type ErrorCode } from "./codes.ts";

/** An error as data, the same in `--json`, over MCP and between client and daemon. */
export interface ErrorData {
  code: ErrorCode;
  /** One sentence: what happened. */
  message: string;
  /** One sentence: what to do. */
  hint: string;
  retryable: boolean;
  details: Record<string, unknown>;
}

export interface PyroErrorOptions {
  /** Replaces the code's own hint where something more exact is known. Must fit a shell and a model alike. */
  hint?: string;
  details?: Record<string, unknown>;
  cause?: unknown;
}

/** What every failing call of pyro rejects with. `code` is a literal union; `message` and `hint` are for people. */
export class PyroError extends Error {
  override readonly name = "PyroError";
  readonly code: ErrorCode;
  readonly hint: string;
  readonly retryable: boolean;
  readonly details: Record<string, unknown>;

  constructor(code: ErrorCode, message: string, options: PyroErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.hint = options.hint ?? CODES[code].hint;
    this.retryable = CODES[code].retryable;
    this.details = options.details ?? {};
  }

  toData(): ErrorData {
    return {
      code: this.code,
      message: this.message,
      hint: this.hint,
      retryable: this.retryable,
      details: this.details,
    };
  }

  static fromData(data: ErrorData): PyroError {
    return new PyroError(data.code in CODES ? data.code : "INTERNAL", data.message, {
      hint: data.hint,
      details: data.details,
    });
  }

  /** Anything thrown becomes a PyroError; what is no system call's failure either is a fault of pyro's own. */
  static from(thrown: unknown): PyroError {
    if (thrown instanceof PyroError) return thrown;
    const message = thrown instanceof Error ? thrown.message : String(thrown);
    return new PyroError(codeOf(thrown), message, { cause: thrown });
  }
}

function codeOf(thrown: unknown): ErrorCode {
  if (!(thrown instanceof Error)) return "INTERNAL";
  const { code, syscall } = thrown as NodeJS.ErrnoException;
  if (code === "ENOSPC" || code === "EDQUOT") return "HOST_DISK_FULL";
  return syscall === undefined ? "INTERNAL" : "HOST_IO_FAILED";
}
