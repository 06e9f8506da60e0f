// What is said of each error code.

/** What a code means to callers. */
export interface CodeFacts {
  /** Exit status outside `run` and `exec`, where every error of pyro's own is 125. */
  readonly exit: 1 | 2;
  /** True when the same call may succeed later without anything being changed. */
  readonly retryable: boolean;
  /** What to do, for a person at a shell. */
  readonly hint: string;
  /** What to do, for a model that has only tools. Names a tool or an argument, never a command of the host. */
  readonly mcpHint: string;
}

/** For a model, what only a person at the host can mend. */
export const OPERATOR_HINT = "Tell the person who runs this server; it cannot be mended with a tool.";
