// `pyro daemon status` and `pyro daemon stop`.
import { daemonStatus, stopDaemon } from "../client/call.ts";
import type { Context } from "./context.ts";
import { STDOUT, writeAll, writeJson } from "./output.ts";

export async function showDaemon(context: Context): Promise<number> {
  const status = await daemonStatus(context.where);
  const { log } = context.where.paths;
  if (context.json) await writeJson(status ? { running: true, ...status } : { running: false, log });
  else if (!status) await writeAll(STDOUT, `No daemon runs; the next command starts one. Its log is ${log}.\n`);
  else {
    const lines = [
      `pyro ${status.version} runs as process ${status.pid} since ${status.started_at}.`,
      `microVMs  ${status.vm_count} in use, ${status.pool.ready} of ${status.pool.size} kept ready`,
      `socket    ${status.socket}`,
      `log       ${status.log}${status.log_level === undefined ? "" : ` (level ${status.log_level})`}`,
    ];
    await writeAll(STDOUT, `${lines.join("\n")}\n`);
  }
  return 0;
}

export async function endDaemon(context: Context): Promise<number> {
  // Asked before: one that has stopped tells nothing. One that does not answer is to stop all the same.
  const status = await daemonStatus(context.where).catch(() => undefined);
  const stopped = await stopDaemon(context.where);
  const left = stopped ? status?.workspace_vm_count : undefined;
  if (context.json) await writeJson({ stopped, ...(left === undefined ? {} : { workspace_vm_count: left }) });
  else if (!context.quiet)
    await writeAll(STDOUT, `${stopped ? `The daemon has stopped.${runningOn(left)}` : "No daemon runs."}\n`);
  return 0;
}

function runningOn(count: number | undefined): string {
  if (count === undefined || count === 0) return "";
  const what = count === 1 ? "The microVM of one workspace runs" : `The microVMs of ${count} workspaces run`;
  return ` ${what} on; the next command finds ${count === 1 ? "it" : "them"} again.`;
}
