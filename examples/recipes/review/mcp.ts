// Changes of several authors, each tried from the same beginning: what it changes, whether its tests pass, and what checks say
// that its author has not seen. See docs/recipes/review.md.
//
//   node examples/recipes/review/mcp.ts
import { readdir, readFile } from "node:fs/promises";
import { basename } from "node:path";
import { Conversation, type Exec } from "../conversation.ts";
import { ending, makeProject } from "../project.ts";

interface Diff {
  readonly entries: readonly { readonly path: string }[];
}

await using project = await makeProject(import.meta.dirname);
await using agent = await Conversation.open(project.path, "workspace-core");
const workspace_id = await agent.workspace({ seed_path: project.file("repository"), labels: { recipe: "review" } });

function python(file: string): Promise<Exec> {
  return agent.call<Exec>("workspace_exec", { workspace_id, command: ["python3", "-B", file] });
}

const accepted: string[] = [];
for (const name of (await readdir(project.file("submissions"))).sort()) {
  const author = basename(name, ".patch");
  await agent.call("workspace_reset", { workspace_id });
  const patch = await readFile(project.file("submissions", name), "utf8");
  await agent.call("workspace_patch_apply", { workspace_id, patch });
  const { exit_code, stdout, stderr } = await python("check.py");
  const { entries } = await agent.call<Diff>("workspace_diff", { workspace_id, stat: true });
  const files = entries.map(({ path }) => path).join(" ");

  // Only now come the checks in: nothing of the submission has run beside them before.
  await agent.call("workspace_sync_push", { workspace_id, source_path: project.file("checks") });
  const score = (await python("review.py")).stdout.trim();
  console.log(`${author}: changes ${files}; its tests: ${ending(exit_code, stdout + stderr)}; review: ${score}`);
  if (score === "3 of 3") accepted.push(author);
}
console.log(`accepted: ${accepted.join(" ") || "none"}`);
