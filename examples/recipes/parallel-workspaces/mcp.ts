// Several ways to do a thing, each tried in a workspace of its own at the same time, and compared. See
// docs/recipes/parallel-workspaces.md.
//
//   node examples/recipes/parallel-workspaces/mcp.ts
import { readFile } from "node:fs/promises";
import { Conversation, type Exec } from "../conversation.ts";
import { ending, makeProject } from "../project.ts";

interface Diff {
  readonly entries: readonly { readonly insertions: number | null }[];
}

await using project = await makeProject(import.meta.dirname);
// Clones are in the profile with all tools.
await using agent = await Conversation.open(project.path, "workspace-full");
const base = await agent.workspace({
  seed_path: project.file("repository"),
  labels: { recipe: "parallel-workspaces" },
});
// What all need is done once, before they part.
await agent.call("workspace_exec", { workspace_id: base, command: "mkdir /opt/prepared" });

async function attempt(name: string) {
  const workspace_id = await agent.workspace({ workspace_id: base }, "workspace_clone");
  const text = await readFile(project.file("candidates", `${name}.py`), "utf8");
  await agent.call("workspace_file_write", { workspace_id, path: "total.py", text });
  const command = "ls -d /opt/prepared && python3 -B check.py";
  const { exit_code, stdout, stderr } = await agent.call<Exec>("workspace_exec", { workspace_id, command });
  const { entries } = await agent.call<Diff>("workspace_diff", { workspace_id, stat: true });
  const lines = entries.reduce((sum, { insertions }) => sum + (insertions ?? 0), 0);
  return { name, passed: exit_code === 0, said: ending(exit_code, stdout + stderr), lines };
}

const attempts = await Promise.all(["loop", "formula", "guess"].map(attempt));
for (const { name, said, lines } of attempts) console.log(`${name}: ${said}; lines added: ${lines}`);

// The shortest of those that pass.
const [best] = attempts.filter(({ passed }) => passed).sort((one, other) => one.lines - other.lines);
console.log(`best: ${best?.name}`);
