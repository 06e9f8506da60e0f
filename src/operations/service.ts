// Rows about services: named processes of a workspace that go on after the call that started them, with readiness.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent } from "./environment.ts";
import * as f from "./fields.ts";
import { secretEnv } from "./secret.ts";
import { START_ERRORS, WORKSPACE_ERRORS } from "./workspace.ts";

export const SERVICE_NAME_PATTERN = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
/** Lines of a log that are shown when nothing else is asked for. */
export const DEFAULT_TAIL = "200";
/** Longest grace time, seconds. */
const MAX_GRACE_SECONDS = 3600;

const serviceName = z
  .string()
  .regex(
    SERVICE_NAME_PATTERN,
    "a name has 1 to 64 letters, digits, dots, underscores and dashes, and begins with a letter or digit",
  )
  .describe("The name of the service, unique in its workspace");

const ofService = { workspace_id: f.workspaceId, service_name: serviceName } as const;

/** What is known of a service. */
export const serviceRecord = {
  workspace_id: z.string(),
  service_name: z.string(),
  state: z
    .enum(["starting", "running", "exited", "stopped", "failed"])
    .describe("starting until it is ready; exited by itself, stopped by somebody, failed when it never became ready"),
  command: z.array(z.string()),
  cwd: z.string(),
  started_at: f.timestamp,
  ready_at: f.timestamp.nullable().describe("When it was ready; null when it is not, or was not"),
  ended_at: f.timestamp.nullable(),
  exit_code: z
    .int()
    .nullable()
    .describe("Exit status, 128+n when a signal ended it; null while it runs, or when it is not known"),
  readiness: z
    .object({
      type: z.enum(["file", "tcp", "http", "command"]),
      target: z.string(),
      timeout_seconds: z.number(),
      interval_ms: z.int(),
      last_reason: z.string().nullable().describe("Why it was not ready when it was last looked at"),
    })
    .nullable()
    .describe("What makes it ready; null when it is as soon as it runs"),
  stop_reason: z
    .enum([
      "requested",
      "cancelled",
      "workspace_idle",
      "workspace_stopped",
      "workspace_lost",
      "not_ready",
      "ended_early",
      "lost",
    ])
    .nullable()
    .describe(
      "Why it was stopped (requested, its start cancelled, its workspace stopped or lost), or has failed (not ready in time, ended before it was ready, lost)",
    ),
  failure: z
    .object({ message: z.string(), log_tail: z.string(), log_tail_encoding: z.literal("utf-8") })
    .nullable()
    .describe("Why it failed, with the end of its log"),
  published_ports: z
    .array(z.object({ host: z.string(), host_port: z.int(), guest_port: z.int() }))
    .describe("Ports of the host that lead to it, at 127.0.0.1 and [::1]; none when it does not run"),
} as const;

const SERVICE_ERRORS = ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "SERVICE_NOT_FOUND"] as const;

export const serviceStart = defineOperation({
  name: "service.start",
  summary: "Start a service in a workspace, and wait until it is ready",
  input: z.object({
    ...ofService,
    command: f.command,
    cwd: f.cwd.optional(),
    env: f.env.optional(),
    secret_env: secretEnv.optional(),
    ready_file: z
      .string()
      .min(1)
      .max(4096)
      .describe("Ready when this is there: a path of the guest, a relative one below /workspace")
      .optional(),
    ready_tcp: z
      .string()
      .regex(/^(\[[0-9A-Fa-f:.]+\]|[^\s:[\]/]+):\d{1,5}$/, "it is HOST:PORT, an IPv6 address in brackets")
      .max(300)
      .describe("Ready when HOST:PORT takes a connection from inside the guest, localhost:8000 for example")
      .optional(),
    ready_http: z
      .string()
      .regex(/^https?:\/\/\S+$/, "it is a URL that begins with http:// or https://")
      .max(2048)
      .describe("Ready when this URL answers with a status of 200 to 399, from inside the guest")
      .optional(),
    ready_command: z
      .string()
      .min(1)
      .max(65_536)
      .describe(
        "Ready when this command exits with 0; `sh -lc` runs it, with the directory and variables of the service",
      )
      .optional(),
    ready_timeout_seconds: z
      .number()
      .positive()
      .max(86_400)
      .describe("Time to become ready, seconds; the service is ended when it is over")
      .default(30),
    publish: z
      .array(z.string().regex(/^(\d{1,5}:)?\d{1,5}$/, "it is GUEST_PORT or HOST_PORT:GUEST_PORT"))
      .max(16)
      .describe(
        "Ports that 127.0.0.1 and [::1] of the host have while it runs, [HOST_PORT:]GUEST_PORT; without HOST_PORT one that is free",
      )
      .optional(),
    ready_interval_ms: z.int().min(10).max(60_000).describe("Between two looks whether it is ready, ms").default(500),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object(serviceRecord),
  errors: [
    ...WORKSPACE_ERRORS,
    ...START_ERRORS,
    "SERVICE_EXISTS",
    "SERVICE_FAILED",
    "CWD_NOT_FOUND",
    "PORT_TAKEN",
    "POLICY_FORBIDDEN",
  ],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "service", "start"],
    positional: ["workspace_id", "service_name"],
    rest: "command",
    omit: ["wait_seconds"],
    flags: {
      env: "--env <NAME=VALUE>",
      secret_env: "--secret-env <NAME[=ENV]>",
      publish: "--publish <[host_port:]guest_port>",
    },
    examples: [
      "pyro workspace service start fix-tests web --ready-http http://localhost:8000/ -- python3 -m http.server 8000",
      "pyro workspace service start fix-tests db --ready-tcp localhost:5432 --ready-timeout-seconds 60 -- ./start-db",
    ],
  },
  mcp: {
    tool: "service_start",
    title: "Start a service",
    description:
      "Use this to run a server or another long-running program in a workspace beside your commands: it goes on after the call, " +
      "under a name, with a log that service_logs shows. A string is run by a shell, a list exactly as given. Say with ready_http, " +
      "ready_tcp, ready_file or ready_command what makes it ready (all seen from inside the workspace): the call answers when it is, " +
      'or with SERVICE_FAILED and the end of its log. It answers within wait_seconds (default 30, at most 50): when state is "starting" ' +
      "then, it is still waited for, and service_status tells how it stands. To reach it, run a command in the workspace, such as " +
      "curl or python3. A service does not keep a workspace from being stopped when nothing else is done with it for ttl_seconds.",
  },
  sdk: { method: "startService", omit: ["wait_seconds"] },
});

