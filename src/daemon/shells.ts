// Serves the calls about shells of a workspace, but for attaching to one: open, list, read, write, signal, resize and close.
import type { Engine } from "../engine/engine.ts";
import type { Shell } from "../engine/workspace/shell.ts";
import type { Shells } from "../engine/workspace/shells.ts";
import { PyroError } from "../errors/error.ts";
import type { EventOf, OutputOf, ParsedInputOf } from "../operations/table.ts";
import { REQUEST_ID_PATTERN } from "../wire/ids.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { hearCancel } from "./attached.ts";
import type { Reply, Requests } from "./stream.ts";

/** Errors: INVALID_INPUT for what no client names a request. */
export function requestIdOf({ request_id: requestId }: RequestHead): string | undefined {
  if (requestId === undefined || REQUEST_ID_PATTERN.test(requestId)) return requestId;
  throw new PyroError("INVALID_INPUT", `${requestId} cannot be the id of a request.`);
}

/** One that is cancelled while it is opened is closed again. */
export async function serveOpen(
  engine: Engine,
  input: ParsedInputOf<"shell.open">,
  head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { shells, workspaceId } = engine.workspaces.get(input.workspace_id);
  const { cwd, cols, rows, secret_env: secretEnv } = input;
  const cancelled = hearCancel(requests, "shell");
  const tell = (event: EventOf<"shell.open">) => void reply.json(ToClient.Event, event);
  const stop = AbortSignal.any([gone, cancelled]);
  const shell = await shells.begin({ requestId: requestIdOf(head), cwd, secretEnv, cols, rows }, tell, {
    cancelled,
    stop,
  });
  const output: OutputOf<"shell.open"> = { workspace_id: workspaceId, ...shell.facts };
  await reply.json(ToClient.Output, output);
}

export async function listShells(engine: Engine, input: ParsedInputOf<"shell.list">): Promise<OutputOf<"shell.list">> {
  const { shells, workspaceId } = engine.workspaces.get(input.workspace_id);
  const { all, limit, cursor } = input;
  return { workspace_id: workspaceId, ...(await shells.list({ all, limit, cursor })) };
}

export async function readShell(
  engine: Engine,
  input: ParsedInputOf<"shell.read">,
  signal: AbortSignal,
): Promise<OutputOf<"shell.read">> {
  const { shells, workspaceId } = engine.workspaces.get(input.workspace_id);
  const shell = await shells.get(input.shell_id);
  return { workspace_id: workspaceId, ...(await shell.read(input, signal)) };
}

export async function writeShell(
  engine: Engine,
  input: ParsedInputOf<"shell.write">,
  signal: AbortSignal,
): Promise<OutputOf<"shell.write">> {
  return await using(engine, input, async (shell, workspaceId) => {
    const { acceptedBytes, cursor } = await shell.write(input, signal);
    return { workspace_id: workspaceId, shell_id: shell.shellId, accepted_bytes: acceptedBytes, cursor };
  });
}

export async function signalShell(
  engine: Engine,
  input: ParsedInputOf<"shell.signal">,
): Promise<OutputOf<"shell.signal">> {
  return await using(engine, input, async (shell, workspaceId) => {
    const delivered = await shell.signal(input.signal);
    return { workspace_id: workspaceId, shell_id: shell.shellId, signal: `SIG${input.signal}`, delivered };
  });
}

export async function resizeShell(
  engine: Engine,
  input: ParsedInputOf<"shell.resize">,
): Promise<OutputOf<"shell.resize">> {
  return await using(engine, input, async (shell, workspaceId) => {
    await shell.resize(input);
    return { workspace_id: workspaceId, ...shell.facts };
  });
}

export async function closeShell(
  engine: Engine,
  input: ParsedInputOf<"shell.close">,
  signal: AbortSignal,
): Promise<OutputOf<"shell.close">> {
  return await using(engine, input, async (shell, workspaceId) => {
    await shell.close(signal);
    return { workspace_id: workspaceId, ...shell.facts };
  });
}

/** What is done to a shell is activity in its workspace. Errors: those of finding both. */
async function using<T>(
  engine: Engine,
  named: { readonly workspace_id: string; readonly shell_id: string },
  work: (shell: Shell, workspaceId: string, shells: Shells) => Promise<T>,
): Promise<T> {
  const { shells, workspaceId } = engine.workspaces.get(named.workspace_id);
  const shell = await shells.get(named.shell_id);
  const leave = shells.use();
  try {
    return await work(shell, workspaceId, shells);
  } finally {
    leave();
  }
}
