// Programs of Debian's packages for tests, unpacked below dist/: installing one might start a server on this host, or put a
// program in a user's way.
import { access, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { openApt } from "../src/environments/apt.ts";
import { runProgram } from "../src/host/spawn.ts";

const ROOT = join(import.meta.dirname, "..");

/** The directory that a package was unpacked into, fetched once. */
export async function unpackedPackage(name: string): Promise<string> {
  const directory = join(ROOT, "dist", "test-tools", name);
  const there = await access(directory).then(
    () => true,
    () => false,
  );
  if (there) return directory;
  const staging = await mkdtemp(join(tmpdir(), "test-package-"));
  try {
    const apt = await openApt("bookworm", staging);
    for (const attempt of [1, 2]) {
      if (attempt === 2) await apt.update();
      await apt.run("apt-get", ["download", name], { cwd: staging, deadlineMs: 120_000 });
      if ((await readdir(staging)).some((found) => found.endsWith(".deb"))) break;
    }
    const [deb] = (await readdir(staging)).filter((found) => found.endsWith(".deb"));
    if (deb === undefined) throw new Error(`apt-get could not download ${name}`);
    const unpacked = `${directory}.${process.pid}`;
    await mkdir(unpacked, { recursive: true });
    const result = await runProgram("dpkg-deb", ["-x", join(staging, deb), unpacked], {
      aptPackage: "dpkg",
      deadlineMs: 60_000,
    });
    if (result.exitCode !== 0) throw new Error(`dpkg-deb: ${result.tail}`);
    await rename(unpacked, directory).catch(() => rm(unpacked, { recursive: true }));
    return directory;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}
