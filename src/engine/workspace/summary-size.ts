// How short a summary is: the most that fits a model's result beside its own text, with what is left out counted.
import type { OutputOf } from "../../operations/table.ts";

type Summary = OutputOf<"workspace.summary">;
type Changes = NonNullable<Summary["changes"]>;
type Listed = "commands" | "services" | "shells" | "snapshots" | "pushes" | "exports";

/** All there is to tell; of commands those that run or are newest, in order, and of the others too. */
export type Gathered = Omit<Summary, Listed | "changes"> & {
  readonly [K in Listed]: Omit<Summary[K], "entries_omitted">;
} & { readonly changes: (Omit<Changes, "directories_omitted"> & { readonly untold: number }) | null };

/** Most that a summary takes as a tool's result, bytes: it stands there as JSON, and again as that JSON's text. */
const RESULT_BYTES = 7000;

interface Level {
  readonly commands: number;
  readonly others: number;
  /** Longest of a text, and of a command's words together, characters. */
  readonly text: number;
}

const LEVELS: readonly [Level, ...Level[]] = [
  { commands: 10, others: 6, text: 100 },
  { commands: 8, others: 4, text: 80 },
  { commands: 5, others: 3, text: 60 },
  { commands: 3, others: 2, text: 40 },
  { commands: 1, others: 1, text: 20 },
];

/** Words of a command that are shown. */
const MOST_WORDS = 12;

export function shortest(gathered: Gathered): Summary {
  let summary = atLevel(gathered, LEVELS[0]);
  for (const level of LEVELS.slice(1)) {
    if (sizeOf(summary) <= RESULT_BYTES) break;
    summary = atLevel(gathered, level);
  }
  return summary;
}

function sizeOf(summary: Summary): number {
  const json = JSON.stringify(summary);
  return Buffer.byteLength(json) + Buffer.byteLength(JSON.stringify(json));
}

function atLevel(gathered: Gathered, { commands: most, others, text }: Level): Summary {
  const { commands, changes, services, shells, snapshots, pushes, exports, ...rest } = gathered;
  const cut = (value: string) => ending(value, text);
  return {
    ...rest,
    changes_left_out: rest.changes_left_out === null ? null : beginning(rest.changes_left_out, 3 * text),
    commands: listed(commands, commands.total, newestOf(commands.entries, most), (one) => ({
      ...one,
      command: briefly(one.command, text),
    })),
    changes: changes === null ? null : changesOf(changes, others, text),
    services: listed(services, services.total, runningFirst(services.entries).slice(0, others), (one) => ({
      ...one,
      host_ports: one.host_ports.slice(0, others),
    })),
    shells: listed(shells, shells.open, shells.entries.slice(0, others), (one) => ({ ...one, cwd: cut(one.cwd) })),
    snapshots: listed(snapshots, snapshots.total, snapshots.entries.slice(-others), (one) => one),
    pushes: listed(pushes, pushes.total, pushes.entries.slice(-others), (one) => ({
      ...one,
      source_path: cut(one.source_path),
      destination: cut(one.destination),
    })),
    exports: listed(exports, exports.total, exports.entries.slice(-others), (one) => ({
      ...one,
      workspace_path: cut(one.workspace_path),
      output_path: cut(one.output_path),
    })),
  };
}

function listed<Part extends { readonly entries: readonly object[] }, Entry>(
  part: Part,
  total: number,
  kept: readonly Part["entries"][number][],
  shown: (entry: Part["entries"][number]) => Entry,
): Omit<Part, "entries"> & { entries: Entry[]; entries_omitted: number } {
  return { ...part, entries: kept.map(shown), entries_omitted: Math.max(0, total - kept.length) };
}

/** Those that run go before others, and all stay in their order. */
function newestOf<Entry extends { readonly state: string }>(entries: readonly Entry[], most: number): Entry[] {
  const isRunning = ({ state }: Entry) => state === "running";
  const running = new Set(entries.filter(isRunning).slice(-most));
  const ended = entries.filter((entry) => !isRunning(entry));
  const others = new Set(ended.slice(ended.length - Math.min(ended.length, most - running.size)));
  return entries.filter((entry) => running.has(entry) || others.has(entry));
}

function runningFirst<Entry extends { readonly state: string }>(entries: readonly Entry[]): Entry[] {
  const lives = ({ state }: Entry) => state === "running" || state === "starting";
  return [...entries.filter(lives), ...entries.filter((entry) => !lives(entry))];
}

function changesOf(
  { directories, untold, ...counts }: NonNullable<Gathered["changes"]>,
  most: number,
  text: number,
): Changes {
  const shown = directories.slice(0, most).map(({ path, total }) => ({ path: beginning(path, text), total }));
  return { ...counts, directories: shown, directories_omitted: directories.length - shown.length + untold };
}

/** As many of a command's words as there is room for. */
function briefly(words: readonly string[], most: number): string[] {
  const kept: string[] = [];
  let left = most;
  for (const word of words) {
    if (left <= 0 || kept.length === MOST_WORDS) return [...kept, "..."];
    kept.push(beginning(word, left));
    left -= word.length + 1;
  }
  return kept;
}

function beginning(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most).replace(/[\ud800-\udbff]$/, "")}...`;
}

/** Of a path the end says more. */
function ending(text: string, most: number): string {
  return text.length <= most ? text : `...${text.slice(text.length - most).replace(/^[\udc00-\udfff]/, "")}`;
}
