// A tool that runs a command: head and tail of what it printed, and the cursor to read the rest with.
import type { CallToolResult } from "@modelcontextprotocol/server";
import { ensureDaemon } from "../client/connect.ts";
import { openStream } from "../client/stream.ts";
import type { Where } from "../client/where.ts";
import type { InputOf } from "../operations/table.ts";
import { cutBoth, gently, HeadTail, type Level, largest, wholeLimit } from "./budget.ts";
import type { Request } from "./request.ts";
import { type Output, result, sizeOf } from "./result.ts";

export type CommandName = "run" | "workspace.exec";

/** The call that runs it. */
export interface Caller {
  readonly request: Request;
  /** True: other calls may write to a command that was detached. */
  readonly writable: boolean;
}

const MAX_OUTPUT_BYTES = 65_536;

/**
 * Runs it and answers within the wait. A cancelled request ends it. When the client has gone altogether a run ends too,
 * and a command in a workspace goes on: its output is in the log.
 */
export async function runCommand(
  where: Where,
  name: CommandName,
  input: InputOf<CommandName>,
  { request, writable }: Caller,
): Promise<CallToolResult> {
  const { max_bytes, ...rest } = input;
  await ensureDaemon(where, request.signal);
  const most = max_bytes ?? MAX_OUTPUT_BYTES;
  const streams = { stdout: new HeadTail(most), stderr: new HeadTail(most) };
  const ending = new AbortController();
  const stream = openStream(
    where,
    name,
    { ...rest, wait_seconds: request.leftMs / 1000 },
    {
      signal: AbortSignal.any([ending.signal, request.overdue]),
      attached: false,
      // A detached command is written to by other calls, or never: then it must not wait for what cannot come.
      stdin: writable && "detach" in rest && rest.detach === true,
      onEvent: (event) => {
        if (event.type === "progress") request.progress(event.message);
      },
      onOutput: (from, data) => streams[from].add(data),
    },
  );
  const end = () => {
    if (request.clientGone && name !== "run") stream.leave(request.signal.reason);
    else ending.abort(request.signal.reason);
  };
  if (request.signal.aborted) end();
  request.signal.addEventListener("abort", end, { once: true });
  try {
    const output: Output = await request.inTime(stream.result);
    return bounded(output, streams, most, wholeLimit(max_bytes));
  } finally {
    request.signal.removeEventListener("abort", end);
  }
}

/** As much of the output as the whole has room for, and at least half of that room for it. */
function bounded(
  output: Output,
  streams: Readonly<Record<"stdout" | "stderr", HeadTail>>,
  most: number,
  whole: number,
): CallToolResult {
  const before = typeof output.omitted_bytes === "number" ? output.omitted_bytes : 0;
  const cutTo = (limit: number, level: Level): CallToolResult => {
    const { stdout, stderr } = cutBoth(streams, limit);
    const told = {
      ...output,
      stdout: stdout.text,
      stdout_encoding: "utf-8",
      stdout_lossy: stdout.lossy,
      stdout_truncated: stdout.omitted > 0 || output.stdout_truncated === true,
      stderr: stderr.text,
      stderr_encoding: "utf-8",
      stderr_lossy: stderr.lossy,
      stderr_truncated: stderr.omitted > 0 || output.stderr_truncated === true,
      omitted_bytes: before + stdout.omitted + stderr.omitted,
    };
    return result(told, level);
  };
  const level = gently(
    (one) => one,
    (one) => sizeOf(cutTo(0, one)) <= whole / 2,
  );
  return cutTo(
    largest(most, (limit) => sizeOf(cutTo(limit, level)) <= whole),
    level,
  );
}
