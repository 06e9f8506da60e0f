// Every on-disk name of pyro, in one place. Creates nothing.
import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { PyroError } from "../errors/error.ts";

/** Longest path a unix socket may have, bytes, without its final zero. */
export const MAX_SOCKET_PATH_BYTES = 107;

export interface Paths {
  /** Durable: environments, workspaces, runs. */
  readonly state: string;
  /** May vanish at any time: templates, probe results. */
  readonly cache: string;
  readonly environments: string;
  /** Kernels and initramfs images, by digest. */
  readonly boot: string;
  readonly templates: string;
  /** Programs that were put there for pyro alone: Firecracker and its jailer. */
  readonly tools: string;
  /** Answers of the probe guest. */
  readonly probes: string;
  /** One directory per run, gone with it. */
  readonly runs: string;
  /** One directory per workspace. */
  readonly workspaces: string;
  /** Disks of microVMs that nobody has taken yet, gone with their daemon. */
  readonly pool: string;
  /** Copies of disks that are looked at, and images of disks that are exported, gone with their daemon. */
  readonly inspections: string;
  readonly log: string;
  readonly launcherLog: string;
  /** Lock file held while a daemon lives. */
  readonly daemonLock: string;
  /** 0711: microVM users pass through it. */
  readonly sockets: string;
  /** 0700: the sockets of daemon and launcher. */
  readonly control: string;
  readonly daemonSocket: string;
  readonly launcherSocket: string;
  /** 0711: one directory per microVM. */
  readonly vms: string;
}

/** Where things are for this user and environment. PYRO_HOME moves all of it. */
export function pathsFor(environment: NodeJS.ProcessEnv, uid: number): Paths {
  const home = environment.PYRO_HOME;
  const state = home
    ? resolve(home)
    : join(absolute(environment.XDG_STATE_HOME) ?? join(homedir(), ".local", "state"), "pyro");
  const cache = home
    ? join(state, "cache")
    : join(absolute(environment.XDG_CACHE_HOME) ?? join(homedir(), ".cache"), "pyro");
  const name = createHash("sha256").update(state).digest("hex").slice(0, 12);
  const sockets = join("/tmp", `pyro-${uid}`, name);
  const control = join(sockets, "control");
  const daemonSocket = join(control, "daemon.sock");
  if (Buffer.byteLength(daemonSocket) > MAX_SOCKET_PATH_BYTES) {
    throw new PyroError("HOST_IO_FAILED", `The socket path ${daemonSocket} is too long.`);
  }
  return {
    state,
    cache,
    environments: join(state, "environments"),
    boot: join(state, "environments", "boot"),
    templates: join(cache, "templates"),
    tools: join(state, "tools"),
    probes: join(cache, "probes"),
    runs: join(state, "runs"),
    workspaces: join(state, "workspaces"),
    pool: join(state, "pool"),
    inspections: join(state, "inspections"),
    log: join(state, "daemon.log"),
    launcherLog: join(state, "launcher.log"),
    daemonLock: join(state, "daemon.lock"),
    sockets,
    control,
    daemonSocket,
    launcherSocket: join(control, "launcher.sock"),
    vms: join(sockets, "vms"),
  };
}

/** XDG says that relative values are to be ignored. */
function absolute(path: string | undefined): string | undefined {
  return path?.startsWith("/") ? path : undefined;
}
