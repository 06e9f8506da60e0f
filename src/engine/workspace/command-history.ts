// The commands of a workspace that have ended, in the order in which they did: their numbers alone, in memory and in one
// file, so that a workspace with thousands of them is opened without reading each. The records are the truth: what the
// file lacks is found in them, and what it has beyond them is passed over.
import { appendFile, readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { type CommandRecord, type ProcessKind, readCommand, unreadable } from "./command-record.ts";

const NAME = "ended";
const DIGITS = 8;
/** Directories looked into at once. */
const AT_ONCE = 16;

interface Line {
  readonly sequence: number;
  readonly request_id: string | null;
}

export class CommandHistory {
  readonly #kind: ProcessKind;
  readonly #directory: string;
  /** In the order in which they ended. */
  readonly ended: number[] = [];
  /** Of those that have ended: which call began which. */
  readonly requests = new Map<string, number>();
  readonly #known = new Set<number>();
  /** Highest number that was found on disk, 0 for none. */
  highest = 0;
  #tail: Promise<void> = Promise.resolve();

  private constructor(kind: ProcessKind, directory: string) {
    this.#kind = kind;
    this.#directory = directory;
  }

  /**
   * Reads what is there; `unfinished` are those that may run. What never began is removed. Errors: the system's, when the
   * directory itself cannot be read.
   */
  static async open(
    kind: ProcessKind,
    directory: string,
  ): Promise<{ history: CommandHistory; unfinished: CommandRecord[] }> {
    const history = new CommandHistory(kind, directory);
    const found = (await readdir(directory))
      .filter((name) => /^\d{8,15}$/.test(name))
      .map(Number)
      .sort((a, b) => a - b);
    const there = new Set(found);
    for (const line of await readLines(join(directory, NAME))) {
      if (there.delete(line.sequence)) history.#remember(line);
    }
    const unfinished: CommandRecord[] = [];
    const forgotten: CommandRecord[] = [];
    const unknown = [...there];
    while (unknown.length > 0) {
      const some = unknown.splice(0, AT_ONCE).map((sequence) => history.#look(sequence));
      for (const record of await Promise.all(some)) {
        if (record?.stage === "ready") unfinished.push(record);
        else if (record !== undefined) forgotten.push(record);
      }
    }
    // Their daemon died before it came to the file.
    for (const record of forgotten.sort((a, b) => whenOver(a) - whenOver(b))) {
      history.add(record);
      history.note(record);
    }
    history.highest = [...history.ended, ...unfinished.map(({ sequence }) => sequence)].reduce(
      (a, b) => Math.max(a, b),
      0,
    );
    return { history, unfinished };
  }

  has(sequence: number): boolean {
    return this.#known.has(sequence);
  }

  directoryOf(sequence: number): string {
    return join(this.#directory, String(sequence).padStart(DIGITS, "0"));
  }

  /** The record of one that has ended. */
  async read(sequence: number): Promise<CommandRecord> {
    const directory = this.directoryOf(sequence);
    const record = await readCommand(this.#kind, directory, sequence);
    if (record === undefined) return await unreadable(this.#kind, directory, sequence, "Its record is missing.");
    if (record.stage === "ready") return await unreadable(this.#kind, directory, sequence, "Its end was not recorded.");
    return record;
  }

  /** One has ended. Its record is written already, or will be: the file follows. */
  add(record: CommandRecord): void {
    this.#remember({ sequence: record.sequence, request_id: record.request_id });
  }

  /** To be called when the record of one that was added is on disk. Never rejects: what the file lacks is found again. */
  note(record: CommandRecord): void {
    const line: Line = { sequence: record.sequence, request_id: record.request_id };
    const write = () => appendFile(join(this.#directory, NAME), `${JSON.stringify(line)}\n`, { mode: 0o600 });
    this.#tail = this.#tail.then(write).catch(() => {});
  }

  /** Resolves when everything noted is written. */
  async written(): Promise<void> {
    await this.#tail;
  }

  #remember({ sequence, request_id }: Line): void {
    this.ended.push(sequence);
    this.#known.add(sequence);
    if (request_id !== null) this.requests.set(request_id, sequence);
  }

  async #look(sequence: number): Promise<CommandRecord | undefined> {
    const directory = this.directoryOf(sequence);
    const record = await readCommand(this.#kind, directory, sequence);
    if (record !== undefined) return record;
    const output = (await readdir(directory).catch(() => [])).some((name) => name.startsWith("output."));
    if (output) return await unreadable(this.#kind, directory, sequence, "Its record is missing.");
    await rm(directory, { recursive: true, force: true }).catch(() => {});
    return undefined;
  }
}

function whenOver(record: CommandRecord): number {
  return Date.parse(record.end?.endedAt ?? record.lost?.at ?? record.begun_at);
}

/** Whole lines that can be understood. A last one that was cut is followed by others, in the next daemon's time. */
async function readLines(path: string): Promise<Line[]> {
  const text = await readFile(path, "utf8").catch(() => "");
  const lines: Line[] = [];
  for (const line of text.split("\n")) {
    const found = /^\{"sequence":(\d{1,15}),"request_id":(?:null|"([a-z0-9_]{1,64})")\}$/.exec(line);
    if (found !== null) lines.push({ sequence: Number(found[1]), request_id: found[2] ?? null });
  }
  return lines;
}
