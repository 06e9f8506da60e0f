// What the SDK's and MCP's programs of a recipe work on: the same files as its command line script, made anew each time.
import { execFileSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Project extends AsyncDisposable {
  /** Has `repository`, and beside it what else the recipe is about. Removed at the end. */
  readonly path: string;
  /** A path in it. */
  file(...names: string[]): string;
}

/** `recipe` is the directory whose project.sh makes it. */
export async function makeProject(recipe: string): Promise<Project> {
  const path = await mkdtemp(join(tmpdir(), "recipe-"));
  execFileSync(join(recipe, "project.sh"), [path]);
  return {
    path,
    file: (...names) => join(path, ...names),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true }),
  };
}

/** What the recipes tell of a command: how it ended, and the last line that it printed. */
export function ending(exitCode: number | null, output: string): string {
  const last = output.trimEnd().split("\n").at(-1);
  return `exit status ${exitCode}${last ? `: ${last}` : ""}`;
}
