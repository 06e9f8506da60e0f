// Several ways to do a thing, each tried in a workspace of its own at the same time, and compared. See
// docs/recipes/parallel-workspaces.md.
//
//   node examples/recipes/parallel-workspaces/sdk.ts
import { readFile } from "node:fs/promises";
import { Pyro } from "pyro-mcp";
import { ending, makeProject } from "../project.ts";

await using project = await makeProject(import.meta.dirname);
await using pyro = new Pyro();
await using base = await pyro.createWorkspace({
  seedPath: project.file("repository"),
  labels: { recipe: "parallel-workspaces" },
  ephemeral: true,
});
// What all need is done once, before they part.
await base.exec("mkdir /opt/prepared", { check: true });

async function attempt(name: string) {
  await using workspace = await base.clone({ ephemeral: true });
  await workspace.file.write("total.py", await readFile(project.file("candidates", `${name}.py`)));
  const { exitCode, stdout, stderr } = await workspace.exec("ls -d /opt/prepared && python3 -B check.py");
  const { entries } = await workspace.diff({ stat: true });
  const lines = entries.reduce((sum, { insertions }) => sum + (insertions ?? 0), 0);
  return { name, passed: exitCode === 0, said: ending(exitCode, stdout + stderr), lines };
}

const attempts = await Promise.all(["loop", "formula", "guess"].map(attempt));
for (const { name, said, lines } of attempts) console.log(`${name}: ${said}; lines added: ${lines}`);

// The shortest of those that pass.
const [best] = attempts.filter(({ passed }) => passed).sort((one, other) => one.lines - other.lines);
console.log(`best: ${best?.name}`);
