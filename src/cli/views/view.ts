// What a view is, and the one for each row: how an output reads for a person.
import type { OperationName, OutputOf } from "../../operations/table.ts";
import type { Context } from "../context.ts";
import { doctorView } from "./doctor.ts";
import { envInspectView, envListView, envPruneView, envPullView } from "./environment.ts";
import { processView, runView } from "./process.ts";

/** What goes where. Notes are left out with --quiet. */
export interface Shown {
  readonly stdout?: string | Uint8Array;
  readonly stderr?: string | Uint8Array;
  readonly note?: string;
  /** Exit status, where an answer is not simply 0. */
  readonly status?: number;
}

export type View<N extends OperationName> = (output: OutputOf<N>, context: Context) => Shown;

function plain(output: object): Shown {
  return { stdout: `${JSON.stringify(output, null, 2)}\n` };
}

export const VIEWS: { readonly [N in OperationName]: View<N> } = {
  run: runView,
  "process.read": processView,
  "workspace.create": plain,
  "workspace.list": plain,
  "workspace.status": plain,
  "workspace.update": plain,
  "workspace.delete": plain,
  "workspace.sync_push": plain,
  "workspace.exec": plain,
  "workspace.logs": plain,
  "process.list": plain,
  "process.write": plain,
  "process.signal": plain,
  "process.wait": plain,
  "env.list": envListView,
  "env.pull": envPullView,
  "env.inspect": envInspectView,
  "env.prune": envPruneView,
  doctor: doctorView,
};
