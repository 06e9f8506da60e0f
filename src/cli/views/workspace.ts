// Workspaces for a person.
import type { OutputOf } from "../../operations/table.ts";
import { printable, printableLines } from "../../text/printable.ts";
import { shellWord, shellWords } from "../shell-words.ts";
import { table } from "./table.ts";
import { ageOf, counted, shortened, sizeOf } from "./units.ts";
import type { Shown } from "./view.ts";

type Workspace = OutputOf<"workspace.status">;
type Sent = Pick<OutputOf<"workspace.sync_push">, "skipped" | "skipped_count">;
type Line = readonly [name: string, value: string];

/** How many of the paths that were not sent are named. */
const SKIPPED_SHOWN = 5;

export function workspaceCreateView(made: Workspace): Shown {
  const { seed } = made;
  const facts: Line[] = [...named(made), ["State", stateOf(made)], ["Environment", made.environment]];
  if (seed.mode !== "empty") facts.push(["Seed", seedOf(made)], ...skippedOf(seed));
  const word = shellWord(made.name ?? made.workspace_id);
  const next =
    made.state === "failed"
      ? `\`pyro workspace status ${word}\` shows why`
      : `next: pyro workspace exec ${word} -- ls -la`;
  return { stdout: lines(facts), note: `pyro: ${next}`, status: made.state === "failed" ? 1 : 0 };
}

export function workspaceListView({ workspaces, next_cursor }: OutputOf<"workspace.list">): Shown {
  const rows = workspaces.map((one) => [
    one.workspace_id,
    one.name ?? "-",
    one.state,
    one.environment,
    String(one.command_count),
    ageOf(one.created_at),
  ]);
  const none = "pyro: there is none; `pyro workspace create` makes one";
  const more = `pyro: there are more: --cursor ${next_cursor}`;
  return {
    stdout: table(["ID", "NAME", "STATE", "ENVIRONMENT", "COMMANDS", "AGE"], rows),
    note: next_cursor !== null ? more : rows.length === 0 ? none : undefined,
  };
}

/** What is told of one: its source, and who may have it. */
export function secretOf({ name, source, hosts }: Workspace["secrets"][number]): string {
  return `${name} (${source}${hosts.length > 0 ? `, for ${hosts.join(" ")} alone` : ""})`;
}

export function workspaceStatusView(shown: Workspace): Shown {
  const { last_command: last, failure } = shown;
  const digest = shown.environment_digest?.replace(/^sha256:/, "").slice(0, 12);
  const driver =
    shown.driver === null ? "" : `, ${shown.driver}${shown.acceleration ? ` (${shown.acceleration})` : ""}`;
  const facts: Line[] = [
    ...named(shown),
    ["State", stateOf(shown)],
    ["Environment", digest === undefined ? shown.environment : `${shown.environment} (${digest})`],
    ["Machine", `${counted(shown.vcpu_count, "CPU", "CPUs")}, ${shown.mem_mib} MiB of memory${driver}`],
    ["Disk", `${sizeOf(shown.disk_used_bytes)} used, of ${shown.disk_mib} MiB`],
    ["Network", shown.network_policy],
    ["Seed", seedOf(shown)],
    ...skippedOf(shown.seed),
    ["Created", `${shown.created_at} (${ageOf(shown.created_at)} ago)`],
    ["Last used", `${shown.last_activity_at} (${ageOf(shown.last_activity_at)} ago)`],
    ["Idle limit", idleLimitOf(shown)],
    ["Commands", String(shown.command_count)],
  ];
  if (shown.secrets.length > 0) {
    facts.push(["Secrets", shown.secrets.map(secretOf).join(", ")]);
  }
  if (shown.service_count > 0)
    facts.push(["Services", `${shown.service_count}, ${shown.running_service_count} of them running`]);
  if (last !== null) {
    const end = last.state === "running" ? "running" : last.exit_code === null ? "lost" : `exit ${last.exit_code}`;
    facts.push(["Last one", `${last.process_id}, ${end}: ${shortened(shellWords(last.command))}`]);
  }
  if (shown.shell_count > 0) {
    facts.push(["Shells", `${shown.running_shell_count} running, of ${shown.shell_count} opened`]);
  }
  if (shown.snapshot_count > 0) facts.push(["Snapshots", String(shown.snapshot_count)]);
  if (shown.last_reset_at !== null) {
    facts.push(["Reset", `${counted(shown.reset_count, "time", "times")}, last ${ageOf(shown.last_reset_at)} ago`]);
  }
  if (failure !== null) facts.push(["Failed at", `${failure.stage}: ${failure.message}`]);
  const tail = failure?.console_tail.trimEnd() ?? "";
  const shownTail = tail === "" ? "" : `${printableLines(tail).replace(/^/gm, "    | ")}\n`;
  return { stdout: `${lines(facts)}${shownTail}` };
}

