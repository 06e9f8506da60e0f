// Files of a workspace for a person.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { bytesOf } from "./process.ts";
import { table } from "./table.ts";
import { counted, sizeOf } from "./units.ts";
import type { Shown } from "./view.ts";

const LETTERS = { file: "-", directory: "d", symlink: "l", other: "?" } as const;
const STATUS_LETTERS = {
  added: "A",
  modified: "M",
  deleted: "D",
  renamed: "R",
  copied: "C",
  type_changed: "T",
} as const;

export function fileListView({ entries, next_cursor }: OutputOf<"workspace.file_list">): Shown {
  const rows = entries.map((file) => [
    `${LETTERS[file.artifact_type] ?? "?"}${file.mode}`,
    String(file.size_bytes),
    file.mtime.replace(/\.\d+Z$/, "Z"),
    file.link_target === null ? file.path : `${file.path} -> ${file.link_target}`,
  ]);
  return {
    stdout: table(["MODE", "SIZE", "MODIFIED", "PATH"], rows),
    note: next_cursor === null ? undefined : `pyro: there are more: --cursor ${next_cursor}`,
  };
}

export function fileReadView(output: OutputOf<"workspace.file_read">): Shown {
  const { path, size_bytes, mode, content, encoding, next_offset } = output;
  const rest = next_offset === null ? "" : `; there is more: --offset ${next_offset}`;
  return {
    stdout: bytesOf(content, encoding),
    note: `pyro: ${printable(path)}, ${sizeOf(size_bytes)}, mode ${mode}${rest}`,
  };
}

export function fileChangedView(output: OutputOf<"workspace.file_write"> | OutputOf<"workspace.file_edit">): Shown {
  const size = `${sizeOf(output.size_bytes)}, mode ${output.mode}`;
  if ("created" in output) {
    return { stdout: `${output.created ? "created" : "wrote"} ${printable(output.path)}: ${size}\n` };
  }
  const { replaced_count: count, lines } = output;
  const where = `${lines.length === 1 ? "line" : "lines"} ${lines.join(", ")}${count > lines.length ? " and others" : ""}`;
  return { stdout: `edited ${printable(output.path)}: ${counted(count, "place", "places")}, ${where}\n` };
}

export function patchView({ entries, summary }: OutputOf<"workspace.patch_apply">): Shown {
  const lines = entries.map(({ status, path, old_path }) => {
    const from = old_path === null ? "" : `${printable(old_path)} -> `;
    return `${STATUS_LETTERS[status] ?? "?"}  ${from}${printable(path)}\n`;
  });
  return { stdout: lines.join(""), note: `pyro: ${counted(summary.total, "file was", "files were")} changed` };
}
