// A fake daemon by row: what each answers is the test's to say, and what was asked is kept.
import { PyroError } from "../../../src/errors/error.ts";
import { FACTS } from "../../../src/operations/facts.ts";
import type { OperationName } from "../../../src/operations/table.ts";
import { ToClient, ToDaemon } from "../../../src/wire/protocol.ts";
import { Conversation, type Fake, greet, type Home, listen, runOutput } from "./fake-daemon.ts";

export type Json = Record<string, unknown>;

/** A row that does not stream answers with what it returns, one that streams says all itself. Throwing is an error. */
export type Rows = {
  readonly [N in OperationName]?: (input: Json, talk: Conversation) => unknown;
};

export interface FakeRows extends Fake {
  /** Every call, in order. */
  readonly asked: { readonly operation: string; readonly input: Json }[];
}

export async function answerRows(home: Home, rows: Rows): Promise<FakeRows> {
  const asked: { operation: string; input: Json }[] = [];
  const fake = await listen(home.where, async (request, response) => {
    const operation = (request.url ?? "").replace("/v1/", "") as OperationName;
    const row = rows[operation];
    if (row === undefined) throw new Error(`${operation} was not expected`);
    if (FACTS[operation].streams) {
      const talk = await Conversation.open(request, response);
      const input = talk.head.input as Json;
      asked.push({ operation, input });
      try {
        await row(input, talk);
      } catch (thrown) {
        talk.json(ToClient.Error, PyroError.from(thrown).toData());
      }
      return;
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const input = JSON.parse(Buffer.concat(chunks).toString()) as Json;
    asked.push({ operation, input });
    try {
      const output = await row(input, undefined as unknown as Conversation);
      greet(response);
      response.end(JSON.stringify(output));
    } catch (thrown) {
      greet(response, 400);
      response.end(JSON.stringify({ error: PyroError.from(thrown).toData() }));
    }
  });
  return Object.assign(fake, { asked });
}

/** Waits for a control frame and gives it; undefined when the caller has gone. */
export async function control(talk: Conversation): Promise<unknown> {
  for (;;) {
    const frame = await talk.next().catch(() => undefined);
    if (frame === undefined) return undefined;
    if (frame.type === ToDaemon.Control) return JSON.parse(Buffer.from(frame.payload).toString());
  }
}

/** A workspace as a daemon tells it. */
export function workspaceRecord(workspaceId: string, change: Json = {}): Json {
  return {
    workspace_id: workspaceId,
    name: null,
    labels: {},
    environment: "debian:12",
    environment_digest: "d",
    driver: "qemu",
    acceleration: "tcg",
    vcpu_count: 1,
    mem_mib: 1024,
    disk_mib: 16_384,
    disk_used_bytes: 4096,
    state: "started",
    stop_reason: null,
    failure: null,
    network_policy: "off",
    allow_hosts: [],
    workspace_path: "/workspace",
    seed: { mode: "empty", seed_path: null, entry_count: 0, bytes_written: 0, skipped: [], skipped_count: 0 },
    secrets: [],
    created_at: "2026-01-01T00:00:00Z",
    last_activity_at: "2026-01-01T00:00:00Z",
    ttl_seconds: 3600,
    expires_at: null,
    command_count: 0,
    last_command: null,
    shell_count: 0,
    running_shell_count: 0,
    service_count: 0,
    running_service_count: 0,
    snapshot_count: 0,
    reset_count: 0,
    last_reset_at: null,
    ...change,
  };
}

/** The result of a command in a workspace, or an entry of its log. */
export function execOutput(workspaceId: string, change: Json = {}): Json {
  const { vm_id: _, ...output } = runOutput("");
  return { workspace_id: workspaceId, ...output, ...change };
}

/** A process without its output. */
export function processFacts(change: Json = {}): Json {
  return {
    process_id: "proc_1",
    sequence: 1,
    command: ["true"],
    cwd: "/workspace",
    state: "exited",
    exit_code: 0,
    signal: null,
    timed_out: false,
    out_of_memory: false,
    lost_reason: null,
    started_at: "2026-01-01T00:00:00Z",
    duration_ms: 5,
    ...change,
  };
}
