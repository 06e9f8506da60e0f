// Commands and their output for a person: the bytes as they are, the rest as a note.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { statusOf } from "../exit-status.ts";
import { shellWords } from "../shell-words.ts";
import { table } from "./table.ts";
import { ageOf, secondsOf, shortened } from "./units.ts";
import type { Shown } from "./view.ts";

type Facts = OutputOf<"process.list">["processes"][number];
type Result = Facts & Pick<OutputOf<"workspace.exec">, "omitted_bytes">;

/** What a bare exit status does not say; undefined when it says all. The output was streamed already. */
export function endNote(output: Result | OutputOf<"run">, name: "run" | "workspace.exec"): string | undefined {
  const notes: string[] = [];
  if (output.timed_out) notes.push(`the command's time ran out after ${secondsOf(output.duration_ms)} s.`);
  if (output.lost_reason != null) notes.push(`how the command ended is not known: ${printable(output.lost_reason)}`);
  if (output.out_of_memory) {
    const more = name === "run" ? "--mem-mib gives more" : "a workspace created with more --mem-mib has more";
    notes.push(`the guest's memory ran out, and a process was killed for it; ${more}.`);
  }
  if (output.omitted_bytes > 0) notes.push(`${output.omitted_bytes} bytes of output were lost.`);
  if (output.state === "running") {
    const of = "workspace_id" in output ? `${String(output.workspace_id)} ${output.process_id}` : output.process_id;
    notes.push(`it runs on; \`pyro workspace process read ${of}\` shows what it prints.`);
  }
  return notes.length === 0 ? undefined : notes.map((note) => `pyro: ${note}`).join("\n");
}

export function runView(output: OutputOf<"run">): Shown {
  return { note: endNote(output, "run"), status: statusOf(output) };
}

export function execView(output: OutputOf<"workspace.exec">): Shown {
  return { note: endNote(output, "workspace.exec"), status: statusOf(output) };
}

export function processReadView(output: OutputOf<"process.read">): Shown {
  const state = output.state === "running" ? "still runs" : endOf(output);
  const memory = output.out_of_memory ? ", the guest's memory ran out" : "";
  const omitted = output.omitted_bytes > 0 ? `, ${output.omitted_bytes} bytes left out` : "";
  return {
    stdout: bytesOf(output.stdout, output.stdout_encoding),
    stderr: bytesOf(output.stderr, output.stderr_encoding),
    note: `pyro: ${output.process_id} ${state}${memory}${omitted}; go on with --cursor ${output.next_cursor}`,
  };
}

export function processListView({ processes, next_cursor }: OutputOf<"process.list">): Shown {
  const rows = processes.map((process) => [
    process.process_id,
    process.state === "running" ? "running" : shortEnd(process),
    ageOf(process.started_at),
    `${secondsOf(process.duration_ms)} s`,
    shortened(shellWords(process.command)),
  ]);
  return {
    stdout: table(["PROCESS", "STATE", "AGE", "TOOK", "COMMAND"], rows),
    note: next_cursor === null ? undefined : `pyro: there are more: --cursor ${next_cursor}`,
  };
}

export function processWriteView(output: OutputOf<"process.write">): Shown {
  const closed = output.closed ? "; it reads no more" : "";
  return { note: `pyro: ${output.process_id} took ${output.accepted_bytes} bytes${closed}` };
}

export function processSignalView({ process_id, signal, delivered }: OutputOf<"process.signal">): Shown {
  return { note: `pyro: ${delivered ? `${process_id} was sent ${signal}` : `${process_id} had ended already`}` };
}

/** The status is the command's own. */
export function processWaitView(output: OutputOf<"process.wait">): Shown {
  return { note: `pyro: ${output.process_id} ${endOf(output)}`, status: statusOf(output) };
}

/** How a process that has ended did so, in words that follow its name. */
function endOf(output: Facts | OutputOf<"process.read">): string {
  if (output.timed_out) return "was killed: its time ran out";
  if (output.lost_reason !== null) return `ended nobody knows how: ${printable(output.lost_reason)}`;
  return output.signal === null ? `exited with ${output.exit_code}` : `was ended by ${output.signal}`;
}

/** The same in a word or two. */
export function shortEnd(output: Omit<Facts, "state">): string {
  if (output.timed_out) return "timed out";
  if (output.lost_reason !== null) return "lost";
  return output.signal ?? `exit ${output.exit_code}`;
}

export function bytesOf(text: string, encoding: "utf-8" | "base64"): Buffer {
  return Buffer.from(text, encoding === "utf-8" ? "utf8" : "base64");
}
