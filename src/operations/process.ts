// Rows about processes: `run`, which makes a microVM for one command, and reading what a process printed.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent, PULL_ERRORS } from "./environment.ts";
import * as f from "./fields.ts";
import { SECRET_ERRORS, secretEnv, secretFor, secrets } from "./secret.ts";
import { MICROVM_ERRORS } from "./workspace-errors.ts";

/** What a streaming run tells before its output. Bytes of stdout and stderr travel beside these, not in them. */
export const runEvent = z.discriminatedUnion("type", [
  envEvent,
  z.object({ type: z.literal("started"), vm_id: z.string(), process_id: z.string() }),
  z.object({ type: z.literal("gap"), dropped_bytes: z.int() }),
]);

export const run = defineOperation({
  name: "run",
  summary: "Run one command in a new microVM and throw the microVM away",
  input: z.object({
    environment: f.environment.default(f.DEFAULT_ENVIRONMENT),
    command: f.command,
    vcpu_count: f.vcpuCount.default(f.DEFAULT_VCPU_COUNT),
    mem_mib: f.memMib.default(f.DEFAULT_MEM_MIB),
    disk_mib: f.diskMib.default(f.DEFAULT_DISK_MIB),
    driver: f.driver.optional(),
    cwd: f.cwd.optional(),
    env: f.env.optional(),
    secrets: secrets.optional(),
    secret_env: secretEnv.optional(),
    secret_for: secretFor.optional(),
    user: f.user.optional(),
    network_policy: f.networkPolicy.default("off"),
    allow_hosts: f.allowHosts.optional(),
    tty: f.tty.default(false),
    no_stdin: f.noStdin.default(false),
    timeout_seconds: f.timeoutSeconds.optional(),
    wait_seconds: f.waitSeconds.optional(),
    max_bytes: f.maxBytes.optional(),
  }),
  output: z.object({ vm_id: z.string(), ...f.processResult }),
  errors: [
    "ENVIRONMENT_PREPARING",
    ...PULL_ERRORS,
    ...MICROVM_ERRORS,
    "POLICY_FORBIDDEN",
    "CWD_NOT_FOUND",
    "USER_NOT_FOUND",
    ...SECRET_ERRORS,
  ],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: [],
  profiles: ["vm-run", "workspace-core", "workspace-full"],
  stdin: true,
  events: runEvent,
  cli: {
    path: ["run"],
    positional: ["environment"],
    rest: "command",
    omit: ["wait_seconds", "max_bytes"],
    flags: {
      env: "--env <NAME=VALUE>",
      secrets: "--secret <NAME[=SOURCE]>",
      secret_env: "--secret-env <NAME[=ENV]>",
      secret_for: "--secret-for <NAME=HOST[,HOST]>",
      tty: "-t, --tty",
      allow_hosts: "--allow-host <host>",
    },
    examples: [
      "pyro run -- git --version",
      "pyro run debian:12 --mem-mib 2048 -- sh -c 'nproc; free -m'",
      "echo hi | pyro run -- cat",
      "pyro run --secret TOKEN --secret-env TOKEN -- ./deploy",
    ],
  },
  mcp: {
    tool: "vm_run",
    title: "Run a command in a new microVM",
    description:
      "Use this for one self-contained command that should not touch the host: it boots a fresh microVM, runs the " +
      "command as root in /workspace, returns its output and exit status, and throws the microVM away. Nothing is " +
      "kept between calls. There is no network unless network_policy is egress, where this server allows it. The call answers within wait_seconds (default 30, at most 50); if " +
      'the command still runs then, state is "running" and process_read with vm_id, process_id and next_cursor ' +
      "goes on from there, for at most 10 minutes. Output over the limit keeps its head and tail and says how many " +
      "bytes were left out. ENVIRONMENT_PREPARING means the environment is being built: make the same call again " +
      "in a minute.",
    omit: ["driver", "tty", "no_stdin"],
  },
  sdk: { method: "run", omit: ["wait_seconds", "max_bytes"] },
});

/** Names a process of a workspace. */
const ofWorkspace = {
  workspace_id: f.workspaceId,
  process_id: z.string().min(1).max(128).describe("The process_id of a result"),
} as const;

const PROCESS_ERRORS = ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "PROCESS_NOT_FOUND"] as const;

export const processList = defineOperation({
  name: "process.list",
  summary: "List the processes of a workspace that run",
  input: z.object({
    workspace_id: f.workspaceId,
    all: z.boolean().describe("Also list those that have ended").default(false),
    limit: f.listLimit,
    cursor: f.cursor.optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    processes: z.array(z.object(f.processFacts)),
    next_cursor: z.string().nullable(),
  }),
  errors: ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "process", "list"],
    positional: ["workspace_id"],
    examples: ["pyro workspace process list fix-tests --all"],
  },
  mcp: {
    tool: "process_list",
    title: "List a workspace's processes",
    description: "Use this to see which commands run in a workspace, or with all, which have run.",
  },
  sdk: { method: "listProcesses" },
});

