// Secrets in the rows: given to a workspace or a run by whoever makes it, and named by the processes that need them.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { outputEncoding, workspaceId } from "./fields.ts";
import { MOST_SECRETS, SECRET_ENV_PATTERN, SECRET_FOR_PATTERN } from "./secret-rules.ts";

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

export const secretFor = z
  .array(
    z
      .string()
      .max(20_000)
      .regex(
        SECRET_FOR_PATTERN,
        "it is NAME=HOST[,HOST], the name of a secret and host names such as api.example.org, no patterns and no addresses",
      ),
  )
  .max(MOST_SECRETS)
  .describe(
    "Secret that only these hosts get, NAME=HOST[,HOST]: the guest has a placeholder as the variable NAME, and its requests to them have the value",
  );

/** What giving secrets may answer with. */
export const SECRET_ERRORS = [
  "SECRET_LITERAL",
  "SECRET_INVALID",
  "SECRET_UNREADABLE",
  "SECRET_UNKNOWN",
  "SECRET_HOST_FORBIDDEN",
] as const;

/** What is told of one. */
export const secretFacts = {
  name: z.string(),
  source: z.string(),
  hosts: z
    .array(z.string())
    .describe("The only hosts that get its value, where it is brokered; none where its value is in the guest"),
} as const;

export const secretSet = defineOperation({
  name: "secret.set",
  summary: "Give brokered secrets of a workspace new values",
  input: z.object({ workspace_id: workspaceId, secrets: secrets.min(1) }),
  output: z.object({ workspace_id: z.string(), secrets: z.array(z.object(secretFacts)) }),
  errors: [
    ...(["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "WORKSPACE_FAILED"] as const),
    ...(["SECRET_LITERAL", "SECRET_INVALID", "SECRET_UNREADABLE", "SECRET_UNKNOWN", "SECRET_NOT_BROKERED"] as const),
    "NETWORK_FAILED",
  ],
  effect: { readOnly: false, destructive: true, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: [],
  cli: {
    path: ["workspace", "secret", "set"],
    positional: ["workspace_id"],
    flags: { secrets: "--secret <NAME[=SOURCE]>" },
    examples: ["pyro workspace secret set fix-tests --secret TOKEN=file:token.new"],
  },
  mcp: { absent: "a model has no values; who runs the server changes one at the command line" },
  sdk: { method: "setSecrets" },
});
