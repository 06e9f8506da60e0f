// pyro as a process, and a daemon that answers each operation as a test says.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { OperationName, OutputOf } from "../../../src/operations/table.ts";
import { Conversation, type Fake, greet, type Home, listen, runOutput } from "../client/fake-daemon.ts";

const PYRO = join(import.meta.dirname, "..", "..", "cli", "pyro.ts");

export interface Ended {
  readonly status: number | null;
  readonly signal: string | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly bytes: Buffer;
}

/** Its stdin is open until the caller ends it. */
export function start(home: Home, args: readonly string[], env: NodeJS.ProcessEnv = {}) {
  const child = spawn(process.execPath, [PYRO, ...args], {
    env: { ...process.env, PYRO_HOME: home.directory, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.stdin.on("error", () => {});
  const ended = once(child, "close").then(
    ([status, signal]): Ended => ({
      status: status as number | null,
      signal: signal as string | null,
      stdout: Buffer.concat(stdout).toString(),
      stderr: Buffer.concat(stderr).toString(),
      bytes: Buffer.concat(stdout),
    }),
  );
  return { child, ended };
}

/** Started with an empty stdin, to its end. */
export async function say(home: Home, ...args: string[]): Promise<Ended> {
  const { child, ended } = start(home, args);
  child.stdin.end();
  return ended;
}

export type Input = Readonly<Record<string, unknown>>;
/** Of a row that does not stream: its output, or an error as { error }. */
export type Answer = (input: Input) => unknown;
/** Of a row that streams. */
export type Talk = (talk: Conversation) => void | Promise<void>;

/** A daemon that knows these operations; `asked` gets each request in its turn. */
export function daemon(
  home: Home,
  unary: { readonly [N in OperationName]?: Answer },
  streaming: { readonly [N in OperationName]?: Talk } = {},
  asked: [string, unknown][] = [],
): Promise<Fake> {
  return listen(home.where, async (request, response) => {
    const name = (request.url ?? "").replace("/v1/", "") as OperationName;
    const talker = streaming[name];
    if (talker) {
      const talk = await Conversation.open(request, response);
      asked.push([name, talk.head.input]);
      return talker(talk);
    }
    const chunks: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
    const input = JSON.parse(Buffer.concat(chunks).toString() || "{}") as Input;
    asked.push([name, input]);
    const output = unary[name]?.(input) ?? { error: { code: "UNKNOWN_OPERATION", message: `No ${name}.`, hint: "-" } };
    greet(response, typeof output === "object" && "error" in output ? 400 : 200);
    response.end(JSON.stringify(output));
  });
}

/** A workspace's record. */
export function workspace(change: Partial<OutputOf<"workspace.status">> = {}): OutputOf<"workspace.status"> {
  return {
    workspace_id: "ws_abcdefghij",
    name: "fix-tests",
    labels: { team: "core" },
    environment: "debian:12",
    environment_digest: `sha256:${"ab".repeat(32)}`,
    driver: "qemu",
    acceleration: "tcg",
    vcpu_count: 1,
    mem_mib: 1024,
    disk_mib: 16_384,
    disk_used_bytes: 5 << 20,
    state: "started",
    stop_reason: null,
    failure: null,
    network_policy: "off",
    allow_hosts: [],
    workspace_path: "/workspace",
    seed: { mode: "empty", seed_path: null, entry_count: 0, bytes_written: 0, skipped: [], skipped_count: 0 },
    secrets: [],
    created_at: new Date(Date.now() - 7_200_000).toISOString(),
    last_activity_at: new Date(Date.now() - 90_000).toISOString(),
    ttl_seconds: 3600,
    expires_at: "2026-01-01T01:00:00Z",
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

/** A command's result in a workspace. */
export function result(change: Record<string, unknown> = {}): OutputOf<"workspace.exec"> {
  const { vm_id: _, ...rest } = runOutput("vm_x", { workspace_id: "ws_abcdefghij", lost_reason: null, ...change });
  return rest as unknown as OutputOf<"workspace.exec">;
}
