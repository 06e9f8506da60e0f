// `pyro mcp config --check`: what an agent's own configuration has of this server, and whether that is as it would be printed
// now. Reads and changes nothing.
import { readFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";

/** Where an agent may have an entry: a file, and the keys that lead to the entry in it. */
export interface Place {
  readonly file: string;
  readonly keys: readonly string[];
  /** The file is the project's: it may have come with a repository. */
  readonly shared: boolean;
}

/** What an entry says of the server that it starts. */
export interface Configured {
  /** Empty when it names no command. */
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string | undefined;
  /** The agent has it and does not start it. */
  readonly off: boolean;
}

export interface Checked {
  /** "other": there is an entry, and it says something else. "unreadable": the file cannot be read, or is not as expected. */
  readonly state: "same" | "other" | "missing" | "unreadable";
  /** Where the entry is; null when there is none. */
  readonly place: Place | null;
  readonly configured: Configured | null;
}

type Json = Readonly<Record<string, unknown>>;
type Parse = (text: string) => unknown;

/** The places are in the agent's own order: the first that has an entry is the one that holds. */
export async function checkPlaces(
  places: readonly Place[],
  format: "json" | "toml",
  expected: string,
): Promise<Checked> {
  const parse: Parse =
    format === "toml" ? (await import("smol-toml")).parse : (text) => JSON.parse(withoutComments(text));
  const printed = printedEntry(parse(expected));
  for (const place of places) {
    const text = await readFile(place.file, "utf8").catch((thrown: NodeJS.ErrnoException) =>
      thrown.code === "ENOENT" || thrown.code === "ENOTDIR" ? undefined : null,
    );
    if (text === undefined) continue;
    try {
      if (text === null) throw new Error("it cannot be read");
      const found = entryAt(parse(text), place.keys);
      if (found === undefined) continue;
      return { state: isSame(found, printed) ? "same" : "other", place, configured: configuredOf(found) };
    } catch {
      return { state: "unreadable", place, configured: null };
    }
  }
  return { state: "missing", place: null, configured: null };
}

/** What is printed has one entry, whatever it is below. */
function printedEntry(document: unknown): Json {
  let at = document as Json;
  while (at.pyro === undefined) at = Object.values(at).find((value) => typeof value === "object") as Json;
  return at.pyro as Json;
}

/** What the agent added of its own is its own; what says nothing is as if it were not there. */
function isSame(found: Json, printed: Json): boolean {
  const told = configuredOf(found);
  if (told.off) return false;
  const silent = (value: unknown) => value === true || (typeof value === "object" && isEmpty(value));
  return (
    isDeepStrictEqual({ ...told.env }, { ...configuredOf(printed).env }) &&
    Object.entries(printed).every(([key, value]) => {
      const given = found[key] ?? (silent(value) || key === "type" ? value : undefined);
      return isDeepStrictEqual(plain(given), plain(value));
    })
  );
}

function configuredOf(entry: Json): Configured {
  const { command, args, env, environment, cwd, enabled, disabled } = entry;
  const words = typeof command === "string" ? [command, ...(Array.isArray(args) ? args : [])] : command;
  const isVector = Array.isArray(words) && words.every((word) => typeof word === "string");
  const variables = Object.entries(Object(env ?? environment)).map(([name, value]) => [name, String(value)]);
  return {
    argv: isVector ? words : [],
    env: Object.fromEntries(variables) as Record<string, string>,
    cwd: typeof cwd === "string" ? cwd : undefined,
    off: enabled === false || disabled === true,
  };
}

function entryAt(document: unknown, keys: readonly string[]): Json | undefined {
  let at = document;
  for (const key of keys) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Json)[key];
  }
  return typeof at === "object" && at !== null ? (at as Json) : {};
}

/** Tables of TOML have no prototype. */
function plain(value: unknown): unknown {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? { ...value } : value;
}

function isEmpty(value: unknown): boolean {
  return typeof value === "object" && value !== null && Object.keys(value).length === 0;
}

/** Agents' JSON may have comments, and a comma behind the last. */
function withoutComments(text: string): string {
  return text
    .replace(/^\ufeff/, "")
    .replace(/("(?:[^"\\]|\\.)*")|\/\/[^\n]*|\/\*[\s\S]*?\*\//g, (_, word?: string) => word ?? "")
    .replace(/("(?:[^"\\]|\\.)*")|,(?=\s*[}\]])/g, (_, word?: string) => word ?? "");
}
