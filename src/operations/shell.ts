// Rows about shells: terminals that stay open in a workspace between calls.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent } from "./environment.ts";
import * as f from "./fields.ts";
import { secretEnv } from "./secret.ts";
import { START_ERRORS, WORKSPACE_ERRORS } from "./workspace.ts";

export const DEFAULT_COLS = 120;
export const DEFAULT_ROWS = 30;
/** Longest that a read may ask its output to be quiet for, ms. */
const MOST_IDLE_MS = 20_000;

const cols = z.int().min(1).max(1000).describe("Columns of the terminal, 1 to 1000");
const rows = z.int().min(1).max(1000).describe("Rows of the terminal, 1 to 1000");

/** Names a shell of a workspace. */
const ofWorkspace = {
  workspace_id: f.workspaceId,
  shell_id: z.string().min(1).max(128).describe("The shell_id of a result, such as sh_1"),
} as const;

/** What is known of a shell. */
export const shellFacts = {
  shell_id: z.string(),
  cwd: z.string().describe("Where it was opened"),
  cols: z.int(),
  rows: z.int(),
  state: z.enum(["running", "stopped"]),
  started_at: f.timestamp,
  ended_at: f.timestamp.nullable(),
  exit_code: z
    .int()
    .nullable()
    .describe("What it ended with, 128+n when a signal ended it; null while it runs, and when that is not known"),
  lost_reason: z
    .string()
    .nullable()
    .describe("Why its end is not known: its workspace was stopped, or the microVM was lost"),
} as const;

const shellRecord = z.object({ workspace_id: z.string(), ...shellFacts });

const SHELL_ERRORS = ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "SHELL_NOT_FOUND"] as const;
/** What doing something to a shell may answer with. */
const ACTING_ERRORS = [...SHELL_ERRORS, "SHELL_STOPPED", "MICROVM_LOST", "GUEST_UNRESPONSIVE"] as const;

export const shellOpen = defineOperation({
  name: "shell.open",
  summary: "Open a shell in a workspace",
  input: z.object({
    workspace_id: f.workspaceId,
    cwd: f.cwd.optional(),
    cols: cols.default(DEFAULT_COLS),
    rows: rows.default(DEFAULT_ROWS),
    secret_env: secretEnv.optional(),
  }),
  output: shellRecord,
  errors: [...WORKSPACE_ERRORS, ...START_ERRORS, "CWD_NOT_FOUND", "SECRET_UNKNOWN"],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "shell", "open"],
    positional: ["workspace_id"],
    idOnly: "shell_id",
    examples: ["pyro workspace shell open fix-tests --id-only", "pyro workspace shell open fix-tests --cwd src"],
  },
  mcp: {
    tool: "shell_open",
    title: "Open a shell in a workspace",
    description:
      "Use this when something has to stay open between calls: a REPL, a debugger, a program that asks questions, a directory " +
      "and variables that are kept. It opens a login shell on a terminal of cols x rows, as root in /workspace unless cwd says " +
      "otherwise. shell_write types into it, shell_read tells what it printed, shell_close ends it. For one command " +
      "workspace_exec is simpler. A shell goes on when this server ends; it ends when its workspace is stopped.",
  },
  sdk: { method: "openShell" },
});

export const shellList = defineOperation({
  name: "shell.list",
  summary: "List the shells of a workspace that run",
  input: z.object({
    workspace_id: f.workspaceId,
    all: z.boolean().describe("Also list those that have ended").default(false),
    limit: f.listLimit,
    cursor: f.cursor.optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    shells: z.array(z.object(shellFacts)),
    next_cursor: z.string().nullable(),
  }),
  errors: ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "shell", "list"],
    positional: ["workspace_id"],
    examples: ["pyro workspace shell list fix-tests --all"],
  },
  mcp: {
    tool: "shell_list",
    title: "List a workspace's shells",
    description: "Use this to find the shells that are open in a workspace, or with all, those that have ended too.",
  },
  sdk: { method: "listShells" },
});

