// The error codes about networks: a part of the table in codes.ts.
import type { CodeFacts } from "./facts.ts";

export const NETWORK_CODES = {
  POLICY_FORBIDDEN: {
    exit: 2,
    retryable: false,
    hint: "`pyro mcp serve --network-policy` says what its tools may ask for; at the command line `pyro workspace network set` also widens.",
    mcpHint: "This server does not allow it: leave `network_policy` out, or name only hosts that are allowed already.",
  },
  PORT_TAKEN: {
    exit: 1,
    retryable: true,
    hint: "Name another port of the host, or none for one that is free: `--publish 8000`.",
    mcpHint: "Name another port of the host in `publish`, or none for one that is free.",
  },
  NETWORK_OFF: {
    exit: 1,
    retryable: false,
    hint: "A workspace keeps the policy that it was created with: create one with `--network-policy egress`.",
    mcpHint: "The workspace has no network; create another with `network_policy` egress if this server allows that.",
  },
  NETWORK_FAILED: {
    exit: 1,
    retryable: true,
    hint: "Try again; the end of launcher.log in pyro's state directory says why netd does not come up.",
    mcpHint: "Try again in a moment; if it stays so, go on without a network and tell the person who runs this server.",
  },
} as const satisfies Record<string, CodeFacts>;
