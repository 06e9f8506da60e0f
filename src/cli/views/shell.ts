// Shells for a person: what they printed as it is, the rest as a note.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { STATUS_PYRO_FAILED } from "../context.ts";
import { bytesOf } from "./process.ts";
import { table } from "./table.ts";
import { ageOf } from "./units.ts";
import type { Shown } from "./view.ts";

type Facts = OutputOf<"shell.list">["shells"][number];
type Opened = OutputOf<"shell.open">;

export function shellOpenView(opened: Opened): Shown {
  const { workspace_id, shell_id, cols, rows, cwd } = opened;
  const of = `${workspace_id} ${shell_id}`;
  return {
    stdout: `${shell_id}\n`,
    note: `pyro: ${stateOf(opened)} in ${printable(cwd)}, ${cols}x${rows}; next: pyro workspace shell attach ${of}`,
  };
}

export function shellListView({ shells, next_cursor }: OutputOf<"shell.list">): Shown {
  const rows = shells.map((shell) => [
    shell.shell_id,
    shortState(shell),
    ageOf(shell.started_at),
    `${shell.cols}x${shell.rows}`,
    shell.cwd,
  ]);
  const none = "pyro: there is none; `pyro workspace shell open` opens one, and --all shows those that have ended";
  const more = `pyro: there are more: --cursor ${next_cursor}`;
  return {
    stdout: table(["SHELL", "STATE", "AGE", "SIZE", "OPENED IN"], rows),
    note: next_cursor !== null ? more : rows.length === 0 ? none : undefined,
  };
}

/** Text ends with a line of its own, as the shell of whoever reads it goes on behind it; bytes are what they are. */
export function shellReadView(read: OutputOf<"shell.read">): Shown {
  const { output, output_encoding, screen, dropped_bytes, truncated, next_cursor } = read;
  const notes = [`${read.shell_id} ${stateOf(read)}`];
  if (dropped_bytes > 0) notes.push(`${dropped_bytes} bytes are not kept any more`);
  if (screen !== null) notes.push(`the cursor is at row ${screen.cursor_row}, column ${screen.cursor_column}`);
  else notes.push(`${truncated ? "there is more: " : ""}go on with --cursor ${next_cursor}`);
  const open = screen !== null && output !== "" && !output.endsWith("\n");
  return {
    stdout: bytesOf(open ? `${output}\n` : output, output_encoding),
    note: `pyro: ${notes.join("; ")}`,
  };
}

export function shellWriteView({ shell_id, accepted_bytes, cursor }: OutputOf<"shell.write">): Shown {
  return { note: `pyro: ${shell_id} took ${accepted_bytes} bytes; what comes of it is behind --cursor ${cursor}` };
}

export function shellSignalView({ shell_id, signal, delivered }: OutputOf<"shell.signal">): Shown {
  return {
    note: `pyro: ${delivered ? `what runs in ${shell_id} was sent ${signal}` : `${shell_id} had ended already`}`,
  };
}

export function shellResizeView({ shell_id, cols, rows }: Opened): Shown {
  return { note: `pyro: ${shell_id} has ${cols} columns and ${rows} rows` };
}

export function shellCloseView(closed: Opened): Shown {
  return { note: `pyro: ${closed.shell_id} ${stateOf(closed)}` };
}

/** The status is the shell's own. */
export function shellAttachView(ended: Opened): Shown {
  return {
    note: `pyro: ${ended.shell_id} ${stateOf(ended)}`,
    status: ended.exit_code === null ? STATUS_PYRO_FAILED : ended.exit_code & 0xff,
  };
}

/** How it is, in words that follow its name. */
function stateOf({ state, exit_code, lost_reason }: Facts): string {
  if (state === "running") return "runs";
  if (lost_reason !== null) return `has ended: ${printable(lost_reason)}`;
  return `has ended with ${exit_code}`;
}

function shortState({ state, exit_code, lost_reason }: Facts): string {
  if (state === "running") return "running";
  return lost_reason === null ? `exit ${exit_code}` : "lost";
}