export const shellRead = defineOperation({
  name: "shell.read",
  summary: "Read what a shell printed, from a cursor on, or what its terminal shows",
  input: z.object({
    ...ofWorkspace,
    cursor: f.cursor.optional(),
    max_bytes: f.maxBytes.optional(),
    plain: z
      .boolean()
      .describe("As text that a person would have seen: without escape sequences, overwritten and erased text left out")
      .default(false),
    screen: z.boolean().describe("The rows that the terminal shows now, whatever the cursor").default(false),
    wait_for_idle_ms: z
      .int()
      .min(1)
      .max(MOST_IDLE_MS)
      .describe(
        "Answer when it has printed nothing for this long, ms, at most 20000; waits 20 s unless wait_seconds says",
      )
      .optional(),
    wait_seconds: z
      .number()
      .min(0)
      .max(f.MAX_WAIT_SECONDS)
      .describe("How long to wait for output behind the cursor, or for it to be quiet, seconds, at most 50")
      .optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    ...shellFacts,
    cursor: z.string().describe("Where the output in this result begins"),
    next_cursor: z.string().describe("Cursor behind the output in this result"),
    output: z.string(),
    output_encoding: f.outputEncoding,
    truncated: z
      .boolean()
      .describe("True when there is more behind next_cursor, the oldest was dropped, or rows were left out"),
    dropped_bytes: z.int().describe("Bytes behind the cursor that are not kept any more"),
    screen: z
      .object({
        cursor_row: z.int().describe("Row of the terminal's cursor, from 1"),
        cursor_column: z.int().describe("Its column, from 1"),
        alternate: z.boolean().describe("True while a full-screen program has the terminal"),
      })
      .nullable()
      .describe("With screen: where the terminal's own cursor is"),
    redacted: f.redacted,
  }),
  errors: [...SHELL_ERRORS, "CURSOR_INVALID", "SHELL_NOT_RENDERED", "MICROVM_LOST"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "shell", "read"],
    positional: ["workspace_id", "shell_id"],
    examples: [
      "pyro workspace shell read fix-tests sh_1 --plain --wait-for-idle-ms 300",
      "pyro workspace shell read fix-tests sh_1 --screen",
    ],
  },
  mcp: {
    tool: "shell_read",
    title: "Read a shell",
    description:
      "Use this after shell_write, to see what came of it: give plain, wait_for_idle_ms (300 is a good value) and the cursor that " +
      "shell_write answered with. It returns what was printed behind the cursor as a person would have seen it, and a next_cursor " +
      "to go on from; truncated says that there is more. For programs that fill the screen (vim, less, top) give screen: the rows " +
      "as they are now, with the place of the cursor. Without wait_for_idle_ms it answers as soon as there is output behind the " +
      "cursor, and waits at most wait_seconds (default 30, at most 50). One that has ended can still be read.",
  },
  sdk: { method: "readShell" },
});

export const shellWrite = defineOperation({
  name: "shell.write",
  summary: "Type into a shell",
  input: z.object({
    ...ofWorkspace,
    input: z
      .string()
      .max(1_048_576)
      .describe("Text to type, with Enter at its end; on the command line `-` reads it from stdin")
      .optional(),
    input_encoding: f.outputEncoding.describe("utf-8, or base64 for bytes that are sent as they are").default("utf-8"),
    no_newline: z.boolean().describe("Type no Enter at the end").default(false),
    keys: z
      .string()
      .min(1)
      .max(4096)
      .describe("Keys to press instead, with spaces between them: `C-c`, `Up Enter`, `Escape : w q Enter`")
      .optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    shell_id: z.string(),
    accepted_bytes: z.int().describe("How much of it the terminal took"),
    cursor: z.string().describe("What is printed from now on is behind this cursor"),
  }),
  errors: [...ACTING_ERRORS, "PROCESS_NOT_READING", "SHELL_NOT_RENDERED"],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "shell", "write"],
    positional: ["workspace_id", "shell_id"],
    omit: ["input_encoding"],
    examples: [
      "pyro workspace shell write fix-tests sh_1 --input 'print(6 * 7)'",
      "pyro workspace shell write fix-tests sh_1 --keys 'C-c Up Enter'",
    ],
  },
  mcp: {
    tool: "shell_write",
    title: "Type into a shell",
    description:
      "Use this to type into a shell that is open: input is a line or several, and Enter is pressed at its end unless no_newline " +
      "is given; or keys, named with spaces between them: C-c to interrupt, C-d for end of file, Up, Enter, Tab, Escape, F1, and " +
      "single characters. Then call shell_read with the cursor of the result to see what came of it.",
  },
  sdk: { method: "writeShell" },
});