export const serviceList = defineOperation({
  name: "service.list",
  summary: "List the services of a workspace, by name",
  input: z.object({ workspace_id: f.workspaceId, limit: f.listLimit, cursor: f.cursor.optional() }),
  output: z.object({
    workspace_id: z.string(),
    services: z.array(z.object(serviceRecord)),
    next_cursor: z.string().nullable(),
  }),
  errors: ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "service", "list"],
    positional: ["workspace_id"],
    examples: ["pyro workspace service list fix-tests"],
  },
  mcp: {
    tool: "service_list",
    title: "List a workspace's services",
    description:
      "Use this to see which services a workspace has, with their states; those that have ended are listed too.",
  },
  sdk: { method: "listServices" },
});

export const serviceStatus = defineOperation({
  name: "service.status",
  summary: "Show a service",
  input: z.object({ ...ofService, wait_seconds: f.waitSeconds.optional() }),
  output: z.object(serviceRecord),
  errors: SERVICE_ERRORS,
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "service", "status"],
    positional: ["workspace_id", "service_name"],
    omit: ["wait_seconds"],
    examples: ["pyro workspace service status fix-tests web"],
  },
  mcp: {
    tool: "service_status",
    title: "Show a service",
    description:
      'Use this to see how a service stands. One that is "starting" is waited for, up to wait_seconds (default 30, at most 50); any ' +
      "other state is told at once.",
  },
  sdk: { method: "statusService", omit: ["wait_seconds"] },
});

export const serviceStop = defineOperation({
  name: "service.stop",
  summary: "Stop a service with all that it started",
  input: z.object({
    ...ofService,
    grace_seconds: z
      .number()
      .min(0)
      .max(MAX_GRACE_SECONDS)
      .describe("Time between SIGTERM and SIGKILL, seconds")
      .default(10),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object(serviceRecord),
  errors: [...SERVICE_ERRORS, "WORKSPACE_FAILED", "MICROVM_LOST", "GUEST_UNRESPONSIVE"],
  effect: { readOnly: false, destructive: true, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  events: envEvent,
  cli: {
    path: ["workspace", "service", "stop"],
    positional: ["workspace_id", "service_name"],
    omit: ["wait_seconds"],
    examples: ["pyro workspace service stop fix-tests web"],
  },
  mcp: {
    tool: "service_stop",
    title: "Stop a service",
    description:
      "Use this to end a service: all that it started is asked to end, and killed after grace_seconds. One that has ended stays as it " +
      'is. When state is "running" after wait_seconds it is still ending.',
  },
  sdk: { method: "stopService", omit: ["wait_seconds"] },
});

/** Bytes of the log travel beside these, as those of a command do. */
const logEvent = z.object({ type: z.literal("gap"), dropped_bytes: z.int() });

export const serviceLogs = defineOperation({
  name: "service.logs",
  summary: "Show what a service printed",
  input: z.object({
    ...ofService,
    tail: z
      .string()
      .regex(/^(all|\d{1,6})$/, "it is a number of lines, or all")
      .describe("Begin with that many of the last lines, or `all`; with a cursor it is not looked at")
      .default(DEFAULT_TAIL),
    cursor: f.cursor.optional(),
    follow: z.boolean().describe("Go on with what it prints, until it ends or this is interrupted").default(false),
    max_bytes: f.maxBytes
      .describe("Most bytes of the log in the result, at most 65536; without it the log is streamed beside the result")
      .optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    service_name: z.string(),
    state: serviceRecord.state,
    exit_code: serviceRecord.exit_code,
    output: z.string().describe("What it printed, stdout and stderr as they came"),
    output_encoding: f.outputEncoding,
    omitted_bytes: z.int().describe("Bytes before the end of this output that it lacks"),
    next_cursor: z.string().describe("Cursor behind the output in this result"),
    redacted: f.redacted,
  }),
  errors: [...SERVICE_ERRORS, "CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-full"],
  events: logEvent,
  resumes: true,
  cli: {
    path: ["workspace", "service", "logs"],
    positional: ["workspace_id", "service_name"],
    examples: [
      "pyro workspace service logs fix-tests web --tail 20",
      "pyro workspace service logs fix-tests web --follow --json",
    ],
  },
  mcp: {
    tool: "service_logs",
    title: "Show a service's log",
    description:
      "Use this to read what a service printed: the last lines (tail), or from the next_cursor of an earlier result on. Output over " +
      "the limit is cut, and next_cursor goes on from there.",
    omit: ["follow"],
  },
  sdk: { method: "logsService" },
});
