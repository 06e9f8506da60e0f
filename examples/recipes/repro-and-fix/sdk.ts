// A failure is reproduced, mended by trial, and the change taken out as a patch that was tried from the start. See
// docs/recipes/repro-and-fix.md.
//
//   node examples/recipes/repro-and-fix/sdk.ts
import { execFileSync } from "node:child_process";
import { Pyro } from "pyro-mcp";
import { ending, makeProject } from "../project.ts";

await using project = await makeProject(import.meta.dirname);
await using pyro = new Pyro();
await using workspace = await pyro.createWorkspace({
  seedPath: project.file("repository"),
  labels: { recipe: "repro-and-fix" },
  ephemeral: true,
});

/** Prints how it ended, and says whether it passed. */
async function check(name: string): Promise<boolean> {
  const { exitCode, stdout, stderr } = await workspace.exec(["python3", "-B", "check.py"]);
  console.log(`${name}: ${ending(exitCode, stdout + stderr)}`);
  return exitCode === 0;
}

await check("reproduced");

// What stands for somebody who thinks: each time the last text becomes the next.
let old = "ordered[len(ordered) // 2]";
const attempts = [
  ["first attempt", "sum(ordered[len(ordered) // 2 - 1 :][:2]) / 2"],
  ["second attempt", "(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2"],
] as const;
for (const [name, text] of attempts) {
  await workspace.file.edit("median.py", { old, new: text });
  old = text;
  if (await check(name)) break;
}

// The patch alone must do it, in a workspace where nothing else was tried.
const { patch } = await workspace.diff();
await workspace.reset();
await workspace.patch.apply(patch);
await check("the patch alone");

const cwd = project.file("repository");
execFileSync("git", ["apply", "-"], { cwd, input: patch });
process.stdout.write(execFileSync("git", ["status", "--short"], { cwd }));