export const processRead = defineOperation({
  name: "process.read",
  summary: "Read what a process printed, from a cursor on",
  input: z.object({
    workspace_id: f.workspaceId.optional(),
    vm_id: z.string().min(1).max(128).describe("The vm_id of a run").optional(),
    process_id: ofWorkspace.process_id,
    cursor: f.cursor.optional(),
    max_bytes: f.maxBytes.optional(),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object({
    workspace_id: z.string().optional(),
    vm_id: z.string().optional(),
    ...f.processResult,
  }),
  errors: ["VM_NOT_FOUND", ...PROCESS_ERRORS, "CURSOR_INVALID", "MICROVM_LOST"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["vm-run", "workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "process", "read"],
    positional: ["workspace_id|vm_id", "process_id"],
    examples: [
      "pyro workspace process read fix-tests proc_3 --wait-seconds 10",
      "pyro workspace process read vm_k3j9x2m4qa proc_1",
    ],
  },
  mcp: {
    tool: "process_read",
    title: "Read a process's output",
    description:
      'Use this when an earlier result said state "running", or left output out: give its workspace_id (or the vm_id of ' +
      "a vm_run), its process_id and next_cursor (or no cursor, to start at the beginning). It waits up to wait_seconds " +
      "(default 30, at most 50) for new output or the end, and returns what came, with a new next_cursor.",
  },
  sdk: { method: "readProcess" },
});

export const processWrite = defineOperation({
  name: "process.write",
  summary: "Write to the stdin of a process in a workspace",
  input: z.object({
    ...ofWorkspace,
    input: z.string().max(1_048_576).describe("What to write; on the command line `-` reads it from stdin").default(""),
    input_encoding: f.outputEncoding.describe("utf-8, or base64 for any bytes").default("utf-8"),
    eof: z.boolean().describe("End its stdin after that").default(false),
  }),
  output: z.object({
    workspace_id: z.string(),
    process_id: z.string(),
    accepted_bytes: z.int().describe("How much of it the process's pipe took"),
    closed: z.boolean().describe("True when the process reads no more"),
  }),
  errors: [...PROCESS_ERRORS, "PROCESS_NOT_READING", "MICROVM_LOST", "GUEST_UNRESPONSIVE"],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "process", "write"],
    positional: ["workspace_id", "process_id"],
    omit: ["input_encoding"],
    examples: [
      "pyro workspace process write fix-tests proc_3 --input $'yes\\n'",
      "echo data | pyro workspace process write fix-tests proc_3 --input - --eof",
    ],
  },
  mcp: {
    tool: "process_write",
    title: "Write to a process",
    description:
      "Use this to give input to a command that was started with detach and reads its stdin. End a line with a newline; " +
      "eof ends its input.",
  },
  sdk: { method: "writeProcess" },
});

export const processSignal = defineOperation({
  name: "process.signal",
  summary: "Send a signal to a process in a workspace",
  input: z.object({
    ...ofWorkspace,
    signal: z
      .string()
      .regex(/^(SIG)?[A-Z0-9+-]{2,10}$|^[0-9]{1,2}$/, "a signal is a name such as TERM or SIGTERM, or a number")
      .describe("Signal by name or number; KILL ends everything that the process started too")
      .default("TERM"),
  }),
  output: z.object({
    workspace_id: z.string(),
    process_id: z.string(),
    signal: z.string(),
    delivered: z.boolean().describe("False when it had ended already"),
  }),
  errors: [...PROCESS_ERRORS, "MICROVM_LOST", "GUEST_UNRESPONSIVE"],
  effect: { readOnly: false, destructive: true, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "process", "signal"],
    positional: ["workspace_id", "process_id"],
    examples: ["pyro workspace process signal fix-tests proc_3 --signal INT"],
  },
  mcp: {
    tool: "process_signal",
    title: "Signal a process",
    description:
      "Use this to interrupt or end a command that still runs in a workspace: INT, TERM, or KILL for all it started.",
  },
  sdk: { method: "signalProcess" },
});

export const processWait = defineOperation({
  name: "process.wait",
  summary: "Wait until a process in a workspace has ended",
  input: z.object({ ...ofWorkspace, wait_seconds: f.waitSeconds.optional() }),
  output: z.object({ workspace_id: z.string(), ...f.processFacts }),
  errors: [...PROCESS_ERRORS, "MICROVM_LOST", "GUEST_UNRESPONSIVE"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "process", "wait"],
    positional: ["workspace_id", "process_id"],
    omit: ["wait_seconds"],
    examples: ["pyro workspace process wait fix-tests proc_3"],
  },
  mcp: {
    tool: "process_wait",
    title: "Wait for a process",
    description:
      "Use this to wait up to wait_seconds (default 30, at most 50) for a command to end; it returns how it stands then, without its output.",
  },
  sdk: { method: "waitProcess", omit: ["wait_seconds"] },
});
