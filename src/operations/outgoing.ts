// Rows about what leaves a workspace: what was changed in it, and its files.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent } from "./environment.ts";
import * as f from "./fields.ts";
import { artifactType, fileFacts } from "./file.ts";
import { START_ERRORS, WORKSPACE_ERRORS } from "./workspace.ts";

const LEGAL_IN = ["started", "stopped", "failed"] as const;
/** Most that a patch may have unless it is said, MiB. */
const DEFAULT_PATCH_MIB = 1024;
const OUTGOING_ERRORS = [
  ...WORKSPACE_ERRORS,
  ...START_ERRORS,
  "PATH_OUTSIDE",
  "FILE_NOT_FOUND",
  "OUTPUT_EXISTS",
  "HOST_PATH_FORBIDDEN",
] as const;

const outputPath = z.string().min(1).max(4096);

const changeFacts = {
  path: z.string().describe("Relative to /workspace"),
  path_base64: fileFacts.path_base64,
  status: z.enum(["added", "modified", "deleted", "type_changed"]),
  artifact_type: artifactType.describe("What is there now, or for one that was deleted was"),
  text: z.boolean().describe("Lines of text were changed"),
  text_patch: z
    .string()
    .nullable()
    .describe("Its part of the patch, where lines of text were changed and the patch is in the result as UTF-8"),
  insertions: z.int().describe("Lines added"),
  deletions: z.int().describe("Lines deleted"),
  old_bytes: z.int(),
  new_bytes: z.int(),
  in_patch: z
    .boolean()
    .describe(
      "False for what git cannot be given: too large, another mode than its own two, a fifo, an empty directory",
    ),
} as const;

export const workspaceDiff = defineOperation({
  name: "workspace.diff",
  summary: "Show what was changed in a workspace since it was created",
  input: z.object({
    workspace_id: f.workspaceId,
    stat: z.boolean().describe("Only which files, and how many lines; no patch").default(false),
    paths: z
      .array(z.string().min(1).max(4096))
      .max(1000)
      .describe("Only this path of the workspace, and what is below it")
      .optional(),
    output_path: outputPath.describe("File of this host to write the patch to; it must not exist").optional(),
    max_transfer_mib: f.maxTransferMib.describe("Most that the patch may have, MiB").default(DEFAULT_PATCH_MIB),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    changed: z.boolean(),
    summary: z.object({
      total: z.int(),
      added: z.int(),
      modified: z.int(),
      deleted: z.int(),
      type_changed: z.int(),
      text_patched: z.int().describe("Files of which lines were changed"),
      non_text: z.int().describe("The others: binary, empty, links, modes, directories"),
      not_in_patch: z.int().describe("How many of all the patch does not make"),
    }),
    entries: z.array(z.object(changeFacts)).describe("What was changed, by path"),
    entries_truncated: z.boolean().describe("True when there are more than are listed here"),
    patch: z.string().describe("What `git apply` takes; empty when it was written to a file, or not asked for"),
    patch_encoding: f.outputEncoding,
    patch_truncated: z.boolean().describe("True when the patch is longer and cut: it cannot be applied"),
    redacted: f.redacted.describe(
      "True when a secret's value was replaced by [redacted:NAME]: the patch does not make those files",
    ),
    output_path: z.string().nullable().describe("Where on this host the patch is"),
  }),
  errors: [...OUTGOING_ERRORS, "BASELINE_MISSING"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: LEGAL_IN,
  starts: true,
  profiles: ["workspace-core", "workspace-full"],
  download: "output_path",
  events: z.discriminatedUnion("type", [
    envEvent,
    z.object({ type: z.literal("entry"), entry: z.object(changeFacts) }),
  ]),
  cli: {
    path: ["workspace", "diff"],
    positional: ["workspace_id"],
    omit: ["wait_seconds"],
    flags: { paths: "--path <path>", output_path: "--output <file>" },
    examples: [
      "pyro workspace diff fix-tests --stat",
      "pyro workspace diff fix-tests | git apply",
      "pyro workspace diff fix-tests --path src --output fix.patch",
    ],
  },
  mcp: {
    tool: "workspace_diff",
    title: "Show what was changed in a workspace",
    description:
      "Use this to see what was changed in a workspace since it was created, its seed being the beginning: files that were " +
      "pushed since count as changed, and .git is left out. The result has a summary and the changed files; the patch is in " +
      "it only when paths name files or directories to see it of (. is all), and cut where it is too long. output_path writes the whole " +
      "patch to a new file of the host, below a directory this server was allowed to write to; `git apply` takes it.",
  },
  sdk: { method: "diffWorkspace", omit: ["wait_seconds"] },
});

export const workspaceExport = defineOperation({
  name: "workspace.export",
  summary: "Copy a file or a directory of a workspace to this host",
  input: z.object({
    workspace_id: f.workspaceId,
    path: z.string().min(1).max(4096).describe("Path in the workspace: relative to /workspace, or absolute below it"),
    output_path: outputPath.describe("Where to put it on this host; nothing may be there yet"),
    max_transfer_mib: f.maxTransferMib
      .describe("Most that may come, MiB, holes of sparse files included")
      .default(f.DEFAULT_TRANSFER_MIB),
    max_entries: f.maxEntries.describe("Most files, directories and links that may come").default(f.DEFAULT_ENTRIES),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    workspace_path: z.string(),
    output_path: z.string(),
    artifact_type: artifactType,
    entry_count: z.int(),
    bytes_written: z.int(),
    skipped: f.skipped.describe("What was not copied, at most 100 of it"),
    skipped_count: z.int(),
  }),
  errors: [...OUTGOING_ERRORS, "FILE_WRONG_KIND"],
  // It writes, and only where nothing is; a second call finds what the first one made.
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: LEGAL_IN,
  starts: true,
  profiles: ["workspace-core", "workspace-full"],
  download: "output_path",
  events: envEvent,
  cli: {
    path: ["workspace", "export"],
    positional: ["workspace_id", "path"],
    omit: ["wait_seconds"],
    flags: { output_path: "--output <path>" },
    examples: [
      "pyro workspace export fix-tests dist --output ./dist-of-fix-tests",
      "pyro workspace export fix-tests report.pdf --output report.pdf",
    ],
  },
  mcp: {
    tool: "workspace_export",
    title: "Copy files out of a workspace",
    description:
      "Use this to bring a file or a directory of a workspace to the host, as it is: output_path must not exist, and be below " +
      "a directory that this server was allowed to write to. All of it arrives, or nothing does.",
  },
  sdk: { method: "exportWorkspace", omit: ["wait_seconds"] },
});
