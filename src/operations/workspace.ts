// Rows about workspaces: making, finding, changing and ending one, and bringing files in.
import * as z from "zod";
import { changesSomething } from "./changes.ts";
import { defineOperation } from "./define.ts";
import { envEvent, PULL_ERRORS } from "./environment.ts";
import * as f from "./fields.ts";
import { SECRET_ERRORS, secretEnv, secretFacts, secretFor, secrets } from "./secret.ts";
import { TRANSFER_ERRORS } from "./transfer.ts";
import { START_ERRORS, WORKSPACE_ERRORS } from "./workspace-errors.ts";

export { START_ERRORS, WORKSPACE_ERRORS };

export const workspaceRecord = {
  workspace_id: z.string(),
  name: z.string().nullable(),
  labels: z.record(z.string(), z.string()),
  environment: z.string(),
  environment_digest: z.string().nullable().describe("sha256 of the image it stands on; null while that is prepared"),
  driver: z.string().nullable().describe("What runs its microVM; null until one was started"),
  acceleration: z.enum(["kvm", "tcg"]).nullable(),
  vcpu_count: z.int(),
  mem_mib: z.int(),
  disk_mib: z.int(),
  disk_used_bytes: z.int().describe("Bytes that its disks take on the host"),
  state: z.enum(["creating", "started", "stopped", "failed"]),
  stop_reason: z
    .enum(["idle", "stopped", "lost"])
    .nullable()
    .describe(
      "Why it is stopped: no activity for ttl_seconds, asked to, or its microVM was lost. idle and lost: the next operation starts it again; stopped: only a start does",
    ),
  failure: z
    .object({ stage: z.string(), message: z.string(), console_tail: z.string() })
    .nullable()
    .describe("Why it failed"),
  network_policy: z.enum(f.NETWORK_POLICIES),
  allow_hosts: z.array(z.string()).describe("The only hosts it may reach; none for every public one"),
  workspace_path: z.string(),
  seed: z.object({
    mode: f.transferMode,
    seed_path: z.string().nullable(),
    entry_count: z.int(),
    bytes_written: z.int(),
    skipped: f.skipped.describe("What was not sent, at most 100 of it"),
    skipped_count: z.int(),
  }),
  secrets: z.array(z.object(secretFacts)),
  created_at: f.timestamp,
  last_activity_at: f.timestamp,
  ttl_seconds: z.int(),
  expires_at: f.timestamp
    .nullable()
    .describe("When it is stopped unless something happens; null while something runs, or when it never is"),
  command_count: z.int(),
  last_command: z
    .object({
      process_id: z.string(),
      sequence: z.int(),
      command: z.array(z.string()),
      state: z.enum(["running", "exited"]),
      exit_code: z.int().nullable(),
      started_at: f.timestamp,
    })
    .nullable(),
  shell_count: z.int().describe("Shells that were opened in it; they are no commands"),
  running_shell_count: z.int(),
  service_count: z.int(),
  running_service_count: z.int(),
  snapshot_count: z.int().describe("Snapshots that were made of it; the baseline is not counted"),
  reset_count: z.int(),
  last_reset_at: f.timestamp.nullable(),
} as const;

