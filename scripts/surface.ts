// Writes test/public-surface.txt: all that pyro promises to those who use it, a line for each promise. What is new is added;
// what would break somebody is refused within a major version (docs/releases.md). --accept takes it all the same: for what no
// release has had yet, and for a changed type that no caller can notice.
import { readdir, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { breaks } from "./surface/compare.ts";
import { sdkLines } from "./surface/declarations.ts";
import { faceLines } from "./surface/faces.ts";

const ROOT = join(import.meta.dirname, "..");
const FILE = join(ROOT, "test", "public-surface.txt");
const HEAD = "# What pyro promises, written by scripts/surface.ts. Of version";

export interface Surface {
  readonly version: string;
  readonly lines: readonly string[];
}

/** What this checkout promises. Reads the declarations that were built, and throws when they are older than the source. */
export async function presentSurface(): Promise<Surface> {
  const { version } = JSON.parse(await readFile(join(ROOT, "package.json"), "utf8")) as { version: string };
  const built = await stat(join(ROOT, "dist", "types", "sdk", "rows.d.ts")).catch(() => undefined);
  for (const entry of await readdir(join(ROOT, "src"), { recursive: true, withFileTypes: true })) {
    // A directory is newer too when an editor kept a file in it for a while; nothing is built anew for that.
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const { mtimeMs } = await stat(file);
    if (built === undefined || mtimeMs > built.mtimeMs)
      throw new Error(`dist/types is older than ${file}: run \`make setup\``);
  }
  return { version, lines: [...new Set([...faceLines(), ...sdkLines(ROOT)])].sort() };
}

/** What was promised: the last version that was written down. */
export async function promisedSurface(): Promise<Surface> {
  const [head = "", ...lines] = (await readFile(FILE, "utf8")).trimEnd().split("\n");
  return { version: head.slice(HEAD.length).trim(), lines };
}

/** What somebody would miss who relied on what was promised. A new major version may break. */
export function missed(promised: Surface, present: Surface): string[] {
  const major = ({ version }: Surface) => Number(version.split(".")[0]);
  return major(present) > major(promised) ? [] : breaks(promised.lines, present.lines);
}

if (import.meta.main) {
  const present = await presentSurface();
  const promised = await promisedSurface().catch(() => ({ version: "0", lines: [] }));
  const broken = missed(promised, present);
  if (broken.length > 0 && !process.argv.includes("--accept")) {
    console.error(`${broken.join("\n")}\nThis breaks what ${promised.version} promises: see docs/releases.md.`);
    process.exitCode = 1;
  } else {
    const before = new Set(promised.lines);
    const added = present.lines.filter((line) => !before.has(line)).length;
    await writeFile(FILE, `${[`${HEAD} ${present.version}`, ...present.lines].join("\n")}\n`);
    console.log(`test/public-surface.txt: ${present.lines.length} promises, ${added} new or changed`);
  }
}
