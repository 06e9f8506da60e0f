// The tool that exports a disk to a file of the host. An export takes longer than a call may: it goes on when the wait is over,
// and the same call made again waits for the same export.
import type { CallToolResult } from "@modelcontextprotocol/server";
import { ensureDaemon } from "../client/connect.ts";
import { download } from "../client/download.ts";
import { PyroError } from "../errors/error.ts";
import type { InputOf, OutputOf } from "../operations/table.ts";
import { gently, RESULT_BYTES } from "./budget.ts";
import type { Request } from "./request.ts";
import { result, sizeOf } from "./result.ts";
import { soonerThan, type Transfers } from "./transfer.ts";

interface Running {
  readonly done: Promise<OutputOf<"workspace.disk_export">>;
  readonly ending: AbortController;
  tell: (message: string) => void;
}

/** The exports of a server that no call has had the end of. */
export class Exports {
  readonly #running = new Map<string, Running>();

  get(key: string): Running | undefined {
    return this.#running.get(key);
  }

  keep(key: string, running: Running): void {
    this.#running.set(key, running);
    // It is told to the next call.
    running.done.catch(() => {});
  }

  drop(key: string, running: Running): void {
    if (this.#running.get(key) === running) this.#running.delete(key);
  }
}

/** Errors: those of the row, DISK_EXPORT_RUNNING when the wait is over. */
export async function exportDisk(
  transfers: Transfers,
  { wait_seconds: _, ...input }: InputOf<"workspace.disk_export">,
  request: Request,
): Promise<CallToolResult> {
  const { where, exports, rule } = transfers;
  const place = await rule.checkWrite(input.output_path);
  const key = `${input.workspace_id}\n${place}`;
  await request.inTime(ensureDaemon(where, request.signal));
  const running = exports.get(key) ?? begin(transfers, input);
  exports.keep(key, running);
  running.tell = (message) => request.progress(message);
  const cancel = () => running.ending.abort(request.signal.reason);
  if (request.signal.aborted) cancel();
  request.signal.addEventListener("abort", cancel, { once: true });
  try {
    const output = await soonerThan(request.leftMs, running.done);
    if (output === undefined) {
      const message = "The export is not done yet; it goes on.";
      throw new PyroError("DISK_EXPORT_RUNNING", message);
    }
    exports.drop(key, running);
    return gently(
      (level) => result(output, level),
      (made) => sizeOf(made) <= RESULT_BYTES,
    );
  } catch (thrown) {
    if (!(thrown instanceof PyroError && thrown.code === "DISK_EXPORT_RUNNING")) exports.drop(key, running);
    throw thrown;
  } finally {
    request.signal.removeEventListener("abort", cancel);
  }
}

function begin({ where, cwd, rule, creations }: Transfers, input: InputOf<"workspace.disk_export">): Running {
  const ending = new AbortController();
  const running: Running = {
    ending,
    tell: () => {},
    done: download(where, "workspace.disk_export", input, {
      cwd,
      signal: AbortSignal.any([ending.signal, creations.closing]),
      allow: (path) => rule.checkWrite(path),
      onEvent: (event) => running.tell(event.message),
    }),
  };
  return running;
}
