// What the tests' hosts serve to package managers: an index for pip and a registry for npm, each with one package, and Node
// with npm for a guest that has none.
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { mkdir, readFile, realpath, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { findProgram } from "../../src/host/resources.ts";

const run = promisify(execFile);

/** The package's name, for both. */
export const PACKAGE = "greeting";
/** What it says. */
export const SAID_BY_PIP = "hello from a wheel";
export const SAID_BY_NPM = "hello from a tarball";

/** `/files/tools.tar`: `bin/node`, `npm/` and the hosts' authority as `ca.pem`. */
export const TOOLS = "/files/tools.tar";

/** Fills the directory that the hosts of `host` serve. */
export async function makePackages(directory: string, host: string): Promise<void> {
  await Promise.all([makeIndex(directory), makeRegistry(directory, host), packTools(directory)]);
}

/** https://peps.python.org/pep-0503/, with a wheel. */
async function makeIndex(directory: string): Promise<void> {
  const place = join(directory, "simple", PACKAGE);
  const about = join(place, `${PACKAGE}-1.0.dist-info`);
  await mkdir(about, { recursive: true });
  const wheel = `${PACKAGE}-1.0-py3-none-any.whl`;
  await writeFile(join(place, `${PACKAGE}.py`), `said = "${SAID_BY_PIP}"\n`);
  await writeFile(join(about, "METADATA"), `Metadata-Version: 2.1\nName: ${PACKAGE}\nVersion: 1.0\n`);
  await writeFile(join(about, "WHEEL"), "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n");
  const files = [`${PACKAGE}.py`, ...["METADATA", "WHEEL", "RECORD"].map((name) => `${PACKAGE}-1.0.dist-info/${name}`)];
  await writeFile(join(about, "RECORD"), files.map((file) => `${file},,\n`).join(""));
  await run("python3", ["-m", "zipfile", "-c", wheel, `${PACKAGE}.py`, `${PACKAGE}-1.0.dist-info`], { cwd: place });
  await writeFile(join(place, "index.html"), `<!doctype html><a href="${wheel}">${wheel}</a>\n`);
}

async function makeRegistry(directory: string, host: string): Promise<void> {
  const place = join(directory, "npm");
  const source = join(place, "source", "package");
  const version = "1.0.0";
  const name = `${PACKAGE}-${version}.tgz`;
  await mkdir(source, { recursive: true });
  await writeFile(join(source, "package.json"), JSON.stringify({ name: PACKAGE, version }));
  await writeFile(join(source, "index.js"), `module.exports = "${SAID_BY_NPM}";\n`);
  await run("tar", ["-czf", join(place, name), "-C", dirname(source), "package"]);
  const digest = createHash("sha512")
    .update(await readFile(join(place, name)))
    .digest("base64");
  const dist = { tarball: `https://${host}/npm/${name}`, integrity: `sha512-${digest}` };
  const versions = { [version]: { name: PACKAGE, version, dist } };
  await writeFile(join(place, PACKAGE), JSON.stringify({ name: PACKAGE, "dist-tags": { latest: version }, versions }));
}

/** The Node that runs this, and the npm of this host. */
async function packTools(directory: string): Promise<void> {
  const npm = dirname(dirname(await realpath((await findProgram("npm")) ?? "npm")));
  await mkdir(join(directory, "files"));
  const parts = [
    ...["-C", dirname(dirname(process.execPath)), "bin/node"],
    ...["-C", dirname(npm), "npm"],
    ...["-C", directory, "ca.pem"],
  ];
  const surplus = ["docs", "man", "*.md", "*.map", "*.d.ts"].map((pattern) => `--exclude=${pattern}`);
  await run("tar", ["-cf", join(directory, TOOLS), "--dereference", ...surplus, ...parts]);
}
