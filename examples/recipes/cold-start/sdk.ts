// Does a repository work for somebody who has nothing but its commits and its README? See docs/recipes/cold-start.md.
//
//   node examples/recipes/cold-start/sdk.ts
import { Pyro } from "pyro-mcp";
import { ending, makeProject } from "../project.ts";

const README = "sh setup.sh && python3 -B check.py";
const FRESH = `git clone -q /workspace /tmp/fresh && cd /tmp/fresh && ${README}`;
const COMMIT =
  "git add -f settings.ini && git -c user.name=Example -c user.email=example@example.org commit -qm Settings";

await using project = await makeProject(import.meta.dirname);
await using pyro = new Pyro();
await using workspace = await pyro.createWorkspace({
  seedPath: project.file("repository"),
  labels: { recipe: "cold-start" },
  ephemeral: true,
});

async function attempt(command: string): Promise<string> {
  const { exitCode, stdout, stderr } = await workspace.exec(["sh", "-c", command]);
  return ending(exitCode, stdout + stderr);
}

console.log(`as it lies here: ${await attempt(README)}`);

// A machine that nothing was done on yet: what the first attempt left, in the system too, is gone.
await workspace.reset();
console.log(`from a fresh clone: ${await attempt(FRESH)}`);

await workspace.reset();
console.log(`with settings.ini committed: ${await attempt(`${COMMIT} && ${FRESH}`)}`);
