// Commands and their output for a person: the bytes as they are, the rest as a note.
import type { OutputOf } from "../../operations/table.ts";
import type { Shown } from "./view.ts";

/** Its output was streamed already. */
export function runView(output: OutputOf<"run">): Shown {
  const notes: string[] = [];
  if (output.timed_out) notes.push(`the command's time ran out after ${seconds(output.duration_ms)} s.`);
  // A bare 137 would not say so.
  if (output.out_of_memory) {
    notes.push("the guest's memory ran out, and a process was killed for it; --mem-mib gives more.");
  }
  if (output.omitted_bytes > 0) notes.push(`${output.omitted_bytes} bytes of output were lost.`);
  return notes.length === 0 ? {} : { note: notes.map((note) => `pyro: ${note}`).join("\n") };
}

export function processView(output: OutputOf<"process.read">): Shown {
  const state =
    output.state === "running"
      ? "still running"
      : output.timed_out
        ? "its time ran out"
        : output.signal !== null
          ? `ended by ${output.signal}`
          : `exited with ${output.exit_code}`;
  const memory = output.out_of_memory ? ", the guest's memory ran out" : "";
  const omitted = output.omitted_bytes > 0 ? `, ${output.omitted_bytes} bytes left out` : "";
  return {
    stdout: Buffer.from(output.stdout, nodeEncoding(output.stdout_encoding)),
    stderr: Buffer.from(output.stderr, nodeEncoding(output.stderr_encoding)),
    note: `pyro: ${output.process_id} ${state}${memory}${omitted}; go on with --cursor ${output.next_cursor}`,
  };
}

function nodeEncoding(encoding: "utf-8" | "base64"): BufferEncoding {
  return encoding === "utf-8" ? "utf8" : "base64";
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1);
}
