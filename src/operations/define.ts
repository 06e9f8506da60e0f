// What a row of the operation table is. Pure data and types: anyone may import this, it imports only zod and error codes.
import type { z } from "zod";
import type { ErrorCode } from "../errors/codes.ts";

/** An MCP profile: which tools a server offers. */
export const PROFILES = ["vm-run", "workspace-core", "workspace-full"] as const;
export type Profile = (typeof PROFILES)[number];

/** What an operation does to the world, from which the MCP hints derive. */
export interface Effect {
  /** Changes nothing. */
  readonly readOnly: boolean;
  /** May destroy something the user had. */
  readonly destructive: boolean;
  /** A second identical call adds nothing to the first. */
  readonly idempotent: boolean;
  /** May reach outside the microVM and the host (network). */
  readonly openWorld: boolean;
}

/** States of a workspace in which an operation may run; empty for operations that need no workspace. */
export type WorkspaceState = "creating" | "started" | "stopped" | "failed";

/** How a row reads on the command line. Everything not said here derives from the input schema's keys. */
export interface CliShape {
  /** Words after `pyro`, for example ["env", "pull"]. */
  readonly path: readonly string[];
  /** Input keys taken as positional arguments, in order. "a|b": a word that looks like an id of b is b, else it is a. */
  readonly positional?: readonly string[];
  /** The input key that takes everything after `--`. */
  readonly rest?: string;
  /** Input keys that are no flag of the command (they belong to another face). */
  readonly omit?: readonly string[];
  /** Flag names that differ from the key with dashes for underscores: key -> "-t, --tty" or "--env <K=V>". */
  readonly flags?: Readonly<Record<string, string>>;
  /** The output key that `--id-only` prints alone, for a row that makes something. */
  readonly idOnly?: string;
  /** A line of example each, shown under --help. */
  readonly examples?: readonly string[];
}

/** How a row reads as an MCP tool. */
export interface McpShape {
  readonly tool: string;
  readonly title: string;
  /** When to use it comes first; at most 1,500 characters. */
  readonly description: string;
  /** Input keys that the tool does not have. */
  readonly omit?: readonly string[];
}

/** How a row reads in the SDK. */
export interface SdkShape {
  readonly method: string;
  /** Input keys that the method does not have. */
  readonly omit?: readonly string[];
}

/** Why a row is absent from a face. */
export interface Absent {
  readonly absent: string;
}

export interface Operation<
  Name extends string = string,
  Input extends z.ZodObject = z.ZodObject,
  Output extends z.ZodObject = z.ZodObject,
> {
  readonly name: Name;
  /** One line, no full stop, in the imperative. */
  readonly summary: string;
  readonly input: Input;
  readonly output: Output;
  /** The codes that callers should expect beyond those that any call may answer with (see ALWAYS_POSSIBLE). */
  readonly errors: readonly ErrorCode[];
  readonly effect: Effect;
  readonly legalIn: readonly WorkspaceState[];
  readonly profiles: readonly Profile[];
  /** Set when bytes may be sent to it while it runs. */
  readonly stdin?: boolean;
  /** Set when its output is counted by cursor: a connection that breaks is made again from where it was. */
  readonly resumes?: boolean;
  /**
   * The input key that names a file, archive or directory of the host. The client reads it and sends its content; the
   * daemon gets the path as a label and opens nothing.
   */
  readonly upload?: string;
  /**
   * The input key that names what is made on the host, where nothing may be. The daemon sends its content and the client
   * writes it; the daemon gets the path as a label and opens nothing.
   */
  readonly download?: string;
  /** Set when it answers at once but for a workspace that is stopped, whose microVM is started first. */
  readonly starts?: boolean;
  /** Set when it streams: the schema of the events that come before the output. */
  readonly events?: z.ZodType;
  readonly cli: CliShape | Absent;
  readonly mcp: McpShape | Absent;
  readonly sdk: SdkShape | Absent;
}

/** Keeps the literal types of a row. */
export function defineOperation<
  const Name extends string,
  Input extends z.ZodObject,
  Output extends z.ZodObject,
  const Row extends Operation<Name, Input, Output>,
>(row: Row & Operation<Name, Input, Output>): Row {
  return row;
}
