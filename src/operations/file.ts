// Rows about the files of a workspace: looking at them, changing one, and changing many by a patch.
import * as z from "zod";
import { defineOperation } from "./define.ts";
import * as f from "./fields.ts";
import { START_ERRORS, WORKSPACE_ERRORS } from "./workspace.ts";

/** Most bytes of one read, and of what a read gives unless it is asked for more. */
export const READ_BYTES = { most: 1 << 20, standard: 65_536 } as const;
/** Largest file, and largest patch, of one call, bytes. */
export const CONTENT_BYTES = 16 << 20;
/** The same as base64. */
const CONTENT_CHARACTERS = Math.ceil(CONTENT_BYTES / 3) * 4;

/** Files live where a microVM runs: a stopped workspace is started for them. */
const LEGAL_IN = ["started", "stopped", "failed"] as const;
const FILE_ERRORS = [
  ...WORKSPACE_ERRORS,
  ...START_ERRORS,
  "PATH_OUTSIDE",
  "FILE_NOT_FOUND",
  "FILE_WRONG_KIND",
] as const;
const CHANGE_ERRORS = [...FILE_ERRORS, "PATH_CONFLICT", "GUEST_DISK_FULL"] as const;

const path = z
  .string()
  .min(1)
  .max(4096)
  .describe("Path in the workspace: relative to /workspace, or absolute below it");
/** Which part of a file is read. */
export const readOffset = z.int().min(0).describe("Byte to begin at").optional();
export const readBytes = z
  .int()
  .min(1)
  .max(READ_BYTES.most)
  .describe("Most bytes of content in the result, at most 1048576; 65536 unless given")
  .optional();

export const artifactType = z
  .enum(["file", "directory", "symlink", "other"])
  .describe("other is a fifo, a socket or a device");

/** What is told of a file. */
export const fileFacts = {
  path: z.string().describe("Absolute path in the workspace"),
  path_base64: z.string().optional().describe("The same byte by byte, where it is not UTF-8"),
  artifact_type: artifactType,
  size_bytes: z.int(),
  mode: z.string().describe("Permissions, octal"),
  mtime: f.timestamp,
  link_target: z.string().nullable().describe("What a symbolic link holds"),
} as const;

export const fileList = defineOperation({
  name: "workspace.file_list",
  summary: "List the files of a workspace",
  input: z.object({
    workspace_id: f.workspaceId,
    path: path.default(f.WORKSPACE_PATH),
    recursive: z.boolean().describe("Also list what is in its directories, and in theirs").default(false),
    limit: f.listLimit,
    cursor: z.string().min(1).max(8192).describe("Where to go on: the next_cursor of an earlier result").optional(),
  }),
  output: z.object({
    workspace_id: z.string(),
    path: z.string(),
    entries: z.array(z.object(fileFacts)),
    next_cursor: z.string().nullable(),
  }),
  errors: [...FILE_ERRORS, "CURSOR_INVALID"],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: LEGAL_IN,
  starts: true,
  profiles: ["workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "file", "list"],
    positional: ["workspace_id", "path"],
    examples: ["pyro workspace file list fix-tests src --recursive"],
  },
  mcp: {
    tool: "workspace_file_list",
    title: "List files of a workspace",
    description:
      "Use this to see which files a workspace has, with type, size, mode and time; recursive goes into directories. " +
      "Symbolic links are listed with what they hold and not followed. next_cursor goes on where a long list was cut.",
  },
  sdk: { method: "listWorkspaceFiles" },
});

export const fileRead = defineOperation({
  name: "workspace.file_read",
  summary: "Read a file of a workspace, or a part of it",
  input: z.object({
    workspace_id: f.workspaceId,
    path,
    offset: readOffset,
    lines: z
      .string()
      .regex(/^(?:\d{1,15}|\d{1,15}:\d{0,15}|:\d{1,15})$/, "lines are A:B, A:, :B or A, counted from 1")
      .describe("Lines A:B to read, counted from 1, both included; A: is all from A on")
      .optional(),
    max_bytes: readBytes,
  }),
  output: z.object({
    workspace_id: z.string(),
    ...fileFacts,
    content: z.string(),
    encoding: f.outputEncoding.describe("utf-8, or base64 for content that is not"),
    offset: z.int().describe("Where the content begins in the file"),
    next_offset: z.int().nullable().describe("Offset to go on with; null when all that was asked for is here"),
    truncated: z.boolean().describe("True when more of what was asked for follows"),
    redacted: f.redacted,
  }),
  errors: [...FILE_ERRORS],
  effect: { readOnly: true, destructive: false, idempotent: true, openWorld: false },
  legalIn: LEGAL_IN,
  starts: true,
  profiles: ["workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "file", "read"],
    positional: ["workspace_id", "path"],
    flags: { lines: "--lines <a:b>" },
    examples: [
      "pyro workspace file read fix-tests src/main.c --lines 10:40",
      "pyro workspace file read fix-tests out.png --max-bytes 1048576 --content-only > out.png",
    ],
  },
  mcp: {
    tool: "workspace_file_read",
    title: "Read a file of a workspace",
    description:
      "Use this to read a file, or with lines (such as 10:40) or offset a part of it, without a shell. What is too long is " +
      "cut: truncated is true then, and offset with next_offset goes on. max_bytes asks for more at once, up to 65536.",
  },
  sdk: { method: "readWorkspaceFile" },
});

