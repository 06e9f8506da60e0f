// The commands of a workspace with what they printed, one after another.
import type { OutputOf } from "../../operations/table.ts";
import { printable } from "../../text/printable.ts";
import { shellWord, shellWords } from "../shell-words.ts";
import { emphasized } from "./colour.ts";
import { bytesOf, shortEnd } from "./process.ts";
import { secondsOf } from "./units.ts";
import type { Shown } from "./view.ts";

export type Entry = OutputOf<"workspace.logs">["entries"][number];

/** What is printed of one command, in this order: its header and output, and what is to be said of it. */
export interface ShownEntry {
  readonly stdout: Uint8Array;
  readonly stderr: Uint8Array;
  readonly note?: string;
}

export function entryView(entry: Entry): ShownEntry {
  const end = entry.state === "running" ? "running" : shortEnd(entry);
  const facts = [entry.started_at, entry.process_id, `${end},`, `${secondsOf(entry.duration_ms)} s:`];
  const header = emphasized(printable(`==> ${facts.join(" ")} ${shellWords(entry.command)}`));
  const stdout = ended(bytesOf(entry.stdout, entry.stdout_encoding));
  const of = `${shellWord(entry.workspace_id)} ${entry.process_id}`;
  return {
    stdout: Buffer.concat([Buffer.from(`${header}\n`), stdout]),
    stderr: ended(bytesOf(entry.stderr, entry.stderr_encoding)),
    ...(entry.omitted_bytes > 0
      ? {
          note: `pyro: ${entry.omitted_bytes} bytes of ${entry.process_id} are left out; \`pyro workspace process read ${of}\` has them`,
        }
      : {}),
  };
}

/** What is said behind all entries. */
export function logsView({ entries, next_cursor }: OutputOf<"workspace.logs">): Shown {
  if (next_cursor !== null) return { note: `pyro: there are more: --cursor ${next_cursor}` };
  return entries.length === 0 ? { note: "pyro: no command has run in it" } : {};
}

/** The next header begins a line. */
function ended(data: Buffer): Buffer {
  return data.length === 0 || data.at(-1) === 0x0a ? data : Buffer.concat([data, Buffer.from("\n")]);
}
