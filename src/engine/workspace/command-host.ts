// What the commands of a workspace need of it, and nothing else of it.
import type { GuestClient } from "../../guest/client.ts";
import type { Secrets } from "../secrets/secrets.ts";
import type { Progress } from "../templates.ts";
import type { ProcessKind } from "./command-record.ts";

/** A microVM that is there to be used. It counts as activity until it is left; leaving twice is once. */
export interface Entered {
  /** The launcher's name for it: another each time that the workspace is started. */
  readonly machineId: string;
  readonly guest: GuestClient;
  /** What every process in it gets: the image's variables, then the workspace's own. */
  readonly env: Readonly<Record<string, string>>;
  leave(): void;
}

/** What the processes of one kind need of their workspace. */
export interface CommandHost {
  readonly workspaceId: string;
  readonly processKind: ProcessKind;
  /** On the host, for these alone; made already. */
  readonly commandsDirectory: string;
  /** What processes may be given, and what is kept out of all that they print. */
  readonly secrets: Secrets;
  /**
   * Its microVM, started when it is stopped. Errors: WORKSPACE_STATE, WORKSPACE_FAILED, WORKSPACE_NOT_FOUND when it is
   * deleted meanwhile, those of a start; the signal's reason.
   */
  enter(signal: AbortSignal, progress: Progress): Promise<Entered>;
}
