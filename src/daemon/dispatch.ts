// Which function of the engine carries out which operation. One entry for each row of the table.
import type { Engine } from "../engine/engine.ts";
import { listDisk, readDisk } from "../engine/workspace/disk-files.ts";
import { PyroError } from "../errors/error.ts";
import type { OperationName, OutputOf, ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { serveDiskExport } from "./disk.ts";
import { serveExec } from "./exec.ts";
import {
  deleteSnapshot,
  listSnapshots,
  serveClone,
  serveReset,
  serveSnapshot,
  serveStart as serveWorkspaceStart,
  serveStop as serveWorkspaceStop,
} from "./lifecycle.ts";
import { serveLogs } from "./logs.ts";
import { serveNetworkLog } from "./network.ts";
import { serveDiff, serveExport } from "./outgoing.ts";
import { listProcesses, readProcess, serveWait, signalProcess, writeProcess } from "./processes.ts";
import { teller } from "./progress.ts";
import { serveRun } from "./run.ts";
import { listServices, serveServiceLogs, serveStart, serveStop, serviceStatus } from "./services.ts";
import { serveAttach } from "./shell-attach.ts";
import { closeShell, listShells, readShell, resizeShell, serveOpen, signalShell, writeShell } from "./shells.ts";
import type { Reply, Requests } from "./stream.ts";
import { serveSummary } from "./summary.ts";
import { serveCreate, servePush } from "./workspace.ts";

type Streaming =
  | "run"
  | "workspace.create"
  | "workspace.sync_push"
  | "workspace.exec"
  | "workspace.logs"
  | "workspace.summary"
  | "workspace.diff"
  | "workspace.export"
  | "workspace.stop"
  | "workspace.start"
  | "workspace.reset"
  | "workspace.clone"
  | "snapshot.create"
  | "workspace.disk_export"
  | "process.wait"
  | "service.start"
  | "service.stop"
  | "service.logs"
  | "network.log"
  | "shell.open"
  | "shell.attach"
  | "env.pull"
  | "doctor";
type Unary = Exclude<OperationName, Streaming>;

type UnaryHandler<N extends Unary> = (
  engine: Engine,
  input: ParsedInputOf<N>,
  signal: AbortSignal,
) => Promise<OutputOf<N>>;

export type StreamHandler<N extends Streaming> = (
  engine: Engine,
  input: ParsedInputOf<N>,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  signal: AbortSignal,
) => Promise<void>;

export const UNARY: { readonly [N in Unary]: UnaryHandler<N> } = {
  "process.read": readProcess,
  "workspace.list": (engine, input) => engine.workspaces.list(input),
  "workspace.status": (engine, { workspace_id }) => engine.workspaces.get(workspace_id).describe(),
  "workspace.update": (engine, input) => engine.workspaces.update(input),
  "workspace.delete": (engine, { workspace_id }) => engine.workspaces.delete(workspace_id),
  "workspace.file_list": (engine, input, signal) => filesOf(engine, input).list(input, signal),
  "workspace.file_read": (engine, input, signal) => filesOf(engine, input).read(input, signal),
  "workspace.file_write": (engine, input, signal) => filesOf(engine, input).write(input, signal),
  "workspace.file_edit": (engine, input, signal) => filesOf(engine, input).edit(input, signal),
  "workspace.patch_apply": (engine, input, signal) => filesOf(engine, input).patch(input, signal),
  "workspace.disk_list": (engine, input, signal) => listDisk(diskOf(engine, input), input, signal),
  "workspace.disk_read": (engine, input, signal) => readDisk(engine.workspaces.get(input.workspace_id), input, signal),
  "process.list": listProcesses,
  "process.write": writeProcess,
  "process.signal": signalProcess,
  "snapshot.list": listSnapshots,
  "snapshot.delete": deleteSnapshot,
  "service.list": listServices,
  "service.status": serviceStatus,
  "network.set": (engine, input) => engine.workspaces.get(input.workspace_id).network.set(input),
  "secret.set": (engine, input) => engine.workspaces.get(input.workspace_id).network.setSecrets(input),
  "shell.list": listShells,
  "shell.read": readShell,
  "shell.write": writeShell,
  "shell.signal": signalShell,
  "shell.resize": resizeShell,
  "shell.close": closeShell,
  "env.list": (engine, input) => listEnvironments(engine, input),
  "env.inspect": (engine, { environment }) => inspectEnvironment(engine, environment),
  "env.prune": async (engine, { all, dry_run }) => {
    let kept = dry_run;
    let removed: Awaited<ReturnType<Engine["environments"]["prune"]>>;
    try {
      removed = await engine.environments.prune({ all, dryRun: dry_run });
      kept ||= !removed.some(({ kind }) => kind === "image");
    } finally {
      // A microVM that lies ready keeps a removed image's blocks, and one that is asked for again is another. Images may
      // have gone before it failed, too.
      if (!kept) await engine.pool.drain();
    }
    const reclaimed_bytes = removed.reduce((sum, { size_bytes }) => sum + size_bytes, 0);
    return { dry_run, removed, reclaimed_bytes };
  },
};

export const STREAMING: { readonly [N in Streaming]: StreamHandler<N> } = {
  run: serveRun,
  "workspace.create": serveCreate,
  "workspace.sync_push": servePush,
  "workspace.exec": serveExec,
  "workspace.logs": serveLogs,
  "workspace.summary": serveSummary,
  "workspace.diff": serveDiff,
  "workspace.export": serveExport,
  "workspace.stop": serveWorkspaceStop,
  "workspace.start": serveWorkspaceStart,
  "workspace.reset": serveReset,
  "workspace.clone": serveClone,
  "snapshot.create": serveSnapshot,
  "workspace.disk_export": serveDiskExport,
  "process.wait": serveWait,
  "service.start": serveStart,
  "service.stop": serveStop,
  "service.logs": serveServiceLogs,
  "network.log": serveNetworkLog,
  "shell.open": serveOpen,
  "shell.attach": serveAttach,
  "env.pull": async (engine, { environment }, _head, _requests, reply, signal) => {
    // Whoever says pull wants what the registry has now; a start takes what is there.
    const pulled = await engine.environments.pull(environment, teller(reply), signal, { refresh: true });
    await engine.environments.boot(teller(reply), signal);
    const { digest, size_bytes } = pulled;
    await answer<"env.pull">(reply, { environment: pulled.environment, digest, installed: true, size_bytes });
  },
  doctor: async (engine, _input, _head, _requests, reply, signal) => {
    await answer<"doctor">(reply, await engine.doctor.examine(teller(reply), signal));
  },
};

function filesOf(engine: Engine, { workspace_id }: { readonly workspace_id: string }) {
  return engine.workspaces.get(workspace_id).files;
}

function diskOf(engine: Engine, { workspace_id }: { readonly workspace_id: string }) {
  return engine.workspaces.get(workspace_id).disk;
}

async function listEnvironments(engine: Engine, input: ParsedInputOf<"env.list">): Promise<OutputOf<"env.list">> {
  const start = input.cursor === undefined ? 0 : Number(/^e(\d{1,9})$/.exec(input.cursor)?.[1] ?? Number.NaN);
  if (Number.isNaN(start)) throw new PyroError("CURSOR_INVALID", `${input.cursor} is not a cursor.`);
  const all = await engine.environments.list();
  const environments = all.slice(start, start + input.limit).map((record) => ({ ...record }));
  const next = start + environments.length;
  return { environments, next_cursor: next < all.length ? `e${next}` : null };
}

async function inspectEnvironment(engine: Engine, environment: string): Promise<OutputOf<"env.inspect">> {
  const { name, facts, inUse } = await engine.environments.inspect(environment);
  const source = facts?.source;
  const oci = source?.kind === "oci" ? source : undefined;
  return {
    environment: name.environment,
    digest: facts?.digest ?? null,
    installed: facts !== undefined,
    size_bytes: facts?.size_bytes ?? null,
    kind: name.kind,
    created_at: facts?.createdAt ?? null,
    in_use: inUse,
    platform: oci?.platform ?? "linux/amd64",
    env: { ...(facts?.env ?? (name.kind === "recipe" ? name.recipe.env : {})) },
    packages: name.kind === "recipe" ? [...name.recipe.packages] : null,
    manifest_digest: oci?.manifest_digest ?? null,
    index_digest: oci?.index_digest ?? null,
    config_digest: oci?.config_digest ?? null,
    layers: oci === undefined ? null : oci.layers.map((layer) => ({ ...layer })),
  };
}

async function answer<N extends Streaming>(reply: Reply, output: OutputOf<N>): Promise<void> {
  await reply.json(ToClient.Output, output);
}
