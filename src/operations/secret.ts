// Secrets in the rows: given to a workspace or a run by whoever makes it, and named by the processes that need them.
import * as z from "zod";
import { outputEncoding } from "./fields.ts";
import { MOST_SECRETS, SECRET_ENV_PATTERN } from "./secret-rules.ts";

/** Longer than any value that is taken: what is too long is refused in words that name the limit. */
const MOST_CHARACTERS = 1 << 20;

/**
 * As they are sent. The client reads what a reference names: the daemon opens no file of a user's and sees no variable of
 * theirs. On the command line they are references, and tools know only names.
 */
export const secrets = z
  .array(
    z.object({
      name: z.string().max(256).describe("What it is called: letters, digits and underscores, at most 64"),
      value: z.string().max(MOST_CHARACTERS).describe("Its value, 6 bytes to 64 KiB").optional(),
      value_encoding: outputEncoding.describe("utf-8, or base64 for any bytes").optional(),
      file: z.string().min(1).max(4096).describe("File of this host that holds the value, instead of it").optional(),
      source: z.string().max(4200).describe("Where the value came from, in words that results repeat").optional(),
    }),
  )
  .max(2 * MOST_SECRETS)
  .describe(
    "Secret by reference: NAME or NAME=env:VAR (a variable of this command's), NAME=file:PATH, or NAME=- for stdin; in the guest it is the file /run/pyro/secrets/NAME",
  );

/** As tools take them. */
export const secretNames = z
  .array(z.string().max(256))
  .max(2 * MOST_SECRETS)
  .describe(
    "Names of secrets that this server was started with; in the guest each is the file /run/pyro/secrets/NAME, and a variable where secret_env says so",
  );

export const secretEnv = z
  .array(z.string().regex(SECRET_ENV_PATTERN, "it is NAME or NAME=VARIABLE, the name of a secret and of a variable"))
  .max(256)
  .describe("Secret that is put into the environment, as the variable NAME or, with NAME=ENV, as ENV");

/** What giving secrets may answer with. */
export const SECRET_ERRORS = ["SECRET_LITERAL", "SECRET_INVALID", "SECRET_UNREADABLE", "SECRET_UNKNOWN"] as const;
