// Patterns in the syntax of .gitignore, matched byte by byte as git does. Not by regular expressions, which is what the
// packages for this make of them: a pattern with three "**" and a deep path keep one of those busy for minutes, nothing can
// interrupt it, and both may come from a stranger's repository. Here the time is at most pattern times path.

/** One character of a part of a path, or with "any" as many as it takes. */
type Token = "any" | ((character: string) => boolean);

/** One part of a path, or with "any" as many parts as it takes. */
type Part = "any" | readonly Token[];

export interface Pattern {
  /** It brings back what an earlier pattern leaves out. */
  readonly negated: boolean;
  matches(path: readonly string[], isDirectory: boolean): boolean;
}

/** The pattern of a line, of one character per byte; undefined when it stands for nothing. Comments are not known here. */
export function patternOf(line: string): Pattern | undefined {
  const negated = line.startsWith("!");
  const trimmed = withoutSpaces(negated ? line.slice(1) : line);
  const directoriesOnly = trimmed.endsWith("/");
  const text = directoriesOnly ? trimmed.slice(0, -1) : trimmed;
  if (text === "") return undefined;
  const own = !text.includes("/");
  const parts = split(text.replace(/^\//, "")).map(partOf);
  // At the end it stands for what is below a directory, not for that one.
  if (!own && parts.at(-1) === "any") parts.splice(-1, 0, ["any"]);
  // A pattern without a slash is of a name, wherever that is.
  const sequence: readonly Part[] = own
    ? ["any", ...parts.map((part) => (part === "any" ? (["any"] as const) : part))]
    : parts;
  if (sequence.some((part) => part.length === 0)) return undefined;
  return {
    negated,
    matches: (path, isDirectory) =>
      (isDirectory || !directoriesOnly) &&
      runs(sequence, path, (part, name) => runs(part as readonly Token[], name, (token, one) => (token as Exact)(one))),
  };
}

/** Spaces at the end do not count, unless a backslash says so. */
function withoutSpaces(text: string): string {
  let end = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "\\") end = Math.min(++at + 1, text.length);
    else if (text[at] !== " ") end = at + 1;
  }
  return text.slice(0, end);
}

type Exact = (character: string) => boolean;

/**
 * Whether a sequence of which "any" stands for any number is that of the given ones. It is enough to go back to the last
 * "any": what an earlier one took can as well be taken by that.
 */
function runs<T>(
  sequence: readonly ("any" | T)[],
  given: ArrayLike<string>,
  is: (one: T, given: string) => boolean,
): boolean {
  let at = 0;
  let next = 0;
  let any = -1;
  let taken = 0;
  while (next < given.length) {
    const one = sequence[at];
    if (one === "any") {
      any = at++;
      taken = next;
    } else if (one !== undefined && is(one as T, given[next] ?? "")) {
      at++;
      next++;
    } else if (any >= 0) {
      at = any + 1;
      next = ++taken;
    } else {
      return false;
    }
  }
  while (sequence[at] === "any") at++;
  return at === sequence.length;
}

/** At its slashes, but for those between brackets, which are members of a class like others. */
function split(text: string): string[] {
  const parts: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "[") at = (classAt(text, at + 1)?.end ?? at + 1) - 1;
    else if (text[at] === "/") {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  return [...parts, text.slice(start)];
}

function partOf(text: string): Part {
  return text === "**" ? "any" : tokensOf(text);
}

/** None when it can match nothing. */
function tokensOf(text: string): Token[] {
  const tokens: Token[] = [];
  for (let at = 0; at < text.length; ) {
    const character = text[at++] ?? "";
    if (character === "*") {
      if (tokens.at(-1) !== "any") tokens.push("any");
    } else if (character === "?") {
      tokens.push(() => true);
    } else if (character === "[") {
      const found = classAt(text, at);
      if (found === undefined) return [];
      tokens.push(found.has);
      at = found.end;
    } else {
      if (character === "\\" && at === text.length) return [];
      const exact = character === "\\" ? text[at++] : character;
      tokens.push((one) => one === exact);
    }
  }
  return tokens;
}

const CLASSES: Readonly<Record<string, RegExp>> = {
  alnum: /[0-9A-Za-z]/,
  alpha: /[A-Za-z]/,
  blank: /[ \t]/,
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what it means
  cntrl: /[\x00-\x1f\x7f]/,
  digit: /[0-9]/,
  graph: /[!-~]/,
  lower: /[a-z]/,
  print: /[ -~]/,
  punct: /[!-/:-@[-`{-~]/,
  space: /[ \t\n\v\f\r]/,
  upper: /[A-Z]/,
  xdigit: /[0-9A-Fa-f]/,
};

/** What stands behind a "[" up to its "]"; undefined when it does not end, or names a class that there is not. */
function classAt(text: string, start: number): { has: Exact; end: number } | undefined {
  let at = start;
  const negated = text[at] === "!" || text[at] === "^";
  if (negated) at++;
  const members: Exact[] = [];
  for (let first = true; ; first = false) {
    const character = text[at++];
    if (character === undefined) return undefined;
    if (character === "]" && !first) break;
    if (character === "[" && text[at] === ":") {
      const end = text.indexOf(":]", at + 1);
      const named = CLASSES[text.slice(at + 1, end)];
      if (end < 0 || named === undefined) return undefined;
      members.push((one) => named.test(one));
      at = end + 2;
      continue;
    }
    const low = character === "\\" ? text[at++] : character;
    if (low === undefined) return undefined;
    if (text[at] === "-" && text[at + 1] !== undefined && text[at + 1] !== "]") {
      at++;
      const high = text[at] === "\\" ? text[++at] : text[at];
      if (high === undefined) return undefined;
      at++;
      members.push((one) => one >= low && one <= high);
    } else {
      members.push((one) => one === low);
    }
  }
  return { has: (one) => members.some((member) => member(one)) !== negated, end: at };
}
