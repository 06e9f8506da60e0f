// The error codes about secrets, with what follows from them. No hint repeats what was given.
import type { CodeFacts } from "./facts.ts";

export const SECRET_CODES = {
  SECRET_LITERAL: {
    exit: 2,
    retryable: false,
    hint: "Say where the value is, not what it is: NAME for the variable of that name, NAME=env:VAR, NAME=file:PATH, or NAME=- for stdin.",
    mcpHint: "Name a secret of this server's, and no value: the person who runs it gives those to `mcp serve`.",
  },
  SECRET_INVALID: {
    exit: 2,
    retryable: false,
    hint: "Names are letters, digits and underscores, at most 64; a value has 6 bytes to 64 KiB; up to 64 secrets have 256 KiB together.",
    mcpHint: "Name each secret once, as this server names it.",
  },
  SECRET_UNREADABLE: {
    exit: 1,
    retryable: false,
    hint: "Set the variable or make the file readable, or name another source: NAME=env:VAR, NAME=file:PATH, NAME=-.",
    mcpHint: "Tell the person who runs this server: a source that it was started with is not there.",
  },
  SECRET_UNKNOWN: {
    exit: 1,
    retryable: false,
    hint: "`pyro workspace status` lists a workspace's secrets; they are given when it is made, with --secret, as a run's are.",
    mcpHint:
      "`workspace_status` lists a workspace's secrets; `secrets` of workspace_create and vm_run takes names that this server was started with.",
  },
} as const satisfies Record<string, CodeFacts>;
