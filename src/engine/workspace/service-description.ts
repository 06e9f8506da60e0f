// From what is known of a service and of its process to what the rows tell of it.
import type { OutputOf } from "../../operations/table.ts";
import type { Command } from "./command.ts";
import { shortened } from "./command-pages.ts";
import type { StoredService } from "./service-record.ts";

type Description = OutputOf<"service.status">;
type Known = Pick<Command, "over" | "facts" | "record">;
type Failure = NonNullable<StoredService["failure"]>;

export function stateOf({ failure, stop, ready_at }: StoredService, { over, record }: Known): Description["state"] {
  if (failure !== null) return "failed";
  if (!over) return ready_at === null ? "starting" : "running";
  if (stop !== null) return "stopped";
  if (record.lost !== null) return record.lost.code === "MICROVM_LOST" ? "stopped" : "failed";
  return ready_at === null ? "failed" : "exited";
}

/** Of one that has failed and was not ready too late. */
export function whyEarly({ facts }: Known): Omit<Failure, "log_tail"> {
  const { end, lost } = facts;
  if (end === undefined) return { reason: "lost", message: lost?.message ?? "nobody knows how it ended." };
  const how = end.signal === null ? `it exited with ${end.exitCode}` : `it was ended by ${end.signal}`;
  const memory = end.outOfMemory ? "; the guest's memory ran out" : "";
  return { reason: "ended_early", message: `${how} before it was ready${memory}.` };
}

export function describeService(workspaceId: string, stored: StoredService, command: Known): Description {
  const { probe, stop } = stored;
  const { facts } = command;
  const state = stateOf(stored, command);
  const failure = state === "failed" ? (stored.failure ?? { ...whyEarly(command), log_tail: "" }) : null;
  const stopped = stop?.reason ?? "workspace_lost";
  return {
    workspace_id: workspaceId,
    service_name: stored.service_name,
    state,
    command: shortened(facts.command),
    cwd: facts.cwd,
    started_at: facts.startedAt,
    ready_at: stored.ready_at,
    ended_at: facts.end?.endedAt ?? facts.lost?.at ?? null,
    exit_code: facts.end?.exitCode ?? null,
    readiness:
      probe === null
        ? null
        : {
            ...probe,
            timeout_seconds: stored.ready_timeout_ms / 1000,
            interval_ms: stored.ready_interval_ms,
            last_reason: stored.last_reason,
          },
    stop_reason: failure?.reason ?? (state === "stopped" ? stopped : null),
    failure:
      failure === null
        ? null
        : { message: failure.message, log_tail: failure.log_tail, log_tail_encoding: "utf-8" as const },
    published_ports: command.over ? [] : stored.published.map((port) => ({ host: "127.0.0.1", ...port })),
  };
}
