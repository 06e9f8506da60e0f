// What happened in a workspace, for a person: one screen, whatever there is to tell.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { shellWords } from "../shell-words.ts";
import { ageOf, counted, secondsOf, shortened, sizeOf } from "./units.ts";
import type { Shown } from "./view.ts";

type Summary = OutputOf<"workspace.summary">;
type Command = Summary["commands"]["entries"][number];
type Line = readonly [name: string, value: string];

/** Of commands, and of anything else that is listed below its heading. */
const MOST_COMMANDS = 8;
const MOST_LINES = 4;
const COLUMNS = 80;
const INDENT = 13;

export function summaryView(summary: Summary): Shown {
  const { commands, changes, changes_left_out, services, shells, snapshots, pushes, exports } = summary;
  const lines: Line[] = [
    ["Workspace", headOf(summary)],
    ["Commands", countsOf(commands)],
    ...commands.entries.slice(-MOST_COMMANDS).map((one): Line => ["", commandOf(one)]),
  ];
  if (changes === null) lines.push(["Changes", `not known: ${changes_left_out}`]);
  else lines.push(["Changes", changesOf(changes)], ...directoriesOf(changes));
  if (services.total > 0) {
    const named = services.entries.slice(0, MOST_LINES).map(serviceOf);
    lines.push(["Services", listOf(named, services.total)]);
  }
  if (shells.total > 0) {
    const open = shells.entries.slice(0, MOST_LINES).map(({ shell_id }) => shell_id);
    const which = open.length === 0 ? "" : `: ${listOf(open, shells.open)}`;
    lines.push(["Shells", `${shells.open} open, of ${shells.total} opened${which}`]);
  }
  if (snapshots.total > 0) {
    const newest = snapshots.entries.slice(-MOST_LINES).map(({ snapshot_name }) => snapshot_name);
    lines.push(["Snapshots", listOf(newest, snapshots.total)]);
  }
  const push = pushes.entries.at(-1);
  if (push !== undefined) {
    const { source_path, destination, entry_count, pushed_at } = push;
    const what = `${source_path} to ${destination}, ${counted(entry_count, "entry", "entries")}`;
    lines.push(["Pushed", `${timesOf(pushes.total)}${what}, ${ageOf(pushed_at)} ago`]);
  }
  const taken = exports.entries.at(-1);
  if (taken !== undefined) {
    const { kind, workspace_path, output_path, bytes_written, exported_at } = taken;
    const what = kind === "files" ? workspace_path : `its ${kind}`;
    const size = bytes_written === null ? "" : `, ${sizeOf(bytes_written)}`;
    lines.push(["Exported", `${timesOf(exports.total)}${what} to ${output_path}${size}, ${ageOf(exported_at)} ago`]);
  }
  lines.push(["Still runs", runningOf(summary)]);
  return { stdout: lines.map(lineOf).join("") };
}

function lineOf([name, value]: Line): string {
  return `${name.padEnd(INDENT)}${shortened(printable(value), COLUMNS - INDENT)}`.trimEnd().concat("\n");
}

function headOf({ workspace_id, name, state, stop_reason, since, reset_count }: Summary): string {
  const which = name === null ? workspace_id : `${name} (${workspace_id})`;
  const is = stop_reason === null ? state : `${state} (${stop_reason})`;
  return `${which}, ${is}, ${reset_count > 0 ? "reset" : "created"} ${ageOf(since)} ago`;
}

function countsOf({ total, succeeded, failed, lost, running, entries }: Summary["commands"]): string {
  if (total === 0) return "none";
  const parts = [`${succeeded} succeeded`, `${failed} failed`];
  if (lost > 0) parts.push(`${lost} lost`);
  if (running > 0) parts.push(`${running} running`);
  const shown = Math.min(MOST_COMMANDS, entries.length);
  return `${total}: ${parts.join(", ")}${shown < total ? `; ${shown} of them:` : ""}`;
}

function commandOf({ process_id, command, state, exit_code, timed_out, duration_ms }: Command): string {
  const how =
    state === "running" ? "running" : timed_out ? "timeout" : exit_code === null ? "lost" : `exit ${exit_code}`;
  const time = `${secondsOf(duration_ms)}s`;
  return `${process_id.padEnd(8)} ${how.padEnd(8)} ${time.padStart(7)}  ${shellWords(command)}`;
}

function changesOf({
  total,
  added,
  modified,
  deleted,
  type_changed,
  insertions,
  deletions,
}: NonNullable<Summary["changes"]>) {
  if (total === 0) return "none";
  const parts = [`${added} added`, `${modified + type_changed} modified`, `${deleted} deleted`];
  return `${total}: ${parts.join(", ")}, +${insertions} -${deletions} lines`;
}

function directoriesOf({ total, directories, directories_omitted }: NonNullable<Summary["changes"]>): Line[] {
  if (total === 0) return [];
  const shown = directories.slice(0, MOST_LINES);
  const lines = shown.map(({ path, total: count }): Line => ["", `${String(count).padStart(6)}  ${path}`]);
  const more = directories.length - shown.length + directories_omitted;
  if (more > 0) lines.push(["", `        and in ${counted(more, "directory", "directories")} more`]);
  return lines;
}

function serviceOf({ service_name, state, exit_code, host_ports }: Summary["services"]["entries"][number]): string {
  const how = state === "exited" && exit_code !== null ? `exit ${exit_code}` : state;
  const ports = host_ports.length === 0 ? "" : ` on ${host_ports.join(" ")}`;
  return `${service_name} ${how}${ports}`;
}

function listOf(shown: readonly string[], total: number): string {
  const more = total - shown.length;
  return more > 0 ? `${shown.join(", ")} and ${more} more` : shown.join(", ");
}

function timesOf(total: number): string {
  return total === 1 ? "" : `${total} times, last `;
}

function runningOf({ commands, services, shells }: Summary): string {
  const parts: string[] = [];
  if (commands.running > 0) parts.push(counted(commands.running, "command", "commands"));
  if (services.running > 0) parts.push(counted(services.running, "service", "services"));
  if (shells.open > 0) parts.push(counted(shells.open, "shell", "shells"));
  return parts.length === 0 ? "nothing" : parts.join(", ");
}
