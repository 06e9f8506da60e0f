// What a home has on the host: processes, files, sockets, cgroups, memory, mounts. At rest only what an idle daemon
// needs may be there; tests that kill things ask for whatever else is left.
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join, relative } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { OwnHome } from "./harness.ts";

export type Kind = "daemon" | "launcher" | "vmm" | "sandbox" | "client" | "other";

export interface HomeProcess {
  readonly pid: number;
  readonly kind: Kind;
  readonly args: string;
}

/** What may be there beside the daemon and the launcher. */
export interface Allowed {
  /**
   * microVMs: idle ones of the pool, those of started workspaces, and those of runs whose client was killed less than a
   * minute ago.
   */
  readonly vms: number;
  readonly runs: number;
  /** Workspaces that were not deleted, whatever their state; 0 when left out. */
  readonly workspaces?: number;
}

const CGROUPS = "/sys/fs/cgroup";
const CONTROL = new Set(["daemon.sock", "launcher.sock", "launcher.sock.lock"]);
/** bwrap runs twice for each VMM: outside, and as process 1 inside. */
const SANDBOXES_PER_VM = 2;
const PORTS_PER_VM = 2;
const TEMPLATE_FILES = 3;

/** Every process of a home, by its arguments, its environment, or its ancestors. */
export async function processesAt(home: OwnHome): Promise<HomeProcess[]> {
  const all = new Map<number, { parent: number; args: string; named: boolean }>();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) continue;
    const [args, environment, line] = await Promise.all(
      ["cmdline", "environ", "stat"].map((file) => readFile(`/proc/${name}/${file}`, "utf8").catch(() => "")),
    );
    if (args === undefined || environment === undefined || line === undefined) continue;
    const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
    // One that has ended and waits to be reaped holds nothing.
    if (line === "" || fields[0] === "Z") continue;
    const named = environment.includes(`PYRO_HOME=${home.path}\0`) || args.includes(`${home.paths.sockets}/`);
    all.set(Number(name), { parent: Number(fields[1]), args: args.replaceAll("\0", " ").trim(), named });
  }
  const belongs = (pid: number): boolean => {
    const found = all.get(pid);
    return found !== undefined && (found.named || belongs(found.parent));
  };
  return [...all].filter(([pid]) => belongs(pid)).map(([pid, { args }]) => ({ pid, kind: kindOf(args), args }));
}

function kindOf(args: string): Kind {
  const [program = ""] = args.split(" ");
  if (program === "pyro-daemon" || /\/daemon\.(js|ts)$/.test(args)) return "daemon";
  if (program.endsWith("/pyro-launch") && args.includes(" --socket ")) return "launcher";
  if (program.includes("qemu-system") || /^\/(firecracker|jailer)$/.test(program)) return "vmm";
  if (/(^|\/)bwrap$/.test(program)) return "sandbox";
  if (args.includes("/bin/pyro.js ")) return "client";
  return "other";
}

/** Descriptors of a process by kind: what they lead to, without the numbers that make each one its own. */
export async function descriptorsOf(pid: number): Promise<Map<string, number>> {
  const kinds = new Map<string, number>();
  for (const fd of await readdir(`/proc/${pid}/fd`)) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => undefined);
    if (target === undefined) continue;
    const kind = target.startsWith("/memfd:") ? "memfd" : target.startsWith("/") ? "file" : target.replace(/:.*/, "");
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
  return kinds;
}

/** Sealed and other memory that a process holds by descriptor, by name. */
async function memoriesOf(pid: number): Promise<string[]> {
  const names: string[] = [];
  for (const fd of await readdir(`/proc/${pid}/fd`).catch(() => [])) {
    const target = await readlink(`/proc/${pid}/fd/${fd}`).catch(() => "");
    const name = /^\/memfd:pyro-(\S+)/.exec(target)?.[1];
    if (name !== undefined) names.push(name);
  }
  return names;
}

/** Names of the cgroups of this home's microVMs, one for each hierarchy they are in. */
export async function cgroupsOf(home: OwnHome): Promise<string[]> {
  const prefix = `${fnv32a(home.paths.vms).toString(16).padStart(8, "0")}-`;
  // Below the cgroup that this process is in, as the launcher has it from the daemon; which one may differ by hierarchy.
  const own = (await readFile("/proc/self/cgroup", "utf8")).split("\n").map((line) => line.split(":")[2] ?? "");
  const found: string[] = [];
  for (const hierarchy of [".", ...(await list(CGROUPS))]) {
    for (const path of new Set(own)) {
      const directory = join(CGROUPS, hierarchy, path, "pyro");
      for (const name of await list(directory)) if (name.startsWith(prefix)) found.push(join(directory, name));
    }
  }
  return [...new Set(found)];
}

