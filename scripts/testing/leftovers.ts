// Finds what a test run left on the host: processes, mounts, directories of sockets, temporary files.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const SOCKETS = `/tmp/pyro-${process.getuid?.() ?? 0}`;
const NAMES = /^(qemu-system|bwrap|pyro-launch|firecracker|mmdebstrap)/;

/** What is there before the run and is none of its doing. */
export interface Before {
  readonly processes: ReadonlySet<string>;
  readonly sockets: ReadonlySet<string>;
}

export function snapshot(): Before {
  return { processes: new Set(machineProcesses().keys()), sockets: new Set(list(SOCKETS)) };
}

/**
 * One line for each thing that is still there. `scratch` is the directory that the run was given for everything. Without
 * `before` only what names that directory is looked for: others may use pyro meanwhile.
 */
export function leftovers(before: Before | undefined, scratch: string, temporary: string): string[] {
  const found: string[] = [];
  const ours = processesNaming(scratch);
  if (before !== undefined) {
    for (const [identity, what] of machineProcesses()) if (!before.processes.has(identity)) ours.set(identity, what);
  }
  for (const what of ours.values()) found.push(`process ${what}`);
  for (const line of read("/proc/self/mountinfo").split("\n")) {
    const mountPoint = line.split(" ")[4] ?? "";
    const ofSockets = before !== undefined && mountPoint.startsWith(`${SOCKETS}/`);
    if (mountPoint.startsWith(scratch) || ofSockets) found.push(`mount ${mountPoint}`);
  }
  if (before !== undefined) {
    for (const name of list(SOCKETS)) if (!before.sockets.has(name)) found.push(`directory ${join(SOCKETS, name)}`);
  }
  for (const name of list(temporary)) found.push(`temporary file ${name}`);
  return found;
}

/** Processes of microVMs and builds, by pid and start time. */
function machineProcesses(): Map<string, string> {
  return processes((_, command) => NAMES.test(command.slice(command.lastIndexOf("/") + 1)));
}

/** Pids of the processes that were given the run's directory, above all daemons of homes in it. */
export function pidsNaming(scratch: string): number[] {
  return [...processesNaming(scratch).keys()].map((identity) => Number(identity.split("@")[0]));
}

/** Processes that were given the run's directory, in their arguments, environment or as their directory. */
function processesNaming(scratch: string): Map<string, string> {
  return processes((pid) => {
    if (pid === String(process.pid) || pid === String(process.ppid)) return false;
    return read(`/proc/${pid}/cmdline`).includes(scratch) || read(`/proc/${pid}/environ`).includes(scratch);
  });
}

function processes(wanted: (pid: string, command: string) => boolean): Map<string, string> {
  const found = new Map<string, string>();
  for (const pid of list("/proc")) {
    if (!/^\d+$/.test(pid)) continue;
    const words = read(`/proc/${pid}/cmdline`).split("\0");
    const stat = read(`/proc/${pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // One that has ended and waits to be reaped holds nothing.
    if (stat === "" || fields[0] === "Z" || !wanted(pid, words[0] ?? "")) continue;
    found.set(`${pid}@${fields[19]}`, `${pid}: ${words.join(" ").slice(0, 200)}`);
  }
  return found;
}

function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function list(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
