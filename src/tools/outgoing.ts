// Tools that bring something out of a workspace: to a file of the host where this server may write, or for a diff a part of it
// into the result.
import type { CallToolResult } from "@modelcontextprotocol/server";
import { ensureDaemon } from "../client/connect.ts";
import { type OutgoingName, takeOut } from "../client/download/take-out.ts";
import { PyroError } from "../errors/error.ts";
import type { InputOf } from "../operations/table.ts";
import { GENTLE, gently, largest, RESULT_BYTES } from "./budget.ts";
import type { Request } from "./request.ts";
import { asText, type Output, result, sizeOf } from "./result.ts";
import type { Transfers } from "./transfer.ts";

/** What is kept to choose from for a result: more of neither could be shown. */
const KEPT = { entries: 200, bytes: 64 << 10 } as const;

/** Errors: those of the row; LIMIT_EXCEEDED for what takes longer than the wait. */
export async function bringOut(
  { where, cwd, rule, creations }: Transfers,
  name: OutgoingName,
  input: InputOf<OutgoingName>,
  request: Request,
): Promise<CallToolResult> {
  await request.inTime(ensureDaemon(where, request.signal));
  const { wait_seconds, ...asked } = input;
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(tooLong(name)), request.leftMs);
  const toFile = input.output_path !== undefined;
  const wanted = name === "workspace.diff" && "paths" in input && (input.paths?.length ?? 0) > 0;
  try {
    // A patch that nobody would see is not made.
    const sent = name === "workspace.diff" && !wanted && !toFile ? { ...asked, stat: true } : asked;
    const taken = takeOut(where, name, sent as InputOf<OutgoingName>, {
      cwd,
      signal: AbortSignal.any([request.signal, late.signal, creations.closing]),
      allow: (path) => rule.checkWrite(path),
      makeParents: true,
      onEvent: (event) => {
        if (event.type === "progress") request.progress(event.message);
      },
      keep: { entries: KEPT.entries, bytes: toFile || !wanted ? 0 : KEPT.bytes },
    });
    const output: Output = await request.inTime(taken);
    return name === "workspace.diff" ? bounded(output, wanted && !toFile) : shortened(output);
  } catch (thrown) {
    const gone = thrown instanceof PyroError && thrown.code === "WORKSPACE_NOT_FOUND";
    throw (gone && creations.failureOf(input.workspace_id)) || thrown;
  } finally {
    clearTimeout(timer);
  }
}

function shortened(output: Output): CallToolResult {
  return gently(
    (level) => result(output, level),
    (made) => sizeOf(made) <= RESULT_BYTES,
  );
}

/** As many changes as there is room for, and of the patch what is left beside them. */
function bounded(output: Output, withPatch: boolean): CallToolResult {
  const entries = (output.entries as readonly Output[]).map((entry) => ({ ...entry, text_patch: null }));
  const patch = withPatch ? (asText(output) as { patch: string }).patch : "";
  const lines = patch.split(/(?<=\n)/);
  const make = (most: number, ofPatch: number): CallToolResult => {
    const shown = lines.slice(0, ofPatch).join("");
    const told = asText({
      ...output,
      entries: entries.slice(0, most),
      entries_truncated: output.entries_truncated === true || most < entries.length,
    }) as Output;
    // One that nobody asked for is not cut.
    const truncated = withPatch && (output.patch_truncated === true || shown.length < patch.length);
    return result({ ...told, patch: shown, patch_truncated: truncated }, GENTLE);
  };
  const room = withPatch && patch !== "" ? RESULT_BYTES / 3 : RESULT_BYTES;
  const most = largest(entries.length, (count) => sizeOf(make(count, 0)) <= room);
  const ofPatch = largest(lines.length, (count) => sizeOf(make(most, count)) <= RESULT_BYTES);
  return make(most, ofPatch);
}

function tooLong(name: OutgoingName): PyroError {
  const what = name === "workspace.diff" ? "The diff" : "The export";
  return new PyroError("LIMIT_EXCEEDED", `${what} took longer than wait_seconds and was ended; nothing was written.`, {
    hint: "Ask for a part of it by its path; wait_seconds may be up to 50.",
  });
}
