// Services for a person.
import type { OutputOf } from "../../operations/table.ts";
import { printable, printableLines } from "../../text/printable.ts";
import { shellWord, shellWords } from "../shell-words.ts";
import { table } from "./table.ts";
import { ageOf, shortened } from "./units.ts";
import type { Shown } from "./view.ts";

type Service = OutputOf<"service.status">;

export function serviceStartView(service: Service): Shown {
  const of = `${shellWord(service.workspace_id)} ${shellWord(service.service_name)}`;
  const ports = service.published_ports.map(
    ({ host, host_port, guest_port }) => ` ${host}:${host_port}->${guest_port}`,
  );
  return {
    stdout: `${printable(service.service_name)} ${stateOf(service)}${ports.join("")}\n`,
    note: `pyro: next: pyro workspace service logs ${of}`,
  };
}

export function serviceListView({ services, next_cursor }: OutputOf<"service.list">): Shown {
  const rows = services.map((service) => [
    service.service_name,
    stateOf(service),
    ageOf(service.started_at),
    shortened(shellWords(service.command)),
  ]);
  return {
    stdout: table(["SERVICE", "STATE", "AGE", "COMMAND"], rows),
    note: next_cursor === null ? undefined : `pyro: there are more: --cursor ${next_cursor}`,
  };
}

export function serviceStatusView(service: Service): Shown {
  const { readiness, failure } = service;
  const facts: [string, string][] = [
    ["Service", service.service_name],
    ["State", stateOf(service)],
    ["Command", shortened(shellWords(service.command))],
    ["Directory", service.cwd],
    ["Started", `${service.started_at} (${ageOf(service.started_at)} ago)`],
  ];
  for (const { host, host_port, guest_port } of service.published_ports) {
    facts.push(["Published", `${host}:${host_port} is port ${guest_port} of the workspace`]);
  }
  if (readiness !== null) facts.push(["Ready by", `${readiness.type} ${readiness.target}`]);
  if (service.ready_at !== null) facts.push(["Ready", service.ready_at]);
  if (service.state === "starting" && readiness?.last_reason) facts.push(["Not yet", readiness.last_reason]);
  if (service.ended_at !== null) facts.push(["Ended", `${service.ended_at} (${ageOf(service.ended_at)} ago)`]);
  if (failure !== null) facts.push(["Failed", failure.message]);
  const tail = failure?.log_tail.trimEnd() ?? "";
  const log = tail === "" ? "" : `${printableLines(tail).replace(/^/gm, "    | ")}\n`;
  const lines = facts.map(([name, value]) => `${name.padEnd(11)}  ${printable(value)}\n`).join("");
  return { stdout: `${lines}${log}` };
}

export function serviceStopView(service: Service): Shown {
  return { note: `pyro: ${service.service_name} ${stateOf(service)}` };
}

/** What is said behind a log. */
export function serviceLogsView(log: OutputOf<"service.logs">): Shown {
  const exit = log.state === "exited" ? ` with ${log.exit_code}` : "";
  return { note: `pyro: ${log.service_name} is ${log.state}${exit}` };
}

const STOPPED: Readonly<Record<string, string>> = {
  requested: "as it was asked to",
  cancelled: "its start was cancelled",
  workspace_idle: "its workspace was stopped as idle",
  workspace_stopped: "its workspace was stopped",
  workspace_lost: "its microVM was lost",
};

/** In words that follow its name. */
function stateOf({ state, exit_code, stop_reason }: Service): string {
  if (state === "exited") return `exited with ${exit_code}`;
  if (state !== "stopped" || stop_reason === null) return state;
  return `stopped: ${STOPPED[stop_reason] ?? stop_reason}`;
}
