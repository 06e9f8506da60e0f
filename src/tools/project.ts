// The project that a server stands in: what a workspace begins with when nobody says otherwise, and how a model is told.
import { PyroError } from "../errors/error.ts";
import type { InputOf } from "../operations/table.ts";
import { printable } from "../text/printable.ts";

type Input = InputOf<"workspace.create">;

/** A directory of the host, and whether a workspace begins with it when nothing else is asked for. */
export interface Project {
  readonly path: string;
  readonly isDefault: boolean;
}

/** Longest path that is told in full. */
const MOST_PATH = 300;

/**
 * The input as it is sent: with the project as its seed, if there is one and nothing else was asked for. Errors:
 * INVALID_INPUT for two seeds, and for a project that there is not.
 */
export function withProject({ seed, ...input }: Input, project: Project | undefined): Input {
  if (input.seed_path !== undefined) {
    if (seed === undefined) return input;
    throw new PyroError("INVALID_INPUT", "seed_path and seed exclude each other.");
  }
  if (seed === "empty") return input;
  if (project !== undefined && (seed === "project" || project.isDefault)) return { ...input, seed_path: project.path };
  if (seed === undefined) return input;
  throw new PyroError("INVALID_INPUT", "This server has no project: it was not started in the work tree of one.", {
    hint: "Leave seed out for an empty workspace, or name what to begin with in seed_path.",
  });
}

/** What is told of it, in the server's instructions and with the tool that makes workspaces. */
export function toldOf({ path, isDefault }: Project): string {
  const shown = path.length <= MOST_PATH ? path : `...${path.slice(path.length - MOST_PATH)}`;
  const how = isDefault
    ? 'workspace_create takes it as the seed when it is given neither seed_path nor seed; seed "empty" makes a workspace with nothing in it.'
    : 'workspace_create takes it as the seed when seed is "project".';
  return `This server's project is ${printable(shown)}: ${how}`;
}