export function workspaceUpdateView(shown: Workspace): Shown {
  return { stdout: lines([...named(shown), ["Idle limit", idleLimitOf(shown)]]) };
}

export function workspaceDeleteView({ workspace_id }: OutputOf<"workspace.delete">): Shown {
  return { stdout: `${printable(workspace_id)} is deleted\n` };
}

export function syncPushView(pushed: OutputOf<"workspace.sync_push">): Shown {
  const { entry_count, bytes_written, destination, workspace_id } = pushed;
  const what = `${counted(entry_count, "entry", "entries")}, ${sizeOf(bytes_written)}`;
  const facts: Line[] = [["Pushed", `${what} to ${destination} of ${workspace_id}`], ...skippedOf(pushed)];
  return { stdout: lines(facts) };
}

function named({ workspace_id, name, labels }: Workspace): Line[] {
  const facts: Line[] = [["Workspace", workspace_id]];
  if (name !== null) facts.push(["Name", name]);
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`);
  if (pairs.length > 0) facts.push(["Labels", pairs.join(", ")]);
  return facts;
}

const STOPPED = {
  idle: "was idle; the next command in it starts it again",
  stopped: "as it was asked to; `pyro workspace start` starts it again",
  lost: "its microVM was lost; files are kept, and the next command in it starts it again",
} as const;

function stateOf({ state, stop_reason, failure }: Workspace): string {
  if (state === "stopped" && stop_reason !== null) return `stopped: ${STOPPED[stop_reason] ?? stop_reason}`;
  if (state === "failed" && failure !== null) {
    const mends = failure.stage === "start" || failure.stage === "reset";
    return mends ? "failed: a reset may mend it" : "failed: it can only be deleted";
  }
  return state;
}

function seedOf({ seed: { mode, seed_path, entry_count, bytes_written } }: Workspace): string {
  if (mode === "empty") return "none";
  return `${counted(entry_count, "entry", "entries")}, ${sizeOf(bytes_written)}, of ${mode} ${seed_path ?? "-"}`;
}

function skippedOf({ skipped, skipped_count }: Sent): Line[] {
  if (skipped_count === 0) return [];
  const first = skipped.slice(0, SKIPPED_SHOWN).map(({ path, reason }) => `${path} (${reason})`);
  const others = skipped_count - first.length;
  const rest = others > 0 ? [`and ${others} more`] : [];
  const [head = "", ...tail] = [...first, ...rest];
  return [["Not sent", head], ...tail.map((text): Line => ["", text])];
}

function idleLimitOf({ ttl_seconds, expires_at }: Workspace): string {
  if (ttl_seconds === 0) return "none: it is never stopped";
  const when = expires_at === null ? "" : `, which is at ${expires_at}`;
  return `stopped, not deleted, after ${ttl_seconds} s without activity${when}`;
}

function lines(facts: readonly Line[]): string {
  return facts.map(([name, value]) => `${name.padEnd(11)}  ${printable(value)}\n`).join("");
}
