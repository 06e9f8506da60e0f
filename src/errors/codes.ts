// Every error code of pyro, with what follows from it. Codes are chosen here, and in the parts of this that it names.
import { ENVIRONMENT_CODES } from "./environment-codes.ts";
import { type CodeFacts, OPERATOR_HINT } from "./facts.ts";
import { NETWORK_CODES } from "./network-codes.ts";
import { OUTGOING_CODES } from "./outgoing-codes.ts";
import { SECRET_CODES } from "./secret-codes.ts";

export const CODES = {
  INVALID_INPUT: {
    exit: 2,
    retryable: false,
    hint: "See the command's --help for what it takes.",
    mcpHint: "Correct the named argument; the tool's input schema says what it takes.",
  },
  UNKNOWN_OPERATION: {
    exit: 2,
    retryable: false,
    hint: "See `pyro --help` for what there is; a daemon of another version may be running: `pyro daemon stop`.",
    mcpHint: "List the tools again: this server does not have the one that was called.",
  },
  ...ENVIRONMENT_CODES,
  HOST_UNSUPPORTED: {
    exit: 1,
    retryable: false,
    hint: "pyro runs on x86-64 Linux; `pyro doctor` says what is missing.",
    mcpHint: OPERATOR_HINT,
  },
  HOST_TOOL_MISSING: {
    exit: 1,
    retryable: false,
    hint: "Install the named package; `pyro doctor` lists everything that is missing.",
    mcpHint: OPERATOR_HINT,
  },
  HOST_MEMORY_SHORT: {
    exit: 1,
    retryable: true,
    hint: "Ask for less with --mem-mib, or end something else on this host.",
    mcpHint: "Ask for less with `mem_mib`, or try again later.",
  },
  HOST_DISK_FULL: {
    exit: 1,
    retryable: true,
    hint: "Free space where PYRO_HOME (or XDG_STATE_HOME) is; nothing was lost.",
    mcpHint: OPERATOR_HINT,
  },
  HOST_IO_FAILED: {
    exit: 1,
    retryable: false,
    hint: "Check permissions and free space where PYRO_HOME (or XDG_STATE_HOME) is.",
    mcpHint: OPERATOR_HINT,
  },
  LIMIT_EXCEEDED: {
    exit: 2,
    retryable: false,
    hint: "Ask for less; the message names the limit.",
    mcpHint: "Ask for less; the message names the limit.",
  },
  ...NETWORK_CODES,
  ...OUTGOING_CODES,
  CONFINEMENT_UNAVAILABLE: {
    exit: 1,
    retryable: false,
    hint: "`pyro doctor` names the fix; PYRO_UNCONFINED=1 runs the VMM without bubblewrap, at your own risk.",
    mcpHint: OPERATOR_HINT,
  },
  DRIVER_UNAVAILABLE: {
    exit: 1,
    retryable: false,
    hint: "`pyro doctor` says what is in its way; without --driver and PYRO_DRIVER pyro takes what works.",
    mcpHint: OPERATOR_HINT,
  },
  MICROVM_START_FAILED: {
    exit: 1,
    retryable: true,
    hint: "`pyro doctor` boots a probe guest and shows where it stops.",
    mcpHint: "Make the same call again once; if it fails again, tell the person who runs this server.",
  },
  MICROVM_LOST: {
    exit: 1,
    retryable: true,
    hint: "The microVM ended under the command; run it again.",
    mcpHint: "The microVM ended under the command; make the call again.",
  },
  GUEST_UNRESPONSIVE: {
    exit: 1,
    retryable: true,
    hint: "The guest does not answer; run it again, with more --mem-mib if the guest was short of memory.",
    mcpHint: "The guest does not answer; make the call again, with more `mem_mib` if the guest was short of memory.",
  },
  VM_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "A run's microVM is kept at most 10 minutes after its command; use `pyro run` again.",
    mcpHint: "A run's microVM is kept at most 10 minutes after its command; use `vm_run` again.",
  },
  WORKSPACE_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "See `pyro workspace list` for the workspaces there are.",
    mcpHint: "Use `workspace_list` for the workspaces there are.",
  },
  WORKSPACE_NAME_TAKEN: {
    exit: 1,
    retryable: false,
    hint: "Choose another --name, or delete the workspace that has it.",
    mcpHint: "Choose another `name`, or use the workspace that has it.",
  },
  WORKSPACE_STATE: {
    exit: 1,
    retryable: true,
    hint: "`pyro workspace status` shows its state; one that is being created or reset is ready soon, one that was stopped is started by `pyro workspace start`.",
    mcpHint:
      "`workspace_status` shows its state; one that is being created or reset is ready soon, one that was stopped is started by `workspace_start`.",
  },
  WORKSPACE_FAILED: {
    exit: 1,
    retryable: false,
    hint: "`pyro workspace status` shows why; `pyro workspace delete` removes it.",
    mcpHint: "`workspace_status` shows why; `workspace_delete` removes it, then create another.",
  },
  SOURCE_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "Name a directory, a file or a .tar, .tar.gz or .tgz archive of this host.",
    mcpHint: "Name a directory, a file or a .tar, .tar.gz or .tgz archive that is there.",
  },
  SOURCE_UNREADABLE: {
    exit: 1,
    retryable: false,
    hint: "Make the named path readable, or leave it out with --exclude; nothing was sent.",
    mcpHint: "Leave the named path out with `exclude`, or choose another source; nothing was changed.",
  },
  ARCHIVE_INVALID: {
    exit: 1,
    retryable: false,
    hint: "Nothing was changed. Make the archive again without what the message names.",
    mcpHint: "Nothing was changed. Make the archive again without what the message names.",
  },
  PATH_OUTSIDE: {
    exit: 1,
    retryable: false,
    hint: "Name a path below /workspace that passes through no symbolic link; nothing was changed.",
    mcpHint: "Name a path below /workspace that passes through no symbolic link; nothing was changed.",
  },
  PATH_CONFLICT: {
    exit: 1,
    retryable: false,
    hint: "Remove what is in the way in the workspace, or leave the path out with --exclude; nothing was changed.",
    mcpHint:
      "Remove what is in the way with `workspace_exec`, or leave the path out with `exclude`; nothing was changed.",
  },
  FILE_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "See `pyro workspace file list` for what there is; relative paths begin at /workspace.",
    mcpHint: "Use `workspace_file_list` for what there is; relative paths begin at /workspace.",
  },
  FILE_WRONG_KIND: {
    exit: 1,
    retryable: false,
    hint: "Name a file; `pyro workspace file list` shows what is what.",
    mcpHint: "Name a file; `workspace_file_list` shows what is what.",
  },
  TEXT_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "Read the file again and give --old exactly as it stands there; nothing was changed.",
    mcpHint: "Read the file again and give `old` exactly as it stands there; nothing was changed.",
  },
  TEXT_NOT_UNIQUE: {
    exit: 1,
    retryable: false,
    hint: "Give --old with more of the lines around it, or --all to replace it everywhere; nothing was changed.",
    mcpHint: "Give `old` with more of the lines around it, or `all` to replace it everywhere; nothing was changed.",
  },
  PATCH_INVALID: {
    exit: 1,
    retryable: false,
    hint: "Give what `git diff` or `diff -u` prints, whole and with a newline at its end; nothing was changed.",
    mcpHint: "Give a unified diff, whole and with a newline at its end; nothing was changed.",
  },
  PATCH_REJECTED: {
    exit: 1,
    retryable: false,
    hint: "Make the patch again from the files as they are; nothing was changed.",
    mcpHint: "Read the named file where the patch does not fit, and write the patch anew; nothing was changed.",
  },
  GUEST_DISK_FULL: {
    exit: 1,
    retryable: false,
    hint: "Remove something in the workspace, or create one with a larger --disk-mib; nothing was changed.",
    mcpHint: "Remove something in the workspace, or create one with a larger `disk_mib`; nothing was changed.",
  },
  DISK_DAMAGED: {
    exit: 1,
    retryable: false,
    hint: "The workspace's disk cannot be read there; what can be is still shown and exported. `pyro workspace delete` removes it.",
    mcpHint: "The workspace's disk cannot be read there; other parts of it may be. `workspace_delete` removes it.",
  },
  DISK_EXPORT_RUNNING: {
    exit: 1,
    retryable: true,
    hint: "The workspace's disk is being exported; try again when that is done.",
    mcpHint: "The export goes on; make the same call again to wait for it.",
  },
  OUTPUT_EXISTS: {
    exit: 1,
    retryable: false,
    hint: "Name another file with --output, or remove that one; nothing is overwritten.",
    mcpHint: "Name another `output_path`; nothing is overwritten.",
  },
  HOST_PATH_FORBIDDEN: {
    exit: 1,
    retryable: false,
    hint: "`pyro mcp serve --allow-read DIR` and `--allow-write DIR` add directories.",
    mcpHint: "This server may only use the directories that the message names; choose a path below one of them.",
  },
  PROCESS_NOT_READING: {
    exit: 1,
    retryable: true,
    hint: "The process does not read its stdin, and its pipe is full; details.accepted_bytes says how much was taken.",
    mcpHint:
      "The process does not read its stdin, and its pipe is full; details.accepted_bytes says how much was taken.",
  },
  PROCESS_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "See `pyro workspace process list --all`; of a run, use the process_id that `pyro run --json` printed.",
    mcpHint: "Use the `process_id` of the result of `vm_run` or `workspace_exec`.",
  },
  SERVICE_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "See `pyro workspace service list` for the services there are.",
    mcpHint: "Use `service_list` for the services there are.",
  },
  SERVICE_EXISTS: {
    exit: 1,
    retryable: false,
    hint: "`pyro workspace service stop` ends it; then it can be started anew. Or choose another name.",
    mcpHint: "`service_stop` ends it; then it can be started anew. Or choose another `service_name`.",
  },
  SERVICE_FAILED: {
    exit: 1,
    retryable: false,
    hint: "Read the end of its log; `pyro workspace service logs` has all of it, and the same name can be started again.",
    mcpHint: "Read `log_tail`; `service_logs` has all of it, and the same `service_name` can be started again.",
  },
  SNAPSHOT_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "See `pyro workspace snapshot list` for the snapshots there are; `baseline` is always there.",
    mcpHint: "Use `snapshot_list` for the snapshots there are; `baseline` is always there.",
  },
  SNAPSHOT_EXISTS: {
    exit: 1,
    retryable: false,
    hint: "Choose another name, or delete the one that has it with `pyro workspace snapshot delete`.",
    mcpHint: "Choose another `snapshot_name`, or delete the one that has it with `snapshot_delete`.",
  },
  SHELL_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "See `pyro workspace shell list --all`; `pyro workspace shell open` opens one.",
    mcpHint: "Use `shell_list` for the shells there are, or `shell_open` for a new one.",
  },
  SHELL_STOPPED: {
    exit: 1,
    retryable: false,
    hint: "It takes nothing any more; `pyro workspace shell open` opens another. `shell read` still shows what it printed.",
    mcpHint: "It takes nothing any more; use `shell_open` for another. `shell_read` still shows what it printed.",
  },
  SHELL_NOT_RENDERED: {
    exit: 1,
    retryable: true,
    hint: "Read it as it is, without --plain and --screen.",
    mcpHint: "Read it as it is, without `plain` and `screen`.",
  },
  CURSOR_INVALID: {
    exit: 2,
    retryable: false,
    hint: "Use a next_cursor exactly as it was given, or leave --cursor out to start at the beginning.",
    mcpHint: "Use a `next_cursor` exactly as it was given, or leave `cursor` out to start at the beginning.",
  },
  CWD_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "Name a directory of the guest with --cwd; relative ones start at /workspace.",
    mcpHint: "Name a directory of the guest with `cwd`; relative ones start at /workspace.",
  },
  USER_NOT_FOUND: {
    exit: 1,
    retryable: false,
    hint: "Name a user of the guest's /etc/passwd, or a numeric id, with --user.",
    mcpHint: "Name a user of the guest's /etc/passwd, or a numeric id, with `user`.",
  },
  ...SECRET_CODES,
  COMMAND_FAILED: {
    exit: 1,
    retryable: false,
    hint: "The command ran and failed: its output and exit status are in details.result.",
    mcpHint: "The command ran and failed: read its output and exit status.",
  },
  DAEMON_START_FAILED: {
    exit: 1,
    retryable: true,
    hint: "Read the daemon's log, named above; `pyro doctor` checks the host.",
    mcpHint: OPERATOR_HINT,
  },
  DAEMON_UNREACHABLE: {
    exit: 1,
    retryable: true,
    hint: "See `pyro daemon status`.",
    mcpHint: "Make the call again once; if it fails again, tell the person who runs this server.",
  },
  DAEMON_INCOMPATIBLE: {
    exit: 1,
    retryable: false,
    hint: "A daemon of another version runs: `pyro daemon stop` ends it, and the next command starts its own.",
    mcpHint: OPERATOR_HINT,
  },
  CANCELLED: {
    exit: 1,
    retryable: true,
    hint: "It was cancelled; run it again.",
    mcpHint: "It was cancelled; make the call again.",
  },
  INTERNAL: {
    exit: 1,
    retryable: false,
    hint: "This is a fault of pyro: please report it, with the daemon's log that `pyro daemon status` names.",
    mcpHint: OPERATOR_HINT,
  },
} as const satisfies Record<string, CodeFacts>;

export type ErrorCode = keyof typeof CODES;

/** Codes that any operation may answer with; rows name only what is particular to them. */
export const ALWAYS_POSSIBLE = [
  "INVALID_INPUT",
  "HOST_UNSUPPORTED",
  "HOST_TOOL_MISSING",
  "HOST_DISK_FULL",
  "HOST_IO_FAILED",
  "DAEMON_START_FAILED",
  "DAEMON_UNREACHABLE",
  "DAEMON_INCOMPATIBLE",
  "CANCELLED",
  "INTERNAL",
] as const satisfies readonly ErrorCode[];
