// Reads a terminal session written as text and plays it: `$ command`, the expected output of stdout and stderr
// together, and `? N` where the exit status is not 0. `[..]` stands for anything within a line, a line `[...]` for any
// number of lines, and a line that begins with `#` is a comment.
import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

export interface Step {
  readonly line: number;
  readonly command: string;
  readonly expected: string;
  readonly status: number;
}

export function readSession(text: string): Step[] {
  const steps: { line: number; command: string; expected: string[]; status: number }[] = [];
  text.split("\n").forEach((line, index) => {
    if (line.startsWith("#")) return;
    const step = steps.at(-1);
    if (line.startsWith("$ ")) steps.push({ line: index + 1, command: line.slice(2), expected: [], status: 0 });
    else if (step && /^\? \d+$/.test(line)) step.status = Number(line.slice(2));
    else if (step) step.expected.push(line);
    else if (line !== "") throw new Error(`line ${index + 1}: output before the first command`);
  });
  return steps.map((step) => ({ ...step, expected: trimmed(step.expected.join("\n")) }));
}

/** A step's failure in words, or undefined. */
export async function playStep(step: Step, environment: NodeJS.ProcessEnv): Promise<string | undefined> {
  const { output, status } = await shell(step.command, environment);
  const actual = trimmed(output);
  if (status === step.status && patternOf(step.expected).test(`${actual}\n`)) return undefined;
  return [
    `line ${step.line}: $ ${step.command}`,
    `expected (status ${step.status}):`,
    step.expected,
    `got (status ${status}):`,
    actual,
  ].join("\n");
}

/** Plays all steps in an environment of its own where `pyro` is the command. */
export async function playSession(path: string, extra: NodeJS.ProcessEnv = {}): Promise<void> {
  const steps = readSession(await readFile(path, "utf8"));
  if (steps.length === 0) throw new Error(`${path} has no commands`);
  const directory = await mkdtemp(join(tmpdir(), "pyro-session-"));
  try {
    await symlink(join(import.meta.dirname, "..", "..", "bin", "pyro"), join(directory, "pyro"));
    const environment = {
      PYRO_HOME: join(directory, "home"),
      ...process.env,
      ...extra,
      PATH: `${directory}${delimiter}${process.env.PATH ?? ""}`,
      NO_COLOR: "1",
    };
    for (const step of steps) {
      const failure = await playStep(step, environment);
      if (failure !== undefined) throw new Error(failure);
    }
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

function shell(command: string, env: NodeJS.ProcessEnv): Promise<{ output: string; status: number }> {
  return new Promise((resolve, reject) => {
    const child = spawn("sh", ["-c", `{ ${command}\n} 2>&1`], { env, stdio: ["ignore", "pipe", "inherit"] });
    const chunks: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => chunks.push(chunk));
    child.once("error", reject);
    child.once("close", (status) => resolve({ output: Buffer.concat(chunks).toString("utf8"), status: status ?? -1 }));
  });
}

export function patternOf(expected: string): RegExp {
  const lines = expected.split("\n").map((line) => {
    if (line === "[...]") return "(?:.*\\n)*?";
    return `${line.split("[..]").map(escaped).join(".*?")}\\n`;
  });
  return new RegExp(`^${lines.join("")}$`);
}

function escaped(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** Without line ends at the end. */
function trimmed(text: string): string {
  return text.replace(/\n+$/, "");
}
