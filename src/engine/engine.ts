// The engine put together: what the daemon calls, by operation.
import { access, chmod, lstat, mkdir, rmdir } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { removeStale } from "../environments/staging.ts";
import { EnvironmentStore } from "../environments/store.ts";
import { PyroError } from "../errors/error.ts";
import { installation } from "../host/installation.ts";
import { Launcher } from "../launcher/launcher.ts";
import { Acceleration } from "./acceleration.ts";
import { DiskWatch } from "./disk-watch.ts";
import { Doctor } from "./doctor.ts";
import { FreshStarts } from "./fresh.ts";
import { Inspections } from "./inspections.ts";
import { endUnknown, knownVms } from "./known-vms.ts";
import { Machines } from "./machines.ts";
import { Networks } from "./network.ts";
import type { Paths } from "./paths.ts";
import { Pool } from "./pool.ts";
import { Preparation } from "./preparation.ts";
import { Runs } from "./runs.ts";
import type { Settings } from "./settings.ts";
import { removeStagedTemplates } from "./templates.ts";
import { Workspaces } from "./workspace/workspaces.ts";

export class Engine {
  readonly environments: EnvironmentStore;
  readonly runs: Runs;
  readonly workspaces: Workspaces;
  readonly pool: Pool;
  readonly inspections: Inspections;
  readonly preparation: Preparation;
  readonly starts: FreshStarts;
  readonly doctor: Doctor;
  readonly #launcher: Launcher;
  readonly #acceleration: Acceleration;
  readonly #diskWatch: DiskWatch;
  readonly #stopping = new AbortController();
  /** Builds and pulls that go on without a caller. */
  readonly #preparing = new Set<Promise<unknown>>();

  private constructor(paths: Paths, settings: Settings) {
    const { guestd, launcher: program, netd } = installation();
    this.#launcher = new Launcher({
      program,
      socketPath: paths.launcherSocket,
      vmsDirectory: paths.vms,
      logPath: paths.launcherLog,
    });
    this.environments = new EnvironmentStore(paths, guestd);
    const acceleration = new Acceleration(paths, this.#launcher, settings);
    this.#acceleration = acceleration;
    this.starts = new FreshStarts();
    this.pool = new Pool(this.starts, paths.pool, settings.poolSize);
    this.preparation = new Preparation(this.environments, acceleration);
    const { preparation } = this;
    const machines = new Machines(this.starts, this.pool);
    const networks = new Networks(this.#launcher, netd, settings);
    this.runs = new Runs({ paths, preparation, machines, networks }, this.#launcher);
    this.inspections = new Inspections({ paths, machines });
    const { inspections } = this;
    this.workspaces = new Workspaces({
      paths,
      preparation,
      machines,
      networks,
      launcher: this.#launcher,
      inspections,
    });
    this.#diskWatch = new DiskWatch(paths.state, () => [
      ...this.runs.live,
      ...this.workspaces.live.map(({ room }) => room),
      ...inspections.live,
    ]);
    this.doctor = new Doctor({
      paths,
      settings,
      environments: this.environments,
      acceleration,
      launcher: this.#launcher,
    });
  }

  /** Makes the directories, and takes up what an earlier daemon left. Errors: HOST_IO_FAILED. */
  static async open(paths: Paths, settings: Settings): Promise<Engine> {
    await makeDirectories(paths);
    const engine = new Engine(paths, settings);
    try {
      await removeStagedTemplates(paths);
      await removeStale(paths.environments);
      await engine.pool.open();
      await engine.inspections.open();
      const known = await knownVms(engine.#launcher);
      await engine.workspaces.adopt(known);
      await engine.runs.adopt(known);
      await endUnknown(engine.#launcher, known);
      engine.#diskWatch.start();
    } catch (error) {
      await engine.release();
      throw error;
    }
    return engine;
  }

  /** Goes on with building an environment whose first caller has gone: the next one finds it further. */
  keepPreparing(environment: string): void {
    const { signal } = this.#stopping;
    const going = [this.environments.boot(undefined, signal), this.environments.pull(environment, undefined, signal)];
    for (const work of going) {
      this.#preparing.add(work);
      // Whoever asks next is told what is wrong with it.
      work.catch(() => {}).finally(() => this.#preparing.delete(work));
    }
  }

  /** Lets go of everything and ends nothing: another daemon takes it up. */
  async release(): Promise<void> {
    this.#diskWatch.stop();
    this.pool.release();
    await Promise.all([this.runs.release(), this.workspaces.release()]);
    this.#launcher.close();
  }

  /** Ends runs, lets go of workspaces, which run on, and of the launcher. */
  async close(): Promise<void> {
    this.#diskWatch.stop();
    this.#acceleration.stop();
    this.#stopping.abort(new PyroError("CANCELLED", "The daemon is stopping."));
    // What of it fails must not keep the rest from ending.
    await Promise.allSettled([this.runs.close(), this.workspaces.release(), this.pool.close(), ...this.#preparing]);
    await this.#launcher.stop();
  }
}

/**
 * Removes what makeDirectories made for sockets, once nothing is in there any more: the launcher is given a moment to
 * take its own out. One that holds on to microVMs keeps its directories.
 */
export async function removeSocketDirectories(paths: Paths): Promise<void> {
  for (let tries = 0; tries < 20; tries++) {
    for (const directory of [paths.control, paths.vms, paths.sockets]) await rmdir(directory).catch(() => {});
    if (
      !(await access(paths.sockets).then(
        () => true,
        () => false,
      ))
    )
      return;
    await sleep(25);
  }
}

/** The directories of a home. The one below /tmp must be this user's own: another could have made it first. */
export async function makeDirectories(paths: Paths): Promise<void> {
  const own = dirname(paths.sockets);
  try {
    await mkdir(paths.state, { recursive: true, mode: 0o700 });
    await mkdir(paths.cache, { recursive: true, mode: 0o700 });
    // The command keeps its compiled code there, so it may have made it first, as open as the caller's umask has it.
    await chmod(paths.cache, 0o700);
    await mkdir(paths.templates, { recursive: true, mode: 0o700 });
    await mkdir(own, { mode: 0o711 }).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== "EEXIST") throw error;
    });
    const found = await lstat(own);
    if (!found.isDirectory() || found.uid !== process.getuid?.()) {
      throw new PyroError("HOST_IO_FAILED", `${own} is not a directory of this user's own; nothing is put there.`, {
        hint: `Have ${own} removed by whoever made it, then try again.`,
      });
    }
    // microVMs of other users pass through, nobody may look or write.
    await chmod(own, 0o711);
    for (const [directory, mode] of [
      [paths.sockets, 0o711],
      [paths.control, 0o700],
      [paths.vms, 0o711],
    ] as const) {
      await mkdir(directory, { recursive: true, mode });
      await chmod(directory, mode);
    }
  } catch (error) {
    if (error instanceof PyroError) throw error;
    throw new PyroError("HOST_IO_FAILED", `pyro's directories cannot be made: ${(error as Error).message}`, {
      cause: error,
    });
  }
}
