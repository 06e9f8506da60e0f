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
  SECRET_HOST_FORBIDDEN: {
    exit: 2,
    retryable: false,
    hint: "A secret's hosts must be reachable: `--network-policy egress`, and each of them among `--allow-host` if there are any.",
    mcpHint:
      "Ask for `network_policy` egress, and name each host of `secret_for` in `allow_hosts` too if you name any there.",
  },
  SECRET_NOT_BROKERED: {
    exit: 1,
    retryable: false,
    hint: "Processes in the guest may have it already: make a new workspace, with `--secret-for NAME=HOST` if it is to change while it runs.",
    mcpHint: "Create another workspace with the new value.",
  },
  SECRET_UNKNOWN: {
    exit: 1,
    retryable: false,
    hint: "`pyro workspace status` lists a workspace's secrets; they are given when it is made, with --secret, as a run's are.",
    mcpHint:
      "`workspace_status` lists a workspace's secrets; `secrets` of workspace_create and vm_run takes names that this server was started with.",
  },
} as const satisfies Record<string, CodeFacts>;
