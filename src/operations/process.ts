// Rows about processes: `run`, which makes a microVM for one command, and reading what a process printed.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent, PULL_ERRORS } from "./environment.ts";
import * as f from "./fields.ts";

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
    cwd: f.cwd.optional(),
    env: f.env.optional(),
    user: f.user.optional(),
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
    "HOST_MEMORY_SHORT",
    "LIMIT_EXCEEDED",
    "CONFINEMENT_UNAVAILABLE",
    "MICROVM_START_FAILED",
    "MICROVM_LOST",
    "GUEST_UNRESPONSIVE",
    "CWD_NOT_FOUND",
    "USER_NOT_FOUND",
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
    flags: { env: "--env <NAME=VALUE>", tty: "-t, --tty" },
    examples: [
      "pyro run -- git --version",
      "pyro run debian:12 --mem-mib 2048 -- sh -c 'nproc; free -m'",
      "echo hi | pyro run -- cat",
    ],
  },
  mcp: {
    tool: "vm_run",
    title: "Run a command in a new microVM",
    description:
      "Use this for one self-contained command that should not touch the host: it boots a fresh microVM, runs the " +
      "command as root in /workspace, returns its output and exit status, and throws the microVM away. Nothing is " +
      "kept between calls. There is no network. The call answers within wait_seconds (default 30, at most 50); if " +
      'the command still runs then, state is "running" and process_read with vm_id, process_id and next_cursor ' +
      "goes on from there, for at most 10 minutes. Output over the limit keeps its head and tail and says how many " +
      "bytes were left out. ENVIRONMENT_PREPARING means the environment is being built: make the same call again " +
      "in a minute.",
    omit: ["tty", "no_stdin"],
  },
  sdk: { method: "run", omit: ["wait_seconds", "max_bytes"] },
});

export const processRead = defineOperation({
  name: "process.read",
  summary: "Read what a process printed, from a cursor on",
  input: z.object({
    vm_id: z.string().min(1).max(128).describe("The vm_id of a run"),
    process_id: z.string().min(1).max(128).describe("The process_id of a result"),
    cursor: f.cursor.optional(),
    max_bytes: f.maxBytes.optional(),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object({ vm_id: z.string(), ...f.processResult }),
  errors: ["VM_NOT_FOUND", "PROCESS_NOT_FOUND", "CURSOR_INVALID", "MICROVM_LOST"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: [],
  profiles: ["vm-run", "workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "process", "read"],
    positional: ["vm_id", "process_id"],
    examples: ["pyro workspace process read vm_k3j9x2m4qa proc_1 --wait-seconds 10"],
  },
  mcp: {
    tool: "process_read",
    title: "Read a process's output",
    description:
      'Use this when an earlier result said state "running", or left output out: give its vm_id, process_id and ' +
      "next_cursor (or no cursor, to start at the beginning). It waits up to wait_seconds (default 30, at most 50) " +
      "for new output or the end, and returns what came, with a new next_cursor.",
  },
  sdk: { method: "readProcess" },
});
