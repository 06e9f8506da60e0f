// Fields that more than one row has: one schema, one description, one limit each.
import * as z from "zod";

export const DEFAULT_ENVIRONMENT = "debian:12";
export const DEFAULT_VCPU_COUNT = 1;
export const DEFAULT_MEM_MIB = 1024;
export const DEFAULT_DISK_MIB = 16_384;
export const DEFAULT_TTL_SECONDS = 3600;
export const DEFAULT_TRANSFER_MIB = 16_384;
export const DEFAULT_ENTRIES = 1_000_000;
/** Where a workspace's own files are in its guest. */
export const WORKSPACE_PATH = "/workspace";
/** Longest wait of one MCP call, seconds. */
export const MAX_WAIT_SECONDS = 50;

export const environment = z
  .string()
  .min(1)
  .max(512)
  .describe(
    "Environment the root file system comes from: a recipe such as debian:12, or an image with its registry such as docker.io/library/node:22",
  );

/** Of a living workspace: unique among those, and never mistaken for an id. */
export const workspaceName = z
  .string()
  .regex(
    /^(?!(?:ws|sh|proc|vm)_)[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/,
    "a name has 1 to 64 letters, digits, dots, underscores and dashes, begins with a letter or digit, and not with ws_, sh_, proc_ or vm_",
  )
  .describe("A name, unique among living workspaces, that stands for the workspace_id everywhere");

/** Names a workspace that there is. */
export const workspaceId = z.string().min(1).max(128).describe("The workspace_id of a workspace, or its name");

export const labels = z
  .record(
    z
      .string()
      .regex(
        /^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$/,
        "a label's key has 1 to 63 letters, digits and ._/-, and begins with a letter or digit",
      ),
    z.string().max(256),
  )
  .describe("Labels, KEY=VALUE");

export const ttlSeconds = z
  .int()
  .min(0)
  .max(31_536_000)
  .describe("Time without activity after which it is stopped, never deleted, seconds; 0 for never");

export const exclude = z
  .array(z.string().min(1).max(4096))
  .max(1000)
  .describe("Leave out what this pattern matches, as in a .gitignore");

export const gitignore = z.boolean().describe("Leave out what git ignores");

export const maxTransferMib = z
  .int()
  .min(1)
  .max(1_048_576)
  .describe("Most that may be sent, MiB, holes of sparse files included");

export const maxEntries = z
  .int()
  .min(1)
  .max(100_000_000)
  .describe("Most files, directories and links that may be sent");

export const listLimit = z.int().min(1).max(1000).default(100).describe("Most rows in the answer");

export const driver = z
  .enum(["auto", "firecracker", "qemu"])
  .describe(
    "What runs the microVM: auto is the first that works on this host, one named is never replaced by another; without it what PYRO_DRIVER or config.json says",
  );
export const vcpuCount = z.int().min(1).max(8).describe("Virtual CPUs, 1 to 8 and no more than the host has");

export const memMib = z.int().min(256).max(32_768).describe("Memory, MiB, 256 to 32768");

export const diskMib = z
  .int()
  .min(64)
  .max(1_048_576)
  .describe("Size of the writable disk, MiB, 64 to 1048576; it takes only what is written");

/** An argument vector, or (not on the command line) a string that `sh -lc` runs. */
export const command = z
  .union([z.array(z.string().max(131_072)).min(1).max(4096), z.string().min(1).max(131_072)])
  .describe("Argument vector, run exactly as given; or one string, run by `sh -lc`");

export const cwd = z
  .string()
  .min(1)
  .max(4096)
  .describe("Working directory in the guest; a relative one is below /workspace, the default");

export const env = z
  .record(z.string().regex(/^[^=\0]+$/, "a variable has a name, without = and NUL"), z.string().max(131_072))
  .describe("Environment variables to add or replace");

export const user = z
  .string()
  .min(1)
  .max(128)
  .describe("User to run as: a name or id of the guest, with :GROUP if wanted; the default is root");

export const tty = z.boolean().describe("Give the command a terminal; stdout and stderr then come as one");

export const noStdin = z.boolean().describe("Give the command no stdin: it reads an end of file at once");

export const NETWORK_POLICIES = ["off", "egress", "egress+published-ports"] as const;
export type NetworkPolicy = (typeof NETWORK_POLICIES)[number];

export const networkPolicy = z
  .enum(NETWORK_POLICIES)
  .describe(
    "What it may reach: off is nothing, it has no network device; egress is public hosts; egress+published-ports also lets services publish ports on this host",
  );

export const allowHosts = z
  .array(
    z
      .string()
      .max(255)
      .regex(
        /^(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*\.?$|^[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*$/,
        "a host is a name such as pypi.org, a pattern such as *.pythonhosted.org, or an address",
      ),
  )
  .max(256)
  .describe("Only these hosts may be reached: names, *.NAME for all below a name, addresses");

export const timeoutSeconds = z
  .number()
  .positive()
  .max(31_536_000)
  .describe("Time after which the whole process tree is killed, seconds; without it there is none");

export const waitSeconds = z
  .number()
  .min(0)
  .max(MAX_WAIT_SECONDS)
  .describe("How long to wait for the end, seconds, at most 50; what runs on is not stopped");

export const maxBytes = z.int().min(1).max(65_536).describe("Most bytes of output in the result, at most 65536");

export const cursor = z.string().min(1).max(64).describe("Where to go on: the next_cursor of an earlier result");

export const outputEncoding = z.enum(["utf-8", "base64"]);

export const timestamp = z.string().describe("RFC 3339, UTC");

export const redacted = z
  .boolean()
  .describe("True when a secret's value was replaced by [redacted:NAME]; cursors and offsets count what was there");

/** What is known of a process and its output: the result of run, exec and process.read. */
export const processResult = {
  process_id: z.string(),
  sequence: z.int().describe("Number of the command in its microVM, from 1"),
  command: z.array(z.string()),
  cwd: z.string(),
  state: z.enum(["running", "exited"]),
  exit_code: z.int().nullable().describe("Exit status, 128+n when a signal ended it; null while it runs"),
  signal: z.string().nullable().describe("Name of the signal that ended it, or null"),
  timed_out: z.boolean(),
  out_of_memory: z
    .boolean()
    .describe("True when the guest's memory ran out and the command, or a child of it, was killed for that"),
  lost_reason: z
    .string()
    .nullable()
    .describe("Why its end is not known, when its microVM ended under it; exit_code is null then"),
  stdout: z.string(),
  stdout_encoding: outputEncoding,
  stdout_truncated: z.boolean(),
  stderr: z.string(),
  stderr_encoding: outputEncoding,
  stderr_truncated: z.boolean(),
  omitted_bytes: z.int().describe("Bytes of output left out of this result, of both streams"),
  next_cursor: z.string().describe("Cursor behind the output in this result"),
  started_at: timestamp,
  duration_ms: z.int().describe("Time from start to end, or until now"),
  redacted,
} as const;

/** A process without its output. */
export const processFacts = {
  process_id: processResult.process_id,
  sequence: processResult.sequence,
  command: processResult.command,
  cwd: processResult.cwd,
  state: processResult.state,
  exit_code: processResult.exit_code,
  signal: processResult.signal,
  timed_out: processResult.timed_out,
  out_of_memory: processResult.out_of_memory,
  lost_reason: processResult.lost_reason,
  started_at: processResult.started_at,
  duration_ms: processResult.duration_ms,
} as const;

/** What of a host's tree was not sent. A name that is not UTF-8 is in path_base64, and readable only in part in path. */
export const skipped = z.array(z.object({ path: z.string(), path_base64: z.string().optional(), reason: z.string() }));

/** What a host path became in a workspace. */
export const transferMode = z.enum(["empty", "directory", "tar", "file"]);
