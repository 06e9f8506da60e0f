// `make smoke`: every recipe from the command line, by the SDK and over MCP, in real microVMs, and what the conversations over
// MCP took. Arguments, if any, are parts of `RECIPE/FORM`: only those are run.
import { spawnSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { FORMS, type Form, type RecipeRun, recipes, runRecipe, type Taken } from "./recipes.ts";
import { Scratch } from "./scratch.ts";
import { Tally } from "./tally.ts";

const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
const only = process.argv.slice(2);
const scratch = new Scratch(root, { alone: false });
const tally = new Tally(join(root, "test", "expected-skips.txt"), true);
const conversations: [string, Taken][] = [];

// An environment that has to be built first is no recipe's fault.
scratch.environments();
for (const recipe of recipes(root)) {
  for (const form of Object.keys(FORMS) as Form[]) {
    const name = `${recipe}/${form}`;
    if (only.length > 0 && !only.some((part) => name.includes(part))) continue;
    const run = await runRecipe(root, recipe, form);
    const problem = problemOf(run, recipe);
    tally.add({ status: problem ? "failed" : "passed", name, durationMs: run.durationMs, text: problem });
    if (run.taken) conversations.push([recipe, run.taken]);
  }
}
await scratch.check(tally);
scratch.close();
if (conversations.length > 0) console.log(`\nConversations over MCP\n${table(conversations)}`);
process.exitCode = tally.finish() ? 0 : 1;

/** Empty when it did what it should and left nothing. */
function problemOf({ status, stdout, stderr, expected }: RecipeRun, recipe: string): string {
  if (status !== 0 || stdout !== expected) return `status ${status}, and it printed\n${stdout}${stderr}`;
  const words = ["workspace", "list", "--label", `recipe=${recipe}`, "--json"];
  const listed = spawnSync(join(root, "bin", "pyro"), words, { encoding: "utf8" });
  if (listed.status !== 0) return listed.stdout + listed.stderr;
  const { workspaces } = JSON.parse(listed.stdout) as { workspaces: unknown[] };
  return workspaces.length === 0 ? "" : `it left workspaces: ${listed.stdout}`;
}

function table(rows: readonly [string, Taken][]): string {
  const head = ["recipe", "calls", "bytes asked", "bytes answered", "bytes offered before"];
  const lines = rows.map(([recipe, { calls, askedBytes, answeredBytes, offeredBytes }]) => [
    recipe,
    ...[calls, askedBytes, answeredBytes, offeredBytes].map(String),
  ]);
  const widths = head.map((title, at) => Math.max(title.length, ...lines.map((line) => line[at]?.length ?? 0)));
  const shown = [head, ...lines].map((cells) =>
    cells.map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0))).join("  "),
  );
  return shown.map((line) => `  ${line}`).join("\n");
}