export const shellSignal = defineOperation({
  name: "shell.signal",
  summary: "Send a signal to what runs in a shell",
  input: z.object({
    ...ofWorkspace,
    signal: z
      .enum(["HUP", "INT", "TERM", "KILL"])
      .describe(
        "INT and TERM go to what has the terminal, HUP to the shell itself; KILL ends all that was started in it",
      ),
  }),
  output: z.object({
    workspace_id: z.string(),
    shell_id: z.string(),
    signal: z.string(),
    delivered: z.boolean().describe("False when it ended in the same moment"),
  }),
  errors: ACTING_ERRORS,
  effect: { readOnly: false, destructive: true, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "shell", "signal"],
    positional: ["workspace_id", "shell_id"],
    examples: ["pyro workspace shell signal fix-tests sh_1 --signal INT"],
  },
  mcp: {
    tool: "shell_signal",
    title: "Signal what runs in a shell",
    description:
      "Use this to interrupt (INT) or end (TERM) the program that runs in a shell when keys do not reach it; the shell itself " +
      "stays. KILL ends the shell with all it started.",
  },
  sdk: { method: "signalShell" },
});

export const shellResize = defineOperation({
  name: "shell.resize",
  summary: "Change the size of a shell's terminal",
  input: z.object({ ...ofWorkspace, cols, rows }),
  output: shellRecord,
  errors: ACTING_ERRORS,
  effect: { readOnly: false, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "shell", "resize"],
    positional: ["workspace_id", "shell_id"],
    examples: ["pyro workspace shell resize fix-tests sh_1 --cols 80 --rows 24"],
  },
  mcp: {
    tool: "shell_resize",
    title: "Resize a shell's terminal",
    description: "Use this when a program in a shell needs more room, or its lines should be shorter.",
  },
  sdk: { method: "resizeShell" },
});

export const shellClose = defineOperation({
  name: "shell.close",
  summary: "Close a shell and end all that was started in it",
  input: z.object(ofWorkspace),
  output: shellRecord,
  errors: [...SHELL_ERRORS, "MICROVM_LOST", "GUEST_UNRESPONSIVE"],
  effect: { readOnly: false, destructive: true, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "shell", "close"],
    positional: ["workspace_id", "shell_id"],
    examples: ["pyro workspace shell close fix-tests sh_1"],
  },
  mcp: {
    tool: "shell_close",
    title: "Close a shell",
    description:
      "Use this when a shell is done with: it is hung up, and what was started in it is ended. What it printed can still be read.",
  },
  sdk: { method: "closeShell" },
});

export const shellAttach = defineOperation({
  name: "shell.attach",
  summary: "Use a shell in this terminal, or open a new one in it",
  input: z.object({
    workspace_id: f.workspaceId,
    shell_id: ofWorkspace.shell_id.optional(),
    cwd: f.cwd.describe("Where a new shell begins; a relative one is below /workspace, the default").optional(),
  }),
  output: shellRecord,
  errors: [...WORKSPACE_ERRORS, ...START_ERRORS, "SHELL_NOT_FOUND", "SHELL_STOPPED", "CWD_NOT_FOUND"],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: [],
  stdin: true,
  events: z.discriminatedUnion("type", [
    envEvent,
    z.object({ type: z.literal("attached"), workspace_id: z.string(), ...shellFacts }),
    z.object({
      type: z.literal("redraw"),
      text: z.string().describe("What makes a terminal show what this one shows"),
    }),
  ]),
  cli: {
    path: ["workspace", "shell", "attach"],
    positional: ["workspace_id", "shell_id"],
    examples: ["pyro workspace shell attach fix-tests", "pyro workspace shell attach fix-tests sh_1"],
  },
  mcp: { absent: "a model has no terminal; shell_write and shell_read are its way" },
  sdk: { method: "attachShell" },
});
