// What single commands take on the command line beside the input of their row. Plain data: help and completion read it.
import type { OperationName } from "../operations/table.ts";

/** A flag that is no key of a row's input. */
export interface AddedFlag {
  /** Where Asked.beside holds what was typed. */
  readonly key: string;
  readonly flags: string;
  readonly description: string;
  readonly kind: "boolean" | "record" | "text";
}

export interface Addition {
  /** The positional that may be given any number of times; Asked.beside holds the words, and the input none. */
  readonly several?: string;
  readonly flags?: readonly AddedFlag[];
  /** It exits with the status of the guest's command, and with 125 for what is pyro's own. */
  readonly passesStatus?: boolean;
  /** Its flag `from` names a file of this host, `-` for stdin, whose content is the input's key `into`. */
  readonly content?: { readonly from: string; readonly into: "text" | "patch" };
  /** A paragraph of what the flags alone do not tell, below them in the help. */
  readonly note?: string;
}

const ADDITIONS: { readonly [N in OperationName]?: Addition } = {
  run: { passesStatus: true },
  "workspace.create": {
    note: "A directory's own content is sent, .git with it; a .pyroignore in it leaves out what it matches, as a .gitignore does. Files belong to root then.",
  },
  "workspace.delete": {
    several: "workspace_id",
    flags: [
      {
        key: "label",
        flags: "--label <KEY=VALUE>",
        description: "All that have this label; of several, all of them (may be repeated)",
        kind: "record",
      },
      { key: "all", flags: "--all", description: "All workspaces there are; asks first", kind: "boolean" },
      { key: "yes", flags: "--yes", description: "Do not ask", kind: "boolean" },
    ],
  },
  "workspace.sync_push": {
    note: "A directory's own content goes into --dest. Nothing is deleted, and all of it arrives or nothing does.",
  },
  "workspace.exec": {
    passesStatus: true,
    note: "Stdin is passed on from a pipe or file, and from a terminal only with -t. The first Ctrl-C goes to the command, a second ends it. It exits with the command's status, 124 when its time ran out, 125 when pyro itself failed. With --detach stdin stays open for `pyro workspace process write`.",
  },
  "workspace.logs": {
    note: "With --follow --json every entry is a line of JSON.",
  },
  "workspace.file_read": {
    flags: [
      {
        key: "content_only",
        flags: "--content-only",
        description: "Print the content and nothing else; what is cut is still told",
        kind: "boolean",
      },
    ],
    note: "The content goes to stdout as it is, what is to be known of it to stderr.",
  },
  "workspace.file_write": {
    flags: [
      {
        key: "file",
        flags: "--file <path>",
        description: "File of this host that has the content; - for stdin",
        kind: "text",
      },
    ],
    content: { from: "file", into: "text" },
    note: "It takes --text or --file, and at most 16 MiB; `pyro workspace sync push` takes files of any size.",
  },
  "workspace.patch_apply": {
    flags: [
      {
        key: "patch_file",
        flags: "--patch-file <path>",
        description: "File of this host that has the patch; - for stdin",
        kind: "text",
      },
    ],
    content: { from: "patch_file", into: "patch" },
    note: "All of it is applied, or nothing. Lines of context must be those of the files, and may have moved.",
  },
  "workspace.diff": {
    note: "The patch goes to stdout as `git apply` takes it, what it does not make is told on stderr. What was pushed since the creation counts as a change; git's own directories are left out unless --path names one, and are in no patch.",
  },
  "workspace.export": {
    note: "All of it arrives, or nothing does. Modes, times and links are kept; files are yours, and none keeps setuid, setgid or sticky.",
  },
  "workspace.disk_read": {
    flags: [
      {
        key: "content_only",
        flags: "--content-only",
        description: "Print the content and nothing else; what is cut is still told",
        kind: "boolean",
      },
    ],
    note: "The content goes to stdout as it is, what is to be known of it to stderr.",
  },
  "workspace.disk_export": {
    note: "The image is a sparse file that mounts anywhere: `mount -o loop,ro FILE DIR`. It holds all that the workspace's processes had as their root, without what /tmp, /run, /proc, /sys and /dev held.",
  },
  "process.write": {
    note: "`--input -` sends what comes on stdin, of any bytes and any length.",
  },
  "service.start": {
    note: "At most one of the --ready options says what makes it ready; it is looked at from inside the guest. Without one it is ready as soon as it runs. One that ends before it is ready, or is not ready in time, has failed: the end of its log is shown, and the exit status is 1. Ctrl-C while it is waited for ends it.",
  },
  "service.logs": {
    note: "With --follow --json every piece is a line of JSON.",
  },
  "process.wait": {
    passesStatus: true,
    note: "It exits with the command's status, 124 when its time ran out, 125 when its end is not known or pyro itself failed. Ctrl-C ends the wait, not the command.",
  },
  "shell.write": {
    note: "`--input -` types what comes on stdin. Keys are named as tmux names them: C-c, M-x, Up, Enter, Tab, Escape, BSpace, PageUp, F1.",
  },
  "shell.read": {
    note: "Without --plain or --screen it prints the bytes as they are, escape sequences included.",
  },
  "shell.attach": {
    flags: [
      {
        key: "detach_key",
        flags: "--detach-key <keys>",
        description: "Keys that leave the shell running, such as `C-p C-q` (default: C-])",
        kind: "text",
      },
    ],
    passesStatus: true,
    note: "Without a SHELL it opens one. It exits with the shell's status when that ends, with 0 when it was left, 125 when pyro itself failed. Several may use one shell at once: it has the size of the terminal that changed last.",
  },
};

export function additionFor(name: OperationName): Addition {
  return ADDITIONS[name] ?? {};
}
