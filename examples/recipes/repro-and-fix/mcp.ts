// A failure is reproduced, mended by trial, and the change taken out as a patch that was tried from the start. See
// docs/recipes/repro-and-fix.md.
//
//   node examples/recipes/repro-and-fix/mcp.ts
import { execFileSync } from "node:child_process";
import { Conversation, type Exec } from "../conversation.ts";
import { ending, makeProject } from "../project.ts";

await using project = await makeProject(import.meta.dirname);
await using agent = await Conversation.open(project.path, "workspace-core");
const workspace_id = await agent.workspace({
  seed_path: project.file("repository"),
  labels: { recipe: "repro-and-fix" },
});

/** Prints how it ended, and says whether it passed. */
async function check(name: string): Promise<boolean> {
  const command = ["python3", "-B", "check.py"];
  const { exit_code, stdout, stderr } = await agent.call<Exec>("workspace_exec", { workspace_id, command });
  console.log(`${name}: ${ending(exit_code, stdout + stderr)}`);
  return exit_code === 0;
}

await check("reproduced");
await agent.call("workspace_file_read", { workspace_id, path: "median.py" });

// What stands for a model that thinks: each time the last text becomes the next.
let old = "ordered[len(ordered) // 2]";
const attempts = [
  ["first attempt", "sum(ordered[len(ordered) // 2 - 1 :][:2]) / 2"],
  ["second attempt", "(ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2"],
] as const;
for (const [name, text] of attempts) {
  await agent.call("workspace_file_edit", { workspace_id, path: "median.py", old, new: text });
  old = text;
  if (await check(name)) break;
}

// The patch alone must do it, in a workspace where nothing else was tried. A model has it in its answer, whole.
const { patch } = await agent.call<{ patch: string }>("workspace_diff", { workspace_id, paths: ["."] });
await agent.call("workspace_reset", { workspace_id });
await agent.call("workspace_patch_apply", { workspace_id, patch });
await check("the patch alone");

const cwd = project.file("repository");
execFileSync("git", ["apply", "-"], { cwd, input: patch });
process.stdout.write(execFileSync("git", ["status", "--short"], { cwd }));
