// What is left out of a directory by `--exclude` and by .pyroignore files, in the syntax of .gitignore. Patterns and names
// are compared byte by byte, as git does.
import ignore, { type Ignore } from "ignore";
import { type ByteName, byteName } from "./names.ts";

export const IGNORE_FILE = ".pyroignore";

/**
 * The rules that hold in one directory. Those of the nearest .pyroignore win over those further up, and `--exclude` over
 * them all. All become patterns of the source's root in one list, because a matcher for each file could not see that a
 * parent which one of them leaves out is brought back by another.
 */
export class Rules {
  readonly #patterns: readonly string[];
  readonly #exclude: readonly string[];
  readonly #matcher: Ignore | undefined;

  private constructor(patterns: readonly string[], exclude: readonly string[]) {
    this.#patterns = patterns;
    this.#exclude = exclude;
    const all = [...patterns, ...exclude];
    this.#matcher = all.length === 0 ? undefined : ignore({ ignorecase: false }).add(all);
  }

  static of(exclude: readonly string[]): Rules {
    // On a command line "#" begins no comment.
    return new Rules(
      [],
      exclude.map((pattern) => byteName(pattern).replace(/^#/, "\\#")),
    );
  }

  /** With those of an ignore file that lies in `directory` ("" for the source itself). */
  with(directory: ByteName, content: Buffer): Rules {
    const added = content
      .toString("latin1")
      .replace(/^\xef\xbb\xbf/, "")
      .split(/\r?\n/)
      .flatMap((line) => rooted(directory, line));
    return added.length === 0 ? this : new Rules([...this.#patterns, ...added], this.#exclude);
  }

  leavesOut(name: ByteName, isDirectory: boolean): boolean {
    return this.#matcher?.ignores(isDirectory ? `${name}/` : name) ?? false;
  }
}

/** A line of an ignore file as a pattern that means the same from the source's root; none for a comment. */
function rooted(directory: ByteName, line: string): string[] {
  if (line.startsWith("#") || line.trim() === "") return [];
  if (directory === "") return [line];
  const negated = line.startsWith("!");
  const pattern = negated ? line.slice(1) : line;
  // A slash that is not the last character ties a pattern to its file's directory.
  const tied = /\/(?=.*[^\s/])/.test(pattern);
  const base = directory.replace(/[\\*?[\]!#\s]/g, "\\$&");
  return [`${negated ? "!" : ""}/${base}/${tied ? pattern.replace(/^\//, "") : `**/${pattern}`}`];
}
