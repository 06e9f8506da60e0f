// The types of the SDK, all derived from the operation table.
import type { EventOf, InputOf, OPERATIONS, OperationName, OutputOf } from "../operations/table.ts";
import type { Camel } from "./case.ts";

type Omitted<N extends OperationName> = (typeof OPERATIONS)[N]["sdk"] extends { omit: readonly (infer Key)[] }
  ? Key
  : never;

/** What a method takes. */
export type SdkInput<N extends OperationName> = Camel<Omit<InputOf<N>, Extract<Omitted<N>, keyof InputOf<N>>>>;
/** What a method resolves with. */
export type SdkOutput<N extends OperationName> = Camel<OutputOf<N>>;
/** What it tells while it runs. */
export type SdkEvent<N extends OperationName> = Camel<EventOf<N>>;

export type RunInput = SdkInput<"run">;
/** The result of a command that was awaited. */
export type RunResult = SdkOutput<"run">;
export type RunEvent = SdkEvent<"run">;
export type ProcessReadInput = SdkInput<"process.read">;
export type ProcessReadResult = SdkOutput<"process.read">;
export type EnvironmentListInput = SdkInput<"env.list">;
export type EnvironmentList = SdkOutput<"env.list">;
export type EnvironmentPullInput = SdkInput<"env.pull">;
export type Environment = SdkOutput<"env.pull">;
export type EnvironmentInspectInput = SdkInput<"env.inspect">;
export type EnvironmentDetails = SdkOutput<"env.inspect">;
export type EnvironmentPruneInput = SdkInput<"env.prune">;
export type EnvironmentPruneResult = SdkOutput<"env.prune">;
export type EnvironmentEvent = SdkEvent<"env.pull">;
export type DoctorReport = SdkOutput<"doctor">;
export type DoctorEvent = SdkEvent<"doctor">;

export interface CallOptions {
  /** Aborting rejects with the signal's reason and ends what the call started. */
  readonly signal?: AbortSignal;
}

export interface EventOptions<Event> extends CallOptions {
  /** Told of progress as it comes. */
  readonly onEvent?: (event: Event) => void;
}

export interface RunOptions extends EventOptions<RunEvent> {
  /** Reject with COMMAND_FAILED (the result in details.result) unless the command exits with 0 in time. */
  readonly check?: boolean;
  /** Written to the command's stdin, which then ends. */
  readonly stdin?: string | Uint8Array;
  /** Awaiting a run ends its stdin when nothing was written by then; true keeps it open until end(). */
  readonly keepStdin?: boolean;
  /** Bytes kept of stdout and of stderr for the result; the rest is counted. Default 16 MiB each. */
  readonly collectBytes?: number;
  /** Size of the terminal, for `tty: true`. */
  readonly terminal?: { readonly columns: number; readonly rows: number };
}

/** A piece of output, as it came. */
export interface OutputChunk {
  readonly stream: "stdout" | "stderr";
  readonly data: Uint8Array;
}
