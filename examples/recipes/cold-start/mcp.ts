// Does a repository work for somebody who has nothing but its commits and its README? See docs/recipes/cold-start.md.
//
//   node examples/recipes/cold-start/mcp.ts
import { Conversation, type Exec } from "../conversation.ts";
import { ending, makeProject } from "../project.ts";

const README = "sh setup.sh && python3 -B check.py";
const FRESH = `git clone -q /workspace /tmp/fresh && cd /tmp/fresh && ${README}`;
const COMMIT =
  "git add -f settings.ini && git -c user.name=Example -c user.email=example@example.org commit -qm Settings";

await using project = await makeProject(import.meta.dirname);
await using agent = await Conversation.open(project.path, "workspace-core");
const workspace_id = await agent.workspace({
  seed_path: project.file("repository"),
  labels: { recipe: "cold-start" },
});

async function attempt(command: string): Promise<string> {
  const { exit_code, stdout, stderr } = await agent.call<Exec>("workspace_exec", { workspace_id, command });
  return ending(exit_code, stdout + stderr);
}

console.log(`as it lies here: ${await attempt(README)}`);

// A machine that nothing was done on yet: what the first attempt left, in the system too, is gone.
await agent.call("workspace_reset", { workspace_id });
console.log(`from a fresh clone: ${await attempt(FRESH)}`);

await agent.call("workspace_reset", { workspace_id });
console.log(`with settings.ini committed: ${await attempt(`${COMMIT} && ${FRESH}`)}`);
