// The shell commands that a page shows: its blocks taken apart into lines, and lines into the words of their commands.
import assert from "node:assert/strict";

/** The lines of a page's blocks: those behind `$` in a session, all in a script. */
export function commandLines(page: string): string[] {
  const lines: string[] = [];
  for (const [, language = "", block = ""] of page.matchAll(/^```(console|sh)\n(.*?)^```$/gms)) {
    const session = language === "console";
    const shown = block.replaceAll("\\\n", " ").split("\n");
    lines.push(
      ...shown
        .filter((line) => line !== "" && (!session || line.startsWith("$ ")))
        .map((line) => (session ? line.slice(2) : line)),
    );
  }
  return lines;
}

/**
 * The words of each command of a line, quotes taken off; comments, redirections and what the shell would fill in left as they
 * are. Commands in `$(...)` are commands as well.
 */
export function commandsOf(line: string): string[][] {
  const commands: string[][] = [[]];
  const inner: string[][] = [];
  let rest = line;
  while (rest !== "") {
    const [token = "", space, comment, operator, word] =
      /^(?:(\s+)|(#.*)|(\|\|?|&&?|;|[<>]+)|((?:'[^']*'|"(?:\\.|[^"\\])*"|\$\([^)]*\)|\\.|[^\s'"\\|&;<>])+))/.exec(
        rest,
      ) ?? [];
    assert.ok(token !== "", `this is no shell command: ${line}`);
    rest = rest.slice(token.length);
    if (space !== undefined) continue;
    if (comment !== undefined) break;
    if (operator !== undefined) {
      // What a redirection leads to is a word of no command.
      if (/[<>]/.test(operator)) rest = rest.replace(/^\s*[^\s|&;]+/, "");
      else commands.push([]);
      continue;
    }
    for (const [, command = ""] of token.matchAll(/\$\(([^)]*)\)/g)) inner.push(...commandsOf(command));
    commands.at(-1)?.push(unquoted(word ?? ""));
  }
  return [...commands, ...inner].filter((words) => words.length > 0);
}

/** What follows the name of the program, when it is that one: behind assignments, `npx`, and a path. */
export function argumentsOf(program: string, words: readonly string[]): readonly string[] | undefined {
  const at = words.findIndex((word) => !/^\w+=/.test(word) && word !== "npx");
  const named = words[at] === program || words[at]?.endsWith(`bin/${program}`);
  return named ? words.slice(at + 1) : undefined;
}

function unquoted(word: string): string {
  return word.replace(
    /'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)/g,
    (_, single?: string, double?: string, escaped?: string) =>
      single ?? double?.replace(/\\(.)/g, "$1") ?? escaped ?? "",
  );
}
