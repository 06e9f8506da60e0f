// What is left out of a directory by `--exclude` and by .pyroignore files, in the syntax of .gitignore.
import { type Pattern, patternOf } from "./glob.ts";
import { type ByteName, byteName } from "./names.ts";

export const IGNORE_FILE = ".pyroignore";

/** The patterns of one place, and how deep that lies. */
interface Level {
  readonly depth: number;
  readonly patterns: readonly Pattern[];
}

/**
 * The rules that hold in one directory. Those of the nearest .pyroignore win over those further up, and `--exclude` over
 * them all; in one place the last that matches. What is left out is not walked into, so only a name itself is looked at,
 * never its parents.
 */
export class Rules {
  /** What wins comes first. */
  readonly #levels: readonly Level[];

  private constructor(levels: readonly Level[]) {
    this.#levels = levels;
  }

  static of(exclude: readonly string[]): Rules {
    return new Rules([{ depth: 0, patterns: patternsOf(exclude.map(byteName)) }]);
  }

  /** With those of an ignore file that lies in `directory` ("" for the source itself). */
  with(directory: ByteName, content: Buffer): Rules {
    const lines = content
      .toString("latin1")
      .replace(/^\xef\xbb\xbf/, "")
      .split(/\r?\n/);
    const patterns = patternsOf(lines.filter((line) => !line.startsWith("#")));
    if (patterns.length === 0) return this;
    const [exclude, ...others] = this.#levels;
    const depth = directory === "" ? 0 : directory.split("/").length;
    return new Rules([...(exclude ? [exclude] : []), { depth, patterns }, ...others]);
  }

  leavesOut(name: ByteName, isDirectory: boolean): boolean {
    if (this.#levels.every(({ patterns }) => patterns.length === 0)) return false;
    const path = name.split("/");
    for (const { depth, patterns } of this.#levels) {
      const below = path.slice(depth);
      const found = patterns.findLast((pattern) => pattern.matches(below, isDirectory));
      if (found !== undefined) return !found.negated;
    }
    return false;
  }
}

function patternsOf(lines: readonly string[]): Pattern[] {
  return lines.flatMap((line) => patternOf(line) ?? []);
}
