// The disk of a stopped workspace for a person.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { sizeOf } from "./units.ts";
import type { Shown } from "./view.ts";

export function diskExportView(output: OutputOf<"workspace.disk_export">): Shown {
  const { output_path, bytes_written, size_bytes, entry_count, format } = output;
  const facts = `${format}, ${entry_count} files, ${sizeOf(bytes_written)} on disk, ${sizeOf(size_bytes)} in size`;
  return {
    stdout: `exported ${printable(output_path)}: ${facts}\n`,
    note: "pyro: bytes were copied as they are: secrets that a program wrote to its disk are in it",
  };
}
