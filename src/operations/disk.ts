// Rows about the disk of a stopped workspace: what is on it is listed, read and exported without starting the workspace.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import { envEvent } from "./environment.ts";
import * as f from "./fields.ts";
import { fileFacts, readBytes, readOffset } from "./file.ts";
import { MICROVM_ERRORS, WORKSPACE_ERRORS } from "./workspace-errors.ts";

/** One that failed at its start may still be looked at. */
const LEGAL_IN = ["stopped", "failed"] as const;
const DISK_ERRORS = [...WORKSPACE_ERRORS, "ENVIRONMENT_MISSING", ...MICROVM_ERRORS, "DISK_DAMAGED"] as const;
const FILE_ERRORS = [...DISK_ERRORS, "PATH_OUTSIDE", "FILE_NOT_FOUND", "FILE_WRONG_KIND"] as const;

const path = z.string().min(1).max(4096).describe("Path in the whole system; a relative one is below /workspace");
const diskFacts = { ...fileFacts, path: z.string().describe("Absolute path in the system") } as const;

export const diskList = defineOperation({
  name: "workspace.disk_list",
  summary: "List the files on the disk of a stopped workspace",
  input: z.object({
    workspace_id: f.workspaceId,
    path: path.default("/"),
    recursive: z.boolean().describe("Also list what is in its directories, and in theirs").default(false),
    limit: f.listLimit,
    cursor: z.string().min(1).max(8192).describe("Where to go on: the next_cursor of an earlier result").optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    path: z.string(),
    entries: z.array(z.object(diskFacts)),
    next_cursor: z.string().nullable(),
  }),
  errors: [...FILE_ERRORS, "CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: LEGAL_IN,
  starts: true,
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "disk", "list"],
    positional: ["workspace_id", "path"],
    examples: ["pyro workspace disk list fix-tests /etc --recursive"],
  },
  mcp: {
    tool: "workspace_disk_list",
    title: "List the disk of a stopped workspace",
    description:
      "Use this to see what is on the disk of a workspace that is stopped, anywhere in its system, without starting it and " +
      "without running anything of it. next_cursor goes on where a long list was cut. For one that is started use " +
      "workspace_file_list.",
  },
  sdk: { method: "listWorkspaceDisk" },
});

export const diskRead = defineOperation({
  name: "workspace.disk_read",
  summary: "Read a file from the disk of a stopped workspace",
  input: z.object({
    workspace_id: f.workspaceId,
    path,
    offset: readOffset,
    max_bytes: readBytes,
  }),
  output: z.object({
    workspace_id: z.string(),
    ...diskFacts,
    content: z.string(),
    encoding: f.outputEncoding.describe("utf-8, or base64 for content that is not"),
    offset: z.int().describe("Where the content begins in the file"),
    next_offset: z.int().nullable().describe("Offset to go on with; null when the file ends here"),
    truncated: z.boolean().describe("True when more of the file follows"),
    redacted: f.redacted,
  }),
  errors: [...FILE_ERRORS],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: LEGAL_IN,
  starts: true,
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "disk", "read"],
    positional: ["workspace_id", "path"],
    examples: ["pyro workspace disk read fix-tests /var/log/dpkg.log --content-only"],
  },
  mcp: {
    tool: "workspace_disk_read",
    title: "Read from the disk of a stopped workspace",
    description:
      "Use this to read a file, from anywhere in its system, of a workspace that is stopped, without starting it. What is too " +
      "long is cut: truncated is true then, and offset with next_offset goes on. max_bytes asks for more at once, up to 65536.",
  },
  sdk: { method: "readWorkspaceDisk" },
});

export const diskExport = defineOperation({
  name: "workspace.disk_export",
  summary: "Export the whole system of a stopped workspace as an ext4 image",
  input: z.object({
    workspace_id: f.workspaceId,
    output_path: z
      .string()
      .min(1)
      .max(4096)
      .describe("File of this host to make, a sparse one; nothing may be there yet"),
    wait_seconds: f.waitSeconds.optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    output_path: z.string(),
    format: z.enum(["ext4"]),
    bytes_written: z.int().describe("Bytes that the image takes, its holes left out"),
    size_bytes: z.int().describe("Size of the image, its holes included"),
    entry_count: z.int().describe("Files, directories and all else in it"),
  }),
  errors: [...DISK_ERRORS, "DISK_EXPORT_RUNNING", "OUTPUT_EXISTS", "HOST_PATH_FORBIDDEN"],
  effect: { readOnly: false, destructive: false, idempotent: false, openWorld: false },
  legalIn: LEGAL_IN,
  download: "output_path",
  events: envEvent,
  profiles: ["workspace-full"],
  cli: {
    path: ["workspace", "disk", "export"],
    positional: ["workspace_id"],
    omit: ["wait_seconds"],
    flags: { output_path: "--output <file>" },
    examples: ["pyro workspace disk export fix-tests --output fix-tests.ext4"],
  },
  mcp: {
    tool: "workspace_disk_export",
    title: "Export the disk of a stopped workspace",
    description:
      "Use this to have the whole system of a workspace that is stopped as one image of a root file system, in a file of the " +
      "host below a directory that this server may write to. Bytes are copied as they are, secrets too that a program wrote " +
      "there. It takes a minute or more: when wait_seconds is over the export goes on, and the same call waits for it again.",
  },
  sdk: { method: "exportWorkspaceDisk", omit: ["wait_seconds"] },
});
