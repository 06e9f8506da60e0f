// What was changed in a workspace, and what was brought out of it, for a person.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { counted, sizeOf } from "./units.ts";
import type { Shown } from "./view.ts";

type Diff = OutputOf<"workspace.diff">;
type Entry = Diff["entries"][number];

const COLUMNS = 80;
const MOST_NAME = 50;
const MOST_GRAPH = 40;
/** How many of what is not in a patch, or was left out, is named. */
const NAMED = 5;

/** What is said beside a patch: where it is, and what it does not make. */
export function diffView({ summary, entries, output_path, patch_truncated, redacted }: Diff): Shown {
  const notes: string[] = [];
  if (output_path !== null)
    notes.push(`pyro: wrote ${printable(output_path)}: ${counted(summary.total, "change", "changes")}`);
  if (summary.total === 0) notes.push("pyro: nothing was changed");
  if (patch_truncated) notes.push("pyro: the patch is cut: --output writes all of it");
  if (redacted) notes.push("pyro: values of secrets were replaced: the patch does not make what they stood in");
  if (summary.not_in_patch > 0) {
    const some = entries.filter(({ in_patch }) => !in_patch).slice(0, NAMED);
    const more = summary.not_in_patch > some.length ? ", ..." : "";
    const what = counted(summary.not_in_patch, "change is", "changes are");
    notes.push(`pyro: ${what} not in the patch: ${some.map(({ path }) => printable(path)).join(", ")}${more}`);
  }
  return notes.length === 0 ? {} : { note: notes.join("\n") };
}

/** As git shows it. */
export function statOf({ entries, summary, entries_truncated }: Diff, columns = COLUMNS): string {
  if (entries.length === 0) return "";
  const width = Math.min(MOST_NAME, Math.max(...entries.map(({ path }) => printable(path).length)));
  const most = Math.max(...entries.map(({ insertions, deletions }) => insertions + deletions));
  const digits = String(most).length;
  const room = Math.max(10, Math.min(MOST_GRAPH, columns - width - digits - 6));
  const lines = entries.map((entry) => ` ${shortName(entry.path, width)} | ${changeOf(entry, digits, most, room)}`);
  if (entries_truncated) lines.push(` ... ${summary.total - entries.length} more`);
  const sum = (key: "insertions" | "deletions") => entries.reduce((all, entry) => all + entry[key], 0);
  const parts = [` ${counted(summary.total, "file", "files")} changed`];
  const [insertions, deletions] = [sum("insertions"), sum("deletions")];
  if (insertions > 0) parts.push(`${counted(insertions, "insertion", "insertions")}(+)`);
  if (deletions > 0) parts.push(`${counted(deletions, "deletion", "deletions")}(-)`);
  return `${[...lines, parts.join(", ")].join("\n")}\n`;
}

function changeOf(entry: Entry, digits: number, most: number, room: number): string {
  const { insertions, deletions, artifact_type, old_bytes, new_bytes, status } = entry;
  const lines = insertions + deletions;
  if (lines === 0) {
    if (artifact_type === "directory") return `${status} directory`;
    if (artifact_type === "other") return `${status}, not a file`;
    return old_bytes === new_bytes ? "0" : `Bin ${old_bytes} -> ${new_bytes} bytes`;
  }
  const scaled = (count: number) =>
    most <= room ? count : count === 0 ? 0 : Math.max(1, Math.round((count * room) / most));
  return `${String(lines).padStart(digits)} ${"+".repeat(scaled(insertions))}${"-".repeat(scaled(deletions))}`;
}

/** The end of a path says more than its beginning. */
function shortName(path: string, width: number): string {
  const shown = printable(path);
  return shown.length <= width ? shown.padEnd(width) : `...${shown.slice(shown.length - width + 3)}`;
}

export function exportView(output: OutputOf<"workspace.export">): Shown {
  const { workspace_path, output_path, artifact_type, entry_count, bytes_written, skipped, skipped_count } = output;
  const what = artifact_type === "directory" ? counted(entry_count, "entry", "entries") : artifact_type;
  const lines = [`${printable(workspace_path)} -> ${printable(output_path)}: ${what}, ${sizeOf(bytes_written)}`];
  for (const { path, reason } of skipped.slice(0, NAMED))
    lines.push(`left out: ${printable(path)} ${printable(reason)}`);
  if (skipped_count > NAMED) lines.push(`left out: ${skipped_count - Math.min(NAMED, skipped.length)} more`);
  return { stdout: `${lines.join("\n")}\n` };
}
