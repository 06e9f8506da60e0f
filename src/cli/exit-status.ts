// What a command of a guest makes the exit status of this process.
import { STATUS_PYRO_FAILED } from "./context.ts";

const STATUS_TIMEOUT = 124;

/** 124 for a timeout, else what the command ended with; 125 when that is not known. */
export function statusOf(output: { readonly timed_out: boolean; readonly exit_code: number | null }): number {
  if (output.timed_out) return STATUS_TIMEOUT;
  return output.exit_code === null ? STATUS_PYRO_FAILED : output.exit_code & 0xff;
}
