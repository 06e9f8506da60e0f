// Tools that send files of the host: creating a workspace, which goes on when the wait is over, and pushing into one,
// which then is taken back.
import { setTimeout as sleep } from "node:timers/promises";
import type { CallToolResult } from "@modelcontextprotocol/server";
import { call } from "../client/call.ts";
import { ensureDaemon } from "../client/connect.ts";
import { openStream, type Stream } from "../client/stream.ts";
import { withUpload } from "../client/upload.ts";
import type { Where } from "../client/where.ts";
import { PyroError } from "../errors/error.ts";
import type { EventOf, InputOf, OutputOf } from "../operations/table.ts";
import { gently, RESULT_BYTES } from "./budget.ts";
import type { Exports } from "./disk-export.ts";
import type { Project } from "./project.ts";
import type { Request } from "./request.ts";
import { type Output, result, sizeOf } from "./result.ts";
import type { ServedSecrets } from "./secrets.ts";

export type TransferName = "workspace.create" | "workspace.sync_push";

/** Which paths of the host may be used: where one really is, symbolic links resolved, or HOST_PATH_FORBIDDEN. */
export interface PathRule {
  checkRead(path: string): Promise<string>;
  checkWrite(path: string): Promise<string>;
}

/** What a server keeps for its calls, and of the transfers that outlive the call they began with. */
export interface Transfers {
  readonly where: Where;
  /** What relative paths are relative to. */
  readonly cwd: string;
  readonly rule: PathRule;
  /** What a workspace begins with when nothing else is asked for. */
  readonly project: Project | undefined;
  readonly creations: Creations;
  readonly exports: Exports;
  readonly secrets: ServedSecrets;
}

/** What a look at the source may take beyond the wait, ms. */
const LOOKING_GRACE_MS = 3000;
/** How often a workspace that is being created is looked for, ms. */
const LOOK_MS = 300;
/** Creations whose failure is kept. */
const MOST_FAILURES = 100;

/** Workspaces that are still being created for calls which were answered, and why some of them never came to be. */
export class Creations {
  readonly #failures = new Map<string, PyroError>();
  readonly #closing = new AbortController();

  /** Aborts when the server ends: what is still being sent then is taken back. */
  get closing(): AbortSignal {
    return this.#closing.signal;
  }

  /** Goes on with it. `names` are what a model may call the workspace by. */
  keep(names: readonly string[], result: Promise<unknown>): void {
    result.catch((thrown: unknown) => {
      const { code, message, hint, details } = PyroError.from(thrown);
      const told = new PyroError(code, `Workspace ${names[0]} could not be created: ${message}`, { hint, details });
      for (const name of names) {
        this.#failures.delete(name);
        this.#failures.set(name, told);
      }
      for (const oldest of this.#failures.keys()) {
        if (this.#failures.size <= MOST_FAILURES) break;
        this.#failures.delete(oldest);
      }
    });
  }

  /** Why there is no such workspace, when that is because it could not be created. */
  failureOf(idOrName: unknown): PyroError | undefined {
    return typeof idOrName === "string" ? this.#failures.get(idOrName) : undefined;
  }

  close(): void {
    this.#closing.abort(new PyroError("CANCELLED", "The server ended."));
  }
}

/** Errors: those of the rows; LIMIT_EXCEEDED for a push, or a look at the source, that takes longer than the wait. */
export async function transfer<N extends TransferName>(
  transfers: Transfers,
  name: N,
  input: InputOf<N>,
  request: Request,
): Promise<CallToolResult> {
  const { where, cwd, rule, creations } = transfers;
  await request.inTime(ensureDaemon(where, request.signal));
  const looking = new AbortController();
  const patience = request.leftMs + LOOKING_GRACE_MS;
  const timer = setTimeout(() => looking.abort(tooLong(name, "Looking at what is to be sent")), patience);
  const { input: sent, upload } = await withUpload(name, input, {
    cwd,
    signal: AbortSignal.any([looking.signal, request.signal]),
    allow: (path) => rule.checkRead(path),
  }).finally(() => clearTimeout(timer));

  const ending = new AbortController();
  const end = () => ending.abort(request.signal.reason);
  if (request.signal.aborted) end();
  request.signal.addEventListener("abort", end, { once: true });
  try {
    const stream = openStream(
      where,
      name,
      { ...sent, wait_seconds: request.leftMs / 1000 },
      {
        signal: AbortSignal.any([ending.signal, creations.closing]),
        upload,
        onEvent: (event) => request.progress((event as EventOf<TransferName>).message),
      },
    );
    const done: Promise<Output> =
      name === "workspace.create"
        ? created(transfers, stream as Stream<"workspace.create">, (input as InputOf<"workspace.create">).name, request)
        : pushed(stream as Stream<"workspace.sync_push">, request);
    const output = await request.inTime(done).catch((thrown: unknown) => {
      // Nothing goes on that no answer told of.
      ending.abort(thrown);
      throw thrown;
    });
    return gently(
      (level) => result(output, level),
      (made) => sizeOf(made) <= RESULT_BYTES,
    );
  } finally {
    request.signal.removeEventListener("abort", end);
  }
}

/** The workspace when it is ready; one on the way when the wait is over first, and it then goes on. */
async function created(
  { where, creations }: Transfers,
  stream: Stream<"workspace.create">,
  name: string | undefined,
  request: Request,
): Promise<OutputOf<"workspace.create">> {
  let over = false;
  const finished = stream.result.finally(() => {
    over = true;
  });
  const ready = await soonerThan(request.leftMs, finished);
  if (ready) return ready;
  const workspaceId = stream.id ?? "";
  while (!over && !request.overdue.aborted && !request.signal.aborted) {
    const record = await call(where, "workspace.status", { workspace_id: workspaceId }).catch(notThereYet);
    // Until its environment is there the daemon has an answer of its own to give.
    if (record?.environment_digest != null && !over) {
      creations.keep(name === undefined ? [workspaceId] : [workspaceId, name], finished);
      return record;
    }
    const found = await soonerThan(LOOK_MS, finished);
    if (found) return found;
  }
  return await finished;
}

/** The push when it is done; one that is not when the wait is over is cancelled, and only if that was too late it is done. */
async function pushed(
  stream: Stream<"workspace.sync_push">,
  request: Request,
): Promise<OutputOf<"workspace.sync_push">> {
  const done = await soonerThan(request.leftMs, stream.result);
  if (done) return done;
  stream.cancel();
  try {
    return await stream.result;
  } catch (thrown) {
    if (thrown instanceof PyroError && thrown.code === "CANCELLED" && !request.signal.aborted) {
      throw tooLong("workspace.sync_push", "The push");
    }
    throw thrown;
  }
}

function tooLong(name: TransferName, what: string): PyroError {
  const changed = name === "workspace.create" ? "no workspace was made" : "nothing was changed";
  return new PyroError("LIMIT_EXCEEDED", `${what} took longer than wait_seconds and was cancelled; ${changed}.`, {
    hint: "Send less at once: leave out what is not needed with exclude or gitignore, or send parts one by one; wait_seconds may be up to 50.",
  });
}

function notThereYet(thrown: unknown): undefined {
  if (thrown instanceof PyroError && thrown.code === "WORKSPACE_NOT_FOUND") return undefined;
  throw thrown;
}

/** What a promise gives, or undefined when that takes longer. */
export async function soonerThan<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  const timer = new AbortController();
  try {
    return await Promise.race([promise, sleep(ms, undefined, { signal: timer.signal })]);
  } finally {
    timer.abort();
  }
}
