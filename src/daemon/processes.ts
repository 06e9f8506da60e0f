// Serves the calls about processes of a workspace: list, read, write, signal and wait. A read may also be of a run.
import type { Engine } from "../engine/engine.ts";
import { factsOf } from "../engine/result.ts";
import { PyroError } from "../errors/error.ts";
import { signalName, signalNumber } from "../operations/signals.ts";
import type { OutputOf, ParsedInputOf } from "../operations/table.ts";
import { type RequestHead, ToClient } from "../wire/protocol.ts";
import { hearCancel, race } from "./attached.ts";
import type { Reply, Requests } from "./stream.ts";

export async function listProcesses(
  engine: Engine,
  input: ParsedInputOf<"process.list">,
): Promise<OutputOf<"process.list">> {
  const { commands, workspaceId } = engine.workspaces.get(input.workspace_id);
  const { all, limit, cursor } = input;
  return { workspace_id: workspaceId, ...(await commands.list({ all, limit, cursor })) };
}

export async function readProcess(
  engine: Engine,
  input: ParsedInputOf<"process.read">,
  signal: AbortSignal,
): Promise<OutputOf<"process.read">> {
  const { workspace_id: workspaceId, vm_id: vmId, process_id: processId } = input;
  if ((workspaceId === undefined) === (vmId === undefined)) {
    throw new PyroError("INVALID_INPUT", "Give workspace_id or vm_id, one of them.");
  }
  if (workspaceId === undefined) return await engine.runs.read(input, signal);
  const { commands } = engine.workspaces.get(workspaceId);
  const { cursor, max_bytes: maxBytes, wait_seconds: waitSeconds } = input;
  return await commands.read({ processId, cursor, maxBytes, waitSeconds }, signal);
}

export async function writeProcess(
  engine: Engine,
  input: ParsedInputOf<"process.write">,
  signal: AbortSignal,
): Promise<OutputOf<"process.write">> {
  const { commands, workspaceId } = engine.workspaces.get(input.workspace_id);
  const data = bytesOf(input);
  const command = await commands.get(input.process_id);
  const { acceptedBytes, closed } = await command.put(data, input.eof, signal);
  return { workspace_id: workspaceId, process_id: command.processId, accepted_bytes: acceptedBytes, closed };
}

export async function signalProcess(
  engine: Engine,
  input: ParsedInputOf<"process.signal">,
): Promise<OutputOf<"process.signal">> {
  const { commands, workspaceId } = engine.workspaces.get(input.workspace_id);
  const number = signalNumber(input.signal);
  const command = await commands.get(input.process_id);
  const delivered = await command.signal(number);
  return { workspace_id: workspaceId, process_id: command.processId, signal: signalName(number), delivered };
}

/** Says nothing until the end, or until the wait is over; one whose microVM was lost has ended too, and says why. */
export async function serveWait(
  engine: Engine,
  input: ParsedInputOf<"process.wait">,
  _head: RequestHead,
  requests: Requests,
  reply: Reply,
  gone: AbortSignal,
): Promise<void> {
  const { commands, workspaceId } = engine.workspaces.get(input.workspace_id);
  const wait = input.wait_seconds === undefined ? undefined : AbortSignal.timeout(input.wait_seconds * 1000);
  const stop = AbortSignal.any([gone, hearCancel(requests, "wait")]);
  const command = await commands.get(input.process_id);
  const ended = (await race(command.finished, wait, stop)) === "done";
  // It never began, or this daemon has let go of it: that is why nobody can say more.
  if (ended && !command.over) await command.ended;
  const output: OutputOf<"process.wait"> = { workspace_id: workspaceId, ...factsOf(command.facts) };
  await reply.json(ToClient.Output, output);
}

/** Errors: INVALID_INPUT for what is no base64. */
function bytesOf({ input, input_encoding }: ParsedInputOf<"process.write">): Buffer {
  if (input_encoding === "utf-8") return Buffer.from(input);
  if (input.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(input)) {
    throw new PyroError("INVALID_INPUT", "The input is no base64.");
  }
  return Buffer.from(input, "base64");
}
