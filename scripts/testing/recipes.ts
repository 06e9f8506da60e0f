// Runs the recipes of examples/recipes as somebody does who copies them: each has three forms, and all of them say the same.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

export const FORMS = { cli: "cli.sh", sdk: "sdk.ts", mcp: "mcp.ts" } as const;
export type Form = keyof typeof FORMS;

/** Of all that `make smoke` runs, what every test run has: a recipe in each form. */
export const SHORT: readonly (readonly [string, Form])[] = [
  ["untrusted-code", "cli"],
  ["repro-and-fix", "sdk"],
  ["parallel-workspaces", "mcp"],
];

export interface RecipeRun {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
  /** What it should have printed. */
  readonly expected: string;
  readonly durationMs: number;
  /** What a conversation over MCP took, as it says itself. */
  readonly taken: Taken | undefined;
}

export interface Taken {
  readonly calls: number;
  readonly askedBytes: number;
  readonly answeredBytes: number;
  /** Of the server's instructions and its list of tools. */
  readonly offeredBytes: number;
}

/** Names of the recipes there are. `root` is the checkout. */
export function recipes(root: string): string[] {
  const found = globSync("examples/recipes/*/expected.txt", { cwd: root });
  return found.map((path) => basename(dirname(path))).sort();
}

/** Runs one to its end. Rejects only when it cannot be started. */
export async function runRecipe(root: string, recipe: string, form: Form): Promise<RecipeRun> {
  const directory = join(root, "examples", "recipes", recipe);
  const program = join(directory, FORMS[form]);
  const [command, ...words] = form === "cli" ? [program] : [process.execPath, program];
  const begin = performance.now();
  const child = spawn(command, words, {
    env: { ...process.env, PYRO: join(root, "bin", "pyro") },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const [stdout, stderr, [status]] = await Promise.all([
    textOf(child.stdout),
    textOf(child.stderr),
    once(child, "close") as Promise<[number | null]>,
  ]);
  return {
    status,
    stdout,
    stderr,
    expected: readFileSync(join(directory, "expected.txt"), "utf8"),
    durationMs: performance.now() - begin,
    taken: takenOf(stderr),
  };
}

async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

function takenOf(said: string): Taken | undefined {
  const found = /^(\d+) calls, (\d+) bytes asked, (\d+) bytes answered, (\d+) bytes offered$/m.exec(said);
  if (found === null) return undefined;
  const [calls = 0, askedBytes = 0, answeredBytes = 0, offeredBytes = 0] = found.slice(1).map(Number);
  return { calls, askedBytes, answeredBytes, offeredBytes };
}
