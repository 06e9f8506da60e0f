// The place that a test run is given for everything it makes, and the check at its end that nothing else was left.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type Before, leftovers, pidsNaming, snapshot } from "./leftovers.ts";
import type { Tally } from "./tally.ts";

export class Scratch {
  readonly #root: string;
  readonly #before: Before | undefined;
  readonly #directory: string;
  readonly #temporary: string;
  #homes: readonly string[];

  /**
   * Makes it and points the environment of every test there. `root` is the checkout. `alone` says that nobody else uses
   * pyro on this machine meanwhile, so that whatever is left of one is the run's.
   */
  constructor(root: string, { alone = true } = {}) {
    this.#root = root;
    this.#before = alone ? snapshot() : undefined;
    // Everything of the run below one short directory: sockets in it must fit into 107 bytes. Users of microVMs and
    // apt's own user pass through it.
    this.#directory = mkdtempSync("/tmp/pt-");
    chmodSync(this.#directory, 0o755);
    this.#temporary = join(this.#directory, "tmp");
    mkdirSync(this.#temporary);
    chmodSync(this.#temporary, 0o1777);
    process.env.TMPDIR = this.#temporary;
    // For what one test file makes and others use.
    process.env.PYRO_TEST_RUN = this.#directory;
    process.env.PYRO_HOME ??= join(this.#directory, "home");
    this.#homes = [process.env.PYRO_HOME];
    // Only what a test asks for itself.
    // Idle microVMs would be taken for left ones; tests of the pool have homes of their own.
    process.env.PYRO_POOL_SIZE = "0";
    for (const name of ["PYRO_DRIVER", "PYRO_UNCONFINED", "PYRO_ENVIRONMENT", "PYRO_LOG", "NODE_OPTIONS"]) {
      delete process.env[name];
    }
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.once(signal, () => void this.#interrupted());
    }
  }

  /** Stops the daemons of the run's homes and reports whatever is left beside it. */
  async check(tally: Tally): Promise<void> {
    const begin = performance.now();
    const stopping = this.#stopDaemons();
    const look = () => leftovers(this.#before, this.#directory, this.#temporary);
    let found = look();
    // Programs that were told to end are given a moment to do it.
    for (let attempt = 0; found.length > 0 && attempt < 50; attempt++) {
      await new Promise((resolve) => setTimeout(resolve, 200));
      found = look();
    }
    const problems = [stopping, ...found].filter(Boolean);
    tally.add({
      status: problems.length === 0 ? "passed" : "failed",
      name: "no process, mount, socket or temporary file is left",
      durationMs: performance.now() - begin,
      text: problems.join("\n"),
    });
  }

  /** Tests that were cut off leave daemons in homes of their own; told to stop they end their microVMs. */
  async #interrupted(): Promise<void> {
    this.#stopDaemons();
    for (let attempt = 0; attempt < 50; attempt++) {
      const pids = pidsNaming(this.#directory);
      if (pids.length === 0) break;
      for (const pid of pids) {
        try {
          process.kill(pid, "SIGTERM");
        } catch {
          // It has just ended.
        }
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
    this.close();
    process.exit(130);
  }

  /** The directory of the environments of the run's home, with the default one in it. */
  environments(): string {
    const directory = join(process.env.PYRO_HOME ?? "", "environments");
    if (!existsSync(join(directory, "images"))) this.#pyro(this.#homes[0] ?? "", "env", "pull", "debian:12");
    return directory;
  }

  /** As many homes as there are lanes: the run's, and others with copies of its environments. */
  homes(count: number): string[] {
    const environments = this.environments();
    const homes = [process.env.PYRO_HOME ?? ""];
    while (homes.length < count) {
      const home = join(this.#directory, `home-${homes.length + 1}`);
      mkdirSync(home, { mode: 0o755 });
      cpSync(environments, join(home, "environments"), { recursive: true, verbatimSymlinks: true });
      homes.push(home);
    }
    this.#homes = homes;
    return homes;
  }

  close(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  #stopDaemons(): string {
    if (!existsSync(join(this.#root, "dist", "cli.js"))) return "";
    const said = this.#homes.map((home) => this.#pyro(home, "daemon", "stop"));
    return said.filter(Boolean).join("\n");
  }

  /** Runs a command of a home; says what went wrong, empty when nothing did. */
  #pyro(home: string, ...words: string[]): string {
    const ended = spawnSync(process.execPath, [join(this.#root, "bin", "pyro.js"), ...words], {
      env: { ...process.env, PYRO_HOME: home },
      timeout: 600_000,
      encoding: "utf8",
    });
    return ended.status === 0 ? "" : `${words.join(" ")}: status ${ended.status}\n${ended.stdout}${ended.stderr}`;
  }
}
