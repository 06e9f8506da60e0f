// `pyro mcp config --check`: whether an agent's own configuration has this server as it would be printed now. Reads and
// changes nothing.
import { readFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";

/** Where an agent may have an entry: a file, and the keys that lead to the entry in it. */
export interface Place {
  readonly file: string;
  readonly keys: readonly string[];
}

export interface Checked {
  /** "other": there is an entry, and it says something else. "unreadable": the file cannot be read, or is not as expected. */
  readonly state: "same" | "other" | "missing" | "unreadable";
  /** Where the entry is; null when there is none. */
  readonly file: string | null;
}

type Json = Readonly<Record<string, unknown>>;

/** The places are in the agent's own order: the first that has an entry is the one that holds. */
export async function checkPlaces(
  places: readonly Place[],
  format: "json" | "toml",
  expected: string,
): Promise<Checked> {
  for (const { file, keys } of places) {
    const text = await readFile(file, "utf8").catch((thrown: NodeJS.ErrnoException) =>
      thrown.code === "ENOENT" || thrown.code === "ENOTDIR" ? undefined : null,
    );
    if (text === undefined) continue;
    try {
      if (text === null) throw new Error("it cannot be read");
      const same = format === "toml" ? sameTables(text, expected, keys) : sameEntry(text, expected, keys);
      if (same !== undefined) return { state: same ? "same" : "other", file };
    } catch {
      return { state: "unreadable", file };
    }
  }
  return { state: "missing", file: null };
}

/** Undefined when there is no entry. What the agent added of its own is its own. */
function sameEntry(text: string, expected: string, keys: readonly string[]): boolean | undefined {
  const found = entryAt(JSON.parse(withoutComments(text)), keys);
  if (found === undefined) return undefined;
  // What is printed has one entry, under the same name.
  const printed = Object.entries(entryAt(JSON.parse(expected), keys.slice(-2)) ?? {});
  const given = found as Json;
  return printed.every(([key, value]) => isDeepStrictEqual(given[key] ?? (isEmpty(value) ? value : undefined), value));
}

function entryAt(document: unknown, keys: readonly string[]): Json | undefined {
  let at = document;
  for (const key of keys) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Json)[key];
  }
  return typeof at === "object" && at !== null ? (at as Json) : {};
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

/**
 * Of TOML, which may say one thing in many ways, only what is written as it is printed counts as the same: line by line.
 * Undefined when there is no such table.
 */
function sameTables(text: string, expected: string, keys: readonly string[]): boolean | undefined {
  const name = keys.join(".");
  const found = linesOf(text, name);
  if (found.length === 0) return undefined;
  const printed = linesOf(expected, name);
  return printed.every((line) => found.includes(line)) && !found.some((line) => isOther(line, printed));
}

/** A key that is printed too, or a variable, with a value that is not printed. */
function isOther(line: string, printed: readonly string[]): boolean {
  const [table = "", key = ""] = line.split(/\t| = /);
  const known = printed.some((one) => one.startsWith(`${table}\t${key} = `));
  return (known || table.endsWith(".env]")) && !printed.includes(line);
}

/** The lines of a table and those below it, each behind its table's name. */
function linesOf(text: string, name: string): string[] {
  let table = "";
  const lines: string[] = [];
  for (const line of text.split("\n").map((one) => one.trim())) {
    if (line.startsWith("[")) table = line.replace(/\s|"|#.*$/g, "");
    if (table !== `[${name}]` && !table.startsWith(`[${name}.`)) continue;
    if (line === "" || line.startsWith("#")) continue;
    lines.push(line.startsWith("[") ? table : `${table}\t${line.replace(/\s*=\s*/, " = ")}`);
  }
  return lines;
}
