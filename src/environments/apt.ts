// apt, limited to the sources of one Debian release and changing nothing of the host's own state.
import { access, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PyroError } from "../errors/error.ts";
import { type RunResult, runProgram } from "../host/spawn.ts";
import { type AptSource, isDebian, readRelease, readSources, renderSources } from "./sources.ts";

const ETC_APT = "/etc/apt";
const HOST_LISTS = "/var/lib/apt/lists";
const UPDATE_DEADLINE_MS = 300_000;

export interface Apt {
  readonly sources: readonly AptSource[];
  /** When the newest of them was published, seconds since 1970. */
  readonly releasedAt: number;
  /** Runs apt-get or apt-cache over just these sources. */
  run(
    program: "apt-get" | "apt-cache",
    args: readonly string[],
    options?: { cwd?: string; deadlineMs?: number },
  ): Promise<RunResult>;
  /** Fetches fresh package lists into the staging directory; later runs use them. */
  update(): Promise<void>;
}

/**
 * Finds the host's signed sources of a Debian release. The lists that the host's apt has fetched already tell which
 * they are; when some are missing, all candidates are fetched into `staging` first.
 * Errors: HOST_UNSUPPORTED when the host has no such source, ENVIRONMENT_BUILD_FAILED when apt fails.
 */
export async function openApt(codename: string, staging: string, signal?: AbortSignal): Promise<Apt> {
  const candidates = (await readSources(ETC_APT)).filter((source) => mayBe(source, codename));
  if (candidates.length === 0) throw noSource(codename);

  const directory = join(staging, "apt");
  await mkdir(join(directory, "lists", "partial"), { recursive: true });
  const privateLists = join(directory, "lists");
  let lists = HOST_LISTS;
  let sources = candidates;

  const run: Apt["run"] = async (program, args, options = {}) => {
    const list = join(directory, "pyro.sources");
    const configuration = join(directory, "apt.conf");
    await writeFile(list, renderSources(sources, ["Packages"]));
    // The host's hooks are for the host's own state. Read with -c, after all of the host's configuration.
    await writeFile(configuration, "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n");
    const settings = [
      `Dir::Etc::sourcelist=${list}`,
      "Dir::Etc::sourceparts=-",
      "Dir::Etc::preferences=/dev/null",
      "Dir::Etc::preferencesparts=-",
      `Dir::State::lists=${lists}`,
      `Dir::Cache=${directory}`,
      "Dir::Cache::pkgcache=",
      "Dir::Cache::srcpkgcache=",
      "Acquire::Languages=none",
      "Acquire::Retries=2",
    ];
    return await runProgram(program, ["-q", "-c", configuration, ...settings.flatMap((set) => ["-o", set]), ...args], {
      aptPackage: "apt",
      deadlineMs: options.deadlineMs ?? 60_000,
      cwd: options.cwd,
      // Its methods end with it: they read from it.
      bound: true,
      signal,
    });
  };
  const update = async (): Promise<void> => {
    lists = privateLists;
    const result = await run("apt-get", ["update"], { deadlineMs: UPDATE_DEADLINE_MS });
    if (result.exitCode !== 0) {
      throw new PyroError("ENVIRONMENT_BUILD_FAILED", "apt-get could not fetch the package lists of Debian.", {
        hint: "Check the network and the host's package sources: `apt-get update` must work.",
        details: { log_tail: result.tail },
      });
    }
  };

  if (!(await hasPackages(HOST_LISTS, candidates))) await update();
  let selected = await selectSources(candidates, lists, codename);
  if (selected.sources.length === 0 && lists === HOST_LISTS) {
    // The host's lists may be of another day than its sources.
    await update();
    selected = await selectSources(candidates, lists, codename);
  }
  sources = selected.sources;
  if (!sources.some((source) => source.components.includes("main"))) throw noSource(codename);
  return { sources, releasedAt: selected.releasedAt, run, update };
}

/** What the host has of a release's sources, without fetching anything: named by its configuration, checked by its apt. */
export async function countSources(codename: string): Promise<{ configured: number; fetched: number }> {
  const candidates = (await readSources(ETC_APT)).filter((source) => mayBe(source, codename));
  const { sources } = await selectSources(candidates, HOST_LISTS, codename);
  return { configured: candidates.length, fetched: sources.length };
}

/** Suites that can be the release: by codename, or by a name that moves from release to release. */
function mayBe(source: AptSource, codename: string): boolean {
  return new RegExp(`^(${codename}|stable|oldstable|oldoldstable)(-updates|-security|/updates)?$`).test(source.suite);
}

async function selectSources(
  candidates: readonly AptSource[],
  lists: string,
  codename: string,
): Promise<{ sources: AptSource[]; releasedAt: number }> {
  const sources: AptSource[] = [];
  let releasedAt = 0;
  for (const source of candidates) {
    const release = await readRelease(lists, source);
    if (!release || !isDebian(release, codename)) continue;
    sources.push(source);
    releasedAt = Math.max(releasedAt, release.publishedAt);
  }
  return { sources, releasedAt };
}

async function hasPackages(lists: string, candidates: readonly AptSource[]): Promise<boolean> {
  for (const source of candidates) if (!(await readRelease(lists, source))) return false;
  return await access(lists).then(
    () => true,
    () => false,
  );
}

function noSource(codename: string): PyroError {
  return new PyroError("HOST_UNSUPPORTED", `This host has no signed package source of Debian ${codename}.`, {
    hint:
      `Add one, for example /etc/apt/sources.list.d/${codename}.sources with Types: deb, ` +
      `URIs: the address of a Debian mirror, Suites: ${codename}, Components: main and ` +
      "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg (package debian-archive-keyring), " +
      "then run `apt-get update`.",
    details: { codename, looked_in: ETC_APT },
  });
}

/** The proxies that the host's apt uses, as the environment variables that other programs read. */
export async function proxyEnvironment(signal?: AbortSignal): Promise<Record<string, string>> {
  const environment: Record<string, string> = {};
  for (const scheme of ["http", "https"]) {
    const { stdout } = await runProgram("apt-config", ["dump", "--format", "%v%n", `Acquire::${scheme}::Proxy`], {
      aptPackage: "apt",
      deadlineMs: 10_000,
      signal,
    });
    const proxy = stdout.split("\n")[0]?.trim();
    if (proxy && proxy !== "DIRECT" && /^[a-z0-9]+:\/\//.test(proxy)) environment[`${scheme}_proxy`] = proxy;
  }
  return environment;
}
