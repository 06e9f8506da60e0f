// What of a public surface may not become of another. A surface is lines, of which each promises something: `KEY` that there
// is something, `KEY: VALUE` what it is. Two kinds are more than equal or not:
//   SUBJECT takes PATH[?]: KIND | ...    may be given, must be where there is no `?`; may become more kinds, or optional
//   SUBJECT gives PATH[?]: KIND | ...    is there, always where there is no `?`; may become fewer kinds, or always there.
//                                        Literals are only added: readers ignore those that they do not know.
// `tells` is `gives` of an event.

interface Line {
  /** What stays the same when only the promise changes. */
  readonly key: string;
  readonly subject: string;
  readonly verb: "takes" | "gives" | "tells" | "is";
  readonly path: string;
  readonly optional: boolean;
  readonly kinds: readonly string[];
  readonly text: string;
}

/** One line each of what somebody who relied on `before` would miss in `after`; empty when nobody would. */
export function breaks(before: readonly string[], after: readonly string[]): string[] {
  const old = parsed(before);
  const present = parsed(after);
  const subjects = new Set([...old.values()].map(({ subject }) => subject));
  const missed = [...old.values()].flatMap((line) => missedOf(line, present.get(line.key)));
  const demanded = [...present.values()].filter((line) => {
    if (line.verb !== "takes" || line.optional || old.has(line.key) || /[\]}]$/.test(line.path)) return false;
    const parent = line.path.replace(/(^|\.)[^.]*$/, "");
    return parent === "" ? subjects.has(line.subject) : old.has(`${line.subject} takes ${parent}`);
  });
  return [...missed, ...demanded.map(({ text }) => `must be given now: ${text}`)];
}

function missedOf(line: Line, now: Line | undefined): string[] {
  if (now === undefined) return [`is gone: ${line.text}`];
  if (line.verb === "is") return line.text === now.text ? [] : [`has changed: ${line.text}\n        to: ${now.text}`];
  const found: string[] = [];
  if (line.verb === "takes") {
    if (line.optional && !now.optional) found.push(`must be given now: ${now.text}`);
    const lost = line.kinds.filter((kind) => !accepts(now.kinds, kind));
    if (lost.length > 0) found.push(`takes ${lost.join(" | ")} no more: ${now.text}`);
    return found;
  }
  if (!line.optional && now.optional) found.push(`may be missing now: ${now.text}`);
  const lost = line.kinds.filter((kind) => isLiteral(kind) && !now.kinds.includes(kind));
  if (lost.length > 0) found.push(`is never ${lost.join(" | ")} any more: ${now.text}`);
  const gained = now.kinds.filter((kind) => !isLiteral(kind) && !line.kinds.includes(kind) && !isWider(line, kind));
  if (gained.length > 0) found.push(`may be ${gained.join(" | ")} now: ${now.text}`);
  return found;
}

/** An enumeration may become any text, a whole number any number. */
function accepts(kinds: readonly string[], kind: string): boolean {
  if (kinds.includes(kind) || kinds.includes("any")) return true;
  if (kind.startsWith('"') && (kinds.includes("string") || kinds.includes("value"))) return true;
  return kind === "integer" && kinds.includes("number");
}

/** To a reader a whole number is a number. */
function isWider({ kinds }: Line, kind: string): boolean {
  return kind === "integer" && kinds.includes("number");
}

function isLiteral(kind: string): boolean {
  return /^["\d-]|^(true|false)$/.test(kind);
}

function parsed(lines: readonly string[]): Map<string, Line> {
  const all = lines.map((text): Line => {
    const [, subject, verb, path = "", mark, value = ""] =
      /^((?:cli|json|mcp) .*?) (takes|gives|tells) (.*?)(\?)?: (.*)$/.exec(text) ?? [];
    if (subject !== undefined && (verb === "takes" || verb === "gives" || verb === "tells")) {
      const key = `${subject} ${verb} ${path}`;
      return { key, subject, verb, path, optional: mark !== undefined, kinds: value.split(" | "), text };
    }
    const [key = ""] = text.split(": ");
    return { key, subject: key, verb: "is", path: "", optional: false, kinds: [], text };
  });
  return new Map(all.map((line) => [line.key, line]));
}
