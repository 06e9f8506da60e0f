// Environments for a person.
import type { OutputOf } from "../../operations/table.ts";
import { table } from "./table.ts";
import type { Shown } from "./view.ts";

export function envListView({ environments, next_cursor }: OutputOf<"env.list">): Shown {
  const rows = environments.map(({ environment, installed, size_bytes, digest }) => [
    environment,
    installed ? "installed" : "-",
    size_bytes === null ? "-" : mebibytes(size_bytes),
    digest === null ? "-" : digest.replace(/^sha256:/, "").slice(0, 12),
  ]);
  const note = next_cursor === null ? undefined : `There are more: --cursor ${next_cursor}`;
  return { stdout: table(["ENVIRONMENT", "STATE", "SIZE", "DIGEST"], rows), note };
}

export function envPullView({ environment, size_bytes }: OutputOf<"env.pull">): Shown {
  const size = size_bytes === null ? "" : ` (${mebibytes(size_bytes)})`;
  return { stdout: `${environment} is installed${size}.\n` };
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / (1 << 20))} MiB`;
}
