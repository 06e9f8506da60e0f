// From what is known of a workspace to what the rows tell of it.
import { WORKSPACE_PATH } from "../../operations/fields.ts";
import type { OutputOf } from "../../operations/table.ts";
import { bytesHeld } from "../disk-copy.ts";
import { layoutOf, type StoredWorkspace, WORKSPACE_SCHEMA_VERSION } from "./record.ts";

type Description = OutputOf<"workspace.status">;

/** What changes too often to be in a record. */
export interface Live {
  readonly lastActivity: Date;
  readonly expiresAt: Date | undefined;
  readonly commandCount: number;
  readonly lastCommand: Description["last_command"];
  readonly serviceCount: number;
  readonly runningServiceCount: number;
  readonly shellCount: number;
  readonly runningShellCount: number;
  readonly snapshotCount: number;
  /** Bytes that its snapshots take. */
  readonly snapshotBytes: number;
}

/** What is told of secrets. */
export function toldSecrets(secrets: NonNullable<StoredWorkspace["secrets"]>): Description["secrets"] {
  return secrets.map(({ name, source, hosts = [] }) => ({ name, source, hosts: [...hosts] }));
}

export async function describeRecord(record: StoredWorkspace, directory: string, live: Live): Promise<Description> {
  return {
    workspace_id: record.workspace_id,
    name: record.name,
    labels: { ...record.labels },
    environment: record.environment,
    environment_digest: record.image?.digest ?? null,
    driver: record.driver,
    acceleration: record.acceleration,
    vcpu_count: record.vcpu_count,
    mem_mib: record.mem_mib,
    disk_mib: record.disk_mib,
    disk_used_bytes: (await diskUsed(record, directory)) + live.snapshotBytes,
    state: record.state,
    // While it still runs this is only what is to become of it.
    stop_reason: record.state === "stopped" ? record.stop_reason : null,
    failure: record.failure,
    network_policy: record.network_policy,
    allow_hosts: [...record.allow_hosts],
    workspace_path: WORKSPACE_PATH,
    seed: record.seed,
    secrets: toldSecrets(record.secrets ?? []),
    created_at: record.created_at,
    last_activity_at: live.lastActivity.toISOString(),
    ttl_seconds: record.ttl_seconds,
    expires_at: record.state === "started" ? (live.expiresAt?.toISOString() ?? null) : null,
    command_count: live.commandCount,
    last_command: live.lastCommand,
    shell_count: live.shellCount,
    running_shell_count: live.runningShellCount,
    service_count: live.serviceCount,
    running_service_count: live.runningServiceCount,
    snapshot_count: live.snapshotCount,
    reset_count: record.reset_count,
    last_reset_at: record.last_reset_at,
  };
}

/** What stands for a record that this version cannot use. It is never written. */
export function unreadableRecord(workspaceId: string, message: string): StoredWorkspace {
  const never = new Date(0).toISOString();
  return {
    schema_version: WORKSPACE_SCHEMA_VERSION,
    workspace_id: workspaceId,
    name: null,
    labels: {},
    env: {},
    environment: "unknown",
    image: null,
    driver: null,
    acceleration: null,
    vcpu_count: 0,
    mem_mib: 0,
    disk_mib: 0,
    state: "failed",
    stop_reason: null,
    failure: { stage: "record", message, console_tail: "" },
    machine_id: null,
    identity: null,
    baseline: "pristine",
    seed: { mode: "empty", seed_path: null, entry_count: 0, bytes_written: 0, skipped: [], skipped_count: 0 },
    network_policy: "off",
    allow_hosts: [],
    reset_count: 0,
    last_reset_at: null,
    last_reset_request: null,
    resetting: null,
    created_at: never,
    last_activity_at: never,
    ttl_seconds: 0,
  };
}

/** Bytes that its disks take. */
async function diskUsed({ baseline }: StoredWorkspace, directory: string): Promise<number> {
  const layout = layoutOf(directory);
  const paths = baseline === "disk" ? [layout.disk, layout.baseline] : [layout.disk];
  const sizes = await Promise.all(paths.map(bytesHeld));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}
