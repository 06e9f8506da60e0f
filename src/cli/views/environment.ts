// Environments for a person.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { table } from "./table.ts";
import { sizeOf } from "./units.ts";
import type { Shown } from "./view.ts";

export function envListView({ environments, next_cursor }: OutputOf<"env.list">): Shown {
  const rows = environments.map(({ environment, installed, size_bytes, digest }) => [
    environment,
    installed ? "installed" : "-",
    size_bytes === null ? "-" : sizeOf(size_bytes),
    digest === null ? "-" : digest.replace(/^sha256:/, "").slice(0, 12),
  ]);
  const note = next_cursor === null ? undefined : `There are more: --cursor ${next_cursor}`;
  return { stdout: table(["ENVIRONMENT", "STATE", "SIZE", "DIGEST"], rows), note };
}

export function envPullView({ environment, size_bytes }: OutputOf<"env.pull">): Shown {
  const size = size_bytes === null ? "" : ` (${sizeOf(size_bytes)})`;
  return { stdout: `${printable(environment)} is installed${size}.\n` };
}

export function envInspectView(shown: OutputOf<"env.inspect">): Shown {
  const oci = shown.layers !== null;
  const facts: [string, string][] = [
    ["Environment", shown.environment],
    ["Kind", shown.kind === "oci" ? "image of a registry" : "recipe, built on this host"],
    ["State", shown.installed ? `installed${shown.in_use ? ", in use" : ""}` : "not installed"],
    ["Platform", shown.platform],
  ];
  if (shown.digest !== null) facts.push(["Digest", shown.digest]);
  if (shown.size_bytes !== null) facts.push(["Size", sizeOf(shown.size_bytes)]);
  if (shown.created_at !== null) facts.push(["Created", shown.created_at]);
  if (shown.packages !== null) facts.push(["Packages", shown.packages.join(" ")]);
  if (shown.index_digest !== null) facts.push(["Index", shown.index_digest]);
  if (shown.manifest_digest !== null) facts.push(["Manifest", shown.manifest_digest]);
  if (oci) facts.push(["Layers", String(shown.layers?.length ?? 0)]);
  for (const [index, [name, value]] of Object.entries(shown.env).entries()) {
    facts.push([index === 0 ? "Variables" : "", `${name}=${value}`]);
  }
  return { stdout: facts.map(([name, value]) => `${name.padEnd(11)}  ${printable(value)}\n`).join("") };
}

const KINDS = {
  image: "image without a name",
  kernel: "older kernel",
  boot: "older boot files",
  staging: "unfinished build",
  log: "build log",
} as const;

export function envPruneView({ dry_run, removed, reclaimed_bytes }: OutputOf<"env.prune">): Shown {
  const rows = removed.map(({ kind, name, environments, size_bytes }) => [
    kind === "image" && environments.length > 0 ? "image" : KINDS[kind],
    environments.length > 0 ? environments.join(", ") : kind === "log" ? name : name.slice(0, 24),
    sizeOf(size_bytes),
  ]);
  const total = sizeOf(reclaimed_bytes);
  const listed = rows.length === 0 ? "" : table([dry_run ? "WOULD REMOVE" : "REMOVED", "NAME", "SIZE"], rows);
  const verdict = dry_run ? `Nothing was removed; it would free ${total}.` : `${total} freed.`;
  return { stdout: `${listed}${rows.length === 0 ? "There is nothing to remove." : verdict}\n` };
}