export const workspaceCreate = defineOperation({
  name: "workspace.create",
  summary: "Create a workspace, seeded with a directory, a file or an archive of this host",
  input: z.object({
    environment: f.environment.default(f.DEFAULT_ENVIRONMENT),
    vcpu_count: f.vcpuCount.default(f.DEFAULT_VCPU_COUNT),
    mem_mib: f.memMib.default(f.DEFAULT_MEM_MIB),
    disk_mib: f.diskMib.default(f.DEFAULT_DISK_MIB),
    driver: f.driver.optional(),
    seed_path: z
      .string()
      .min(1)
      .max(4096)
      .describe("Directory, file, .tar, .tar.gz or .tgz of this host that becomes the content of /workspace")
      .optional(),
    seed: z
      .enum(["project", "empty"])
      .describe("Instead of seed_path: the server's project, which is the default where it has one, or nothing")
      .optional(),
    exclude: f.exclude.optional(),
    gitignore: f.gitignore.default(false),
    max_transfer_mib: f.maxTransferMib.default(f.DEFAULT_TRANSFER_MIB),
    max_entries: f.maxEntries.default(f.DEFAULT_ENTRIES),
    name: f.workspaceName.optional(),
    labels: f.labels.optional(),
    env: f.env.describe("Environment variables that every command in it gets").optional(),
    secrets: secrets.optional(),
    secret_for: secretFor.optional(),
    ttl_seconds: f.ttlSeconds.default(f.DEFAULT_TTL_SECONDS),
    network_policy: f.networkPolicy.default("off"),
    allow_hosts: f.allowHosts.optional(),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object(workspaceRecord),
  errors: [
    "ENVIRONMENT_PREPARING",
    "WORKSPACE_NAME_TAKEN",
    "POLICY_FORBIDDEN",
    ...PULL_ERRORS,
    ...START_ERRORS.filter((code) => code !== "LIMIT_EXCEEDED" && code !== "DISK_EXPORT_RUNNING"),
    ...TRANSFER_ERRORS,
    ...SECRET_ERRORS,
  ],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: [],
  profiles: ["workspace-core", "workspace-full"],
  upload: "seed_path",
  events: envEvent,
  cli: {
    path: ["workspace", "create"],
    positional: ["environment"],
    omit: ["seed", "wait_seconds"],
    flags: {
      labels: "--label <KEY=VALUE>",
      env: "--env <NAME=VALUE>",
      secrets: "--secret <NAME[=SOURCE]>",
      secret_for: "--secret-for <NAME=HOST[,HOST]>",
      seed_path: "--seed-path <path>",
      exclude: "--exclude <glob>",
      allow_hosts: "--allow-host <host>",
    },
    idOnly: "workspace_id",
    examples: [
      "pyro workspace create --seed-path . --name fix-tests",
      "pyro workspace create debian:12-build --mem-mib 4096 --label team=core --id-only",
      "pyro workspace create --network-policy egress --secret TOKEN --secret-for TOKEN=api.github.com,github.com",
    ],
  },
  mcp: {
    tool: "workspace_create",
    title: "Create a workspace",
    description:
      "Use this to get a computer of your own for a task: a microVM that keeps its files between calls until it is " +
      "deleted. seed_path is a directory, file or tar archive on the host that becomes the content of /workspace; only " +
      "paths this server was allowed to read may be named. The result's workspace_id goes into every other workspace " +
      "tool. It has no network unless network_policy egress is asked for and this server allows that; allow_hosts narrows " +
      "it. ENVIRONMENT_PREPARING means the environment is being built: make the same call again in a minute. When the " +
      'state is "creating" the seed is still being sent: ask workspace_status until it is "started".',
    omit: ["driver"],
  },
  sdk: { method: "createWorkspace", omit: ["seed", "wait_seconds"] },
});

export const workspaceList = defineOperation({
  name: "workspace.list",
  summary: "List workspaces, the oldest first",
  input: z.object({
    labels: f.labels.describe("Only those that have all of these labels").optional(),
    limit: f.listLimit,
    cursor: f.cursor.optional(),
  }),
  output: z.object({ workspaces: z.array(z.object(workspaceRecord)), next_cursor: z.string().nullable() }),
  errors: ["CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: [],
  profiles: ["workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "list"],
    flags: { labels: "--label <KEY=VALUE>" },
    examples: ["pyro workspace list --label team=core"],
  },
  mcp: {
    tool: "workspace_list",
    title: "List workspaces",
    description: "Use this to find the workspaces there are, with their state, name and labels.",
  },
  sdk: { method: "listWorkspaces" },
});

export const workspaceStatus = defineOperation({
  name: "workspace.status",
  summary: "Show a workspace",
  input: z.object({ workspace_id: f.workspaceId }),
  output: z.object(workspaceRecord),
  errors: ["WORKSPACE_NOT_FOUND"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-core", "workspace-full"],
  cli: { path: ["workspace", "status"], positional: ["workspace_id"], examples: ["pyro workspace status fix-tests"] },
  mcp: {
    tool: "workspace_status",
    title: "Show a workspace",
    description:
      "Use this to see a workspace's state, sizes, seed, and its last command. A stopped one starts by itself when it is used, unless its stop_reason is stopped.",
  },
  sdk: { method: "statusWorkspace" },
});

export const workspaceUpdate = defineOperation({
  name: "workspace.update",
  summary: "Change a workspace's name, labels or time to live",
  input: z
    .object({
      workspace_id: f.workspaceId,
      name: f.workspaceName.optional(),
      clear_name: z.boolean().describe("Take its name away").default(false),
      labels: f.labels.describe("Labels to add or replace").optional(),
      clear_labels: z.array(z.string().min(1).max(63)).max(64).describe("Keys of labels to take away").optional(),
      ttl_seconds: f.ttlSeconds.optional(),
    })
    .refine(changesSomething, "it has to be said what is to change: the name, labels or the time to live"),
  output: z.object(workspaceRecord),
  errors: ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "WORKSPACE_NAME_TAKEN", "LIMIT_EXCEEDED"],
  effect: { readOnly: false, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "update"],
    positional: ["workspace_id"],
    flags: { labels: "--label <KEY=VALUE>", clear_labels: "--clear-label <key>" },
    examples: ["pyro workspace update fix-tests --ttl-seconds 600 --label done=yes"],
  },
  mcp: {
    tool: "workspace_update",
    title: "Change a workspace",
    description:
      "Use this to rename a workspace, to label it, or to change after how long without activity it is stopped.",
  },
  sdk: { method: "updateWorkspace" },
});

export const workspaceDelete = defineOperation({
  name: "workspace.delete",
  summary: "Delete a workspace with everything in it",
  input: z.object({ workspace_id: f.workspaceId }),
  output: z.object({ workspace_id: z.string(), deleted: z.boolean() }),
  errors: ["WORKSPACE_NOT_FOUND"],
  effect: { readOnly: false, destructive: true, idempotent: false, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "delete"],
    positional: ["workspace_id"],
    examples: [
      "pyro workspace delete fix-tests",
      "pyro workspace delete --label team=core",
      "pyro workspace delete --all --yes",
    ],
  },
  mcp: {
    tool: "workspace_delete",
    title: "Delete a workspace",
    description:
      "Use this when a workspace is done with: its microVM, its files and its logs are gone for good, and what ran in it is ended.",
  },
  sdk: { method: "deleteWorkspace" },
});

export const workspaceSyncPush = defineOperation({
  name: "workspace.sync_push",
  summary: "Push a directory, a file or an archive of this host into a workspace",
  input: z.object({
    workspace_id: f.workspaceId,
    source_path: z.string().min(1).max(4096).describe("Directory, file, .tar, .tar.gz or .tgz of this host"),
    destination: z
      .string()
      .min(1)
      .max(4096)
      .describe("Directory in the workspace that the content goes into, /workspace or below; made where it is missing")
      .default(f.WORKSPACE_PATH),
    exclude: f.exclude.optional(),
    gitignore: f.gitignore.default(false),
    max_transfer_mib: f.maxTransferMib.default(f.DEFAULT_TRANSFER_MIB),
    max_entries: f.maxEntries.default(f.DEFAULT_ENTRIES),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    mode: f.transferMode,
    source_path: z.string(),
    destination: z.string(),
    entry_count: z.int(),
    bytes_written: z.int(),
    skipped: f.skipped.describe("What was not sent, at most 100 of it"),
    skipped_count: z.int(),
  }),
  errors: [...WORKSPACE_ERRORS, ...TRANSFER_ERRORS, ...START_ERRORS],
  effect: { readOnly: false, destructive: true, idempotent: true, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-core", "workspace-full"],
  upload: "source_path",
  events: envEvent,
  cli: {
    path: ["workspace", "sync", "push"],
    positional: ["workspace_id", "source_path"],
    omit: ["wait_seconds"],
    flags: { destination: "--dest <path>", exclude: "--exclude <glob>" },
    examples: [
      "pyro workspace sync push fix-tests . --gitignore",
      "pyro workspace sync push fix-tests notes.md --dest docs",
    ],
  },
  mcp: {
    tool: "workspace_sync_push",
    title: "Push files into a workspace",
    description:
      "Use this to bring changed files of the host into a workspace: it adds and replaces, and deletes nothing. source_path is a " +
      "directory (its content goes into destination), a file or a tar archive; only paths this server was allowed to read " +
      "may be named. All of it arrives, or nothing does.",
  },
  sdk: { method: "syncPushWorkspace", omit: ["wait_seconds"] },
});

const logEntry = z.object({ workspace_id: z.string(), ...f.processResult });

export const workspaceExec = defineOperation({
  name: "workspace.exec",
  summary: "Run a command in a workspace",
  input: z.object({
    workspace_id: f.workspaceId,
    command: f.command,
    cwd: f.cwd.optional(),
    env: f.env.optional(),
    secret_env: secretEnv.optional(),
    user: f.user.optional(),
    tty: f.tty.default(false),
    no_stdin: f.noStdin.default(false),
    timeout_seconds: f.timeoutSeconds.optional(),
    detach: z.boolean().describe("Do not wait for it: answer as soon as it runs").default(false),
    wait_seconds: f.waitSeconds.optional(),
    max_bytes: f.maxBytes.optional(),
  }),
  output: logEntry,
  errors: [...WORKSPACE_ERRORS, ...START_ERRORS, "CWD_NOT_FOUND", "USER_NOT_FOUND", "SECRET_UNKNOWN"],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: ["started", "stopped", "failed"],
  profiles: ["workspace-core", "workspace-full"],
  stdin: true,
  events: z.discriminatedUnion("type", [
    envEvent,
    z.object({ type: z.literal("started"), workspace_id: z.string(), process_id: z.string() }),
    z.object({ type: z.literal("gap"), dropped_bytes: z.int() }),
  ]),
  cli: {
    path: ["workspace", "exec"],
    positional: ["workspace_id"],
    rest: "command",
    omit: ["wait_seconds", "max_bytes"],
    flags: { env: "--env <NAME=VALUE>", secret_env: "--secret-env <NAME[=ENV]>", tty: "-t, --tty" },
    examples: [
      "pyro workspace exec fix-tests -- git status",
      "pyro workspace exec fix-tests --cwd src -- sh -c 'make && make test'",
      "pyro workspace exec fix-tests --detach -- make all",
    ],
  },
  mcp: {
    tool: "workspace_exec",
    title: "Run a command in a workspace",
    description:
      "Use this to run a command in a workspace, as root in /workspace unless cwd or user say otherwise. A string is run by a " +
      "shell, a list exactly as given. The call answers within wait_seconds (default 30, at most 50); if the command still " +
      'runs then, state is "running": it goes on, and process_read with workspace_id, process_id and next_cursor goes on ' +
      "from there. detach answers at once; stdin is then kept open for process_write where there is that tool, and closed " +
      "otherwise. What a command leaves running in the background lives on. Output over the limit " +
      "keeps its head and tail and says how many bytes were left out.",
    omit: ["tty", "no_stdin"],
  },
  sdk: { method: "execWorkspace", omit: ["wait_seconds", "max_bytes"] },
});

export const workspaceLogs = defineOperation({
  name: "workspace.logs",
  summary: "Show the commands of a workspace with their output",
  input: z.object({
    workspace_id: f.workspaceId,
    limit: f.listLimit,
    cursor: f.cursor
      .describe("Where to go on: the next_cursor of an earlier result, or the sequence of the last entry that was seen")
      .optional(),
    follow: z.boolean().describe("Go on with what ends later, until it is interrupted").default(false),
    max_bytes: f.maxBytes.describe("Most bytes of output in each entry, at most 65536").optional(),
  }),
  output: z.object({ workspace_id: z.string(), entries: z.array(logEntry), next_cursor: z.string().nullable() }),
  errors: ["WORKSPACE_NOT_FOUND", "WORKSPACE_STATE", "CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: ["creating", "started", "stopped", "failed"],
  profiles: ["workspace-core", "workspace-full"],
  events: z.object({ type: z.literal("entry"), entry: logEntry }),
  cli: {
    path: ["workspace", "logs"],
    positional: ["workspace_id"],
    examples: ["pyro workspace logs fix-tests --limit 5", "pyro workspace logs fix-tests --follow --json"],
  },
  mcp: {
    tool: "workspace_logs",
    title: "Show a workspace's commands",
    description:
      "Use this to see what was run in a workspace, in order, with exit codes and the beginning of each output; process_read " +
      "has the rest of one.",
    omit: ["follow"],
  },
  sdk: { method: "logsWorkspace" },
});
