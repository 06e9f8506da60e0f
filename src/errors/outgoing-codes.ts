// The error codes about what leaves a workspace: a part of the table in codes.ts.
import type { CodeFacts } from "./facts.ts";

export const OUTGOING_CODES = {
  BASELINE_MISSING: {
    exit: 1,
    retryable: false,
    hint: "There is nothing to compare with: use git in the workspace, or create it again from its seed.",
    mcpHint: "There is nothing to compare with: use git in the workspace, or create it again from its seed.",
  },
} as const satisfies Record<string, CodeFacts>;