/** Every path below a home's own directories, relative to it; what is shared with other homes is left out. */
export async function filesOf(home: OwnHome): Promise<string[]> {
  const found: string[] = [];
  const walk = async (directory: string): Promise<void> => {
    for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => [])) {
      const path = join(directory, entry.name);
      // Node's own cache of compiled code comes and goes as it likes.
      if (relative(home.path, path) === join("cache", "compiled")) continue;
      found.push(relative(home.path, path));
      if (entry.isDirectory()) await walk(path);
    }
  };
  await walk(home.path);
  return found.sort();
}

/** Returns once nothing but what is allowed is there; after `ms` it throws with what else is. */
export async function untilAtRest(home: OwnHome, allowed: () => Allowed, ms = 20_000): Promise<void> {
  const deadline = Date.now() + ms;
  for (;;) {
    const problems = await problemsAtRest(home, allowed());
    if (problems.length === 0) return;
    if (Date.now() > deadline) throw new Error(`left behind in ${home.path}:\n  ${problems.join("\n  ")}`);
    await sleep(100);
  }
}

async function problemsAtRest(home: OwnHome, allowed: Allowed): Promise<string[]> {
  const problems: string[] = [];
  const tooMany = (what: string, found: readonly string[], most: number) => {
    if (found.length > most)
      problems.push(`${found.length} ${what}, at most ${most} are right: ${found.slice(0, 8).join(", ")}`);
  };

  const processes = await processesAt(home);
  const most: Record<Kind, number> = {
    daemon: 1,
    launcher: 1,
    vmm: allowed.vms,
    sandbox: SANDBOXES_PER_VM * allowed.vms,
    client: 0,
    other: 0,
  };
  for (const [kind, count] of Object.entries(most)) {
    const found = processes.filter((process) => process.kind === kind);
    tooMany(
      `processes (${kind})`,
      found.map(({ pid, args }) => `${pid} ${args.slice(0, 100)}`),
      count,
    );
  }

  tooMany("runs", await list(home.paths.runs), allowed.runs);
  tooMany("workspaces", await list(home.paths.workspaces), allowed.workspaces ?? 0);
  tooMany("disks of idle microVMs", await list(home.paths.pool), allowed.vms);
  const vms = await list(home.paths.vms);
  const sockets = vms.filter((name) => name.endsWith(".sock"));
  tooMany("sockets of guest ports", sockets, PORTS_PER_VM * allowed.vms);
  tooMany(
    "directories of microVMs",
    vms.filter((name) => !sockets.includes(name)),
    allowed.vms,
  );
  tooMany(
    "strange files beside the sockets",
    (await list(home.paths.control)).filter((name) => !CONTROL.has(name)),
    0,
  );

  const hierarchies = new Map<string, string[]>();
  for (const path of await cgroupsOf(home)) {
    const parent = join(path, "..");
    hierarchies.set(parent, [...(hierarchies.get(parent) ?? []), path]);
  }
  for (const [parent, groups] of hierarchies) tooMany(`cgroups in ${parent}`, groups, allowed.vms);

  const files = await filesOf(home);
  tooMany(
    "half-made files",
    files.filter((path) => /(^|\/)\.staging-|\.new$|\.tmp$/.test(path)),
    0,
  );
  const templates = await list(home.paths.templates);
  for (const name of templates) {
    const parts = await list(join(home.paths.templates, name));
    if (parts.length !== TEMPLATE_FILES) problems.push(`the template ${name} has only ${parts.join(", ")}`);
  }
  for (const { pid } of processes.filter(({ kind }) => kind === "launcher")) {
    const unknown = (await memoriesOf(pid)).filter((name) => !templates.includes(name));
    tooMany("memories without a template", unknown, 0);
  }
  const mounts = (await readFile("/proc/self/mountinfo", "utf8"))
    .split("\n")
    .map((line) => line.split(" ")[4] ?? "")
    .filter((point) => point.startsWith(`${home.path}/`) || point.startsWith(`${home.paths.sockets}/`));
  tooMany("mounts", mounts, 0);
  return problems;
}

/** Nothing at all of a home is left: call when its daemon was stopped. */
export async function untilNothingRuns(home: OwnHome, ms = 20_000): Promise<void> {
  const deadline = Date.now() + ms;
  for (;;) {
    const left = [
      ...(await processesAt(home)).map(({ pid, args }) => `process ${pid} ${args.slice(0, 100)}`),
      ...(await cgroupsOf(home)),
      ...((await stat(home.paths.sockets).catch(() => undefined)) ? [home.paths.sockets] : []),
    ];
    if (left.length === 0) return;
    if (Date.now() > deadline) throw new Error(`left after the daemon was stopped:\n  ${left.join("\n  ")}`);
    await sleep(100);
  }
}

async function list(path: string): Promise<string[]> {
  return await readdir(path).catch(() => []);
}

/** As the launcher does, to tell its cgroups from those of other homes. */
function fnv32a(text: string): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash;
}
