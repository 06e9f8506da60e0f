// `npm run picture`: runs a session of pyro on a terminal of its own and writes what was seen to docs/images/session.svg. A test
// compares the picture's commands with these.
import { spawn, spawnSync } from "node:child_process";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { drawing, type Line } from "./picture/drawing.ts";
import { COLUMNS, screenOf } from "./picture/screen.ts";

export const SESSION: readonly string[] = [
  "pyro run debian:12 -- git --version",
  "pyro workspace create --seed-path . --name fix",
  "pyro workspace exec fix -- python3 -B check.py",
  "pyro workspace file edit fix slug.py --old 'title.lower()' --new 'title.strip().lower()'",
  "pyro workspace exec fix -- python3 -B check.py",
  "pyro workspace diff fix",
  "pyro workspace delete fix",
];
export const PICTURE = join(import.meta.dirname, "..", "docs", "images", "session.svg");
const ROOT = join(import.meta.dirname, "..");
const TITLE = "A session: a workspace is made of a directory, its failing test is mended in there, and it is deleted";

if (import.meta.main) await take();

async function take(): Promise<void> {
  const scratch = await mkdtemp(join(tmpdir(), "picture-"));
  try {
    const recipe = join(ROOT, "examples", "recipes", "review", "project.sh");
    must(spawnSync(recipe, [scratch], { encoding: "utf8" }));
    // What only a first run prints is no part of a session.
    must(spawnSync(join(ROOT, "bin", "pyro"), ["run", "--", "true"], { encoding: "utf8" }));
    const lines: Line[] = [];
    for (const command of SESSION) {
      lines.push([{ text: `$ ${command}`, style: "command" }]);
      lines.push(...(await screenOf(await recorded(command, join(scratch, "repository")))));
    }
    await mkdir(join(PICTURE, ".."), { recursive: true });
    await writeFile(PICTURE, drawing(TITLE, lines));
  } finally {
    await rm(scratch, { recursive: true });
  }
}

/** The bytes that a command prints on a terminal. */
async function recorded(command: string, cwd: string): Promise<Uint8Array> {
  const env = {
    ...process.env,
    PATH: `${join(ROOT, "bin")}:${process.env.PATH}`,
    TERM: "xterm-256color",
    COMMAND: command,
  };
  const line = `stty cols ${COLUMNS} rows 40; eval "$COMMAND"`;
  const child = spawn("script", ["-qec", line, "/dev/null"], { cwd, env, stdio: ["ignore", "pipe", "inherit"] });
  const chunks: Buffer[] = [];
  for await (const chunk of child.stdout as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function must({ status, stderr, error }: { status: number | null; stderr: string; error?: Error }): void {
  if (status !== 0) throw error ?? new Error(stderr);
}