export const fileWrite = defineOperation({
  name: "workspace.file_write",
  summary: "Write a file of a workspace",
  input: z.object({
    workspace_id: f.workspaceId,
    path,
    text: z.string().max(CONTENT_CHARACTERS).describe("The whole content of the file"),
    text_encoding: f.outputEncoding.describe("utf-8, or base64 for any bytes").default("utf-8"),
  }),
  output: z.object({
    workspace_id: z.string(),
    ...fileFacts,
    created: z.boolean().describe("True when there was no such file before"),
  }),
  errors: [...CHANGE_ERRORS],
  effect: { readOnly: false, destructive: true, idempotent: true, openWorld: false },
  legalIn: LEGAL_IN,
  starts: true,
  profiles: ["workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "file", "write"],
    positional: ["workspace_id", "path"],
    omit: ["text_encoding"],
    examples: [
      "pyro workspace file write fix-tests notes.txt --text 'to do'",
      "pyro workspace file write fix-tests data.bin --file ./data.bin",
      "date | pyro workspace file write fix-tests now --file -",
    ],
  },
  mcp: {
    tool: "workspace_file_write",
    title: "Write a file of a workspace",
    description:
      "Use this to make a file, or to replace all of one, without quoting it through a shell. Directories above it are made. " +
      "A file that is there keeps its mode. To change a part of a file use workspace_file_edit.",
  },
  sdk: { method: "writeWorkspaceFile" },
});

export const fileEdit = defineOperation({
  name: "workspace.file_edit",
  summary: "Replace a text in a file of a workspace",
  input: z
    .object({
      workspace_id: f.workspaceId,
      path,
      old: z.string().min(1).max(1_048_576).describe("The text to replace, exactly as it is in the file"),
      new: z.string().max(1_048_576).describe("The text to put there"),
      all: z.boolean().describe("Replace it everywhere; without this it must be in the file once").default(false),
    })
    .refine((edit) => edit.old !== edit.new, "old and new are the same: nothing would be changed"),
  output: z.object({
    workspace_id: z.string(),
    ...fileFacts,
    replaced_count: z.int(),
    lines: z.array(z.int()).describe("Lines of the old file where it was, at most 20"),
  }),
  errors: [...CHANGE_ERRORS, "TEXT_NOT_FOUND", "TEXT_NOT_UNIQUE"],
  effect: { readOnly: false, destructive: true, idempotent: false, openWorld: false },
  legalIn: LEGAL_IN,
  starts: true,
  profiles: ["workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "file", "edit"],
    positional: ["workspace_id", "path"],
    examples: ["pyro workspace file edit fix-tests main.c --old 'return 1;' --new 'return 0;'"],
  },
  mcp: {
    tool: "workspace_file_edit",
    title: "Edit a file of a workspace",
    description:
      "Use this to change a part of a file: old is replaced by new. old must be exactly what the file has, white space and " +
      "line ends included, and be in it once, so take enough lines around the change; all replaces it everywhere. When it is " +
      "not there, or more than once, nothing is changed and the error names the lines.",
  },
  sdk: { method: "editWorkspaceFile" },
});

export const patchApply = defineOperation({
  name: "workspace.patch_apply",
  summary: "Apply a unified or git patch to the files of a workspace",
  input: z.object({
    workspace_id: f.workspaceId,
    patch: z
      .string()
      .min(1)
      .max(CONTENT_CHARACTERS)
      .describe("What `git diff` or `diff -u` prints; names in it are relative to /workspace"),
    patch_encoding: f.outputEncoding.describe("utf-8, or base64 for any bytes").default("utf-8"),
  }),
  output: z.object({
    workspace_id: z.string(),
    changed: z.boolean(),
    summary: z.object({
      total: z.int(),
      added: z.int(),
      modified: z.int(),
      deleted: z.int(),
      renamed: z.int(),
      copied: z.int(),
      type_changed: z.int(),
      text_patched: z.int().describe("Files of which lines were changed"),
      non_text: z.int().describe("The others: binary, links, modes and moves alone"),
    }),
    entries: z
      .array(
        z.object({
          path: z.string().describe("Relative to /workspace"),
          path_base64: fileFacts.path_base64,
          status: z.enum(["added", "modified", "deleted", "renamed", "copied", "type_changed"]),
          artifact_type: artifactType,
          old_path: z.string().nullable().describe("What it was renamed or copied from"),
        }),
      )
      .describe("What was changed, by path"),
  }),
  errors: [...CHANGE_ERRORS, "PATCH_INVALID", "PATCH_REJECTED"],
  effect: { readOnly: false, destructive: true, idempotent: false, openWorld: false },
  legalIn: LEGAL_IN,
  starts: true,
  profiles: ["workspace-core", "workspace-full"],
  cli: {
    path: ["workspace", "patch", "apply"],
    positional: ["workspace_id"],
    omit: ["patch", "patch_encoding"],
    examples: [
      "git diff | pyro workspace patch apply fix-tests --patch-file -",
      "pyro workspace patch apply fix-tests --patch-file fix.patch",
    ],
  },
  mcp: {
    tool: "workspace_patch_apply",
    title: "Apply a patch to a workspace",
    description:
      "Use this to change many files at once by a patch, such as `git diff` or `diff -u` print it, with a newline at its end. " +
      "Lines of context must be exactly those of the files; they may have moved. All of it is applied or nothing: a patch that " +
      "does not fit is refused with the file, the hunk, and what stands there instead.",
  },
  sdk: { method: "applyWorkspacePatch" },
});
