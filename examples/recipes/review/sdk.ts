// Changes of several authors, each tried from the same beginning: what it changes, whether its tests pass, and what checks say
// that its author has not seen. See docs/recipes/review.md.
//
//   node examples/recipes/review/sdk.ts
import { readdir, readFile } from "node:fs/promises";
import { basename } from "node:path";
import { Pyro } from "pyro-mcp";
import { ending, makeProject } from "../project.ts";

await using project = await makeProject(import.meta.dirname);
await using pyro = new Pyro();
await using workspace = await pyro.createWorkspace({
  seedPath: project.file("repository"),
  labels: { recipe: "review" },
  ephemeral: true,
});

const accepted: string[] = [];
for (const name of (await readdir(project.file("submissions"))).sort()) {
  const author = basename(name, ".patch");
  await workspace.reset();
  await workspace.patch.apply(await readFile(project.file("submissions", name)));
  const { exitCode, stdout, stderr } = await workspace.exec(["python3", "-B", "check.py"]);
  const { entries } = await workspace.diff({ stat: true });
  const files = entries.map(({ path }) => path).join(" ");

  // Only now come the checks in: nothing of the submission has run beside them before.
  await workspace.syncPush(project.file("checks"));
  const score = (await workspace.exec(["python3", "-B", "review.py"])).stdout.trim();
  console.log(`${author}: changes ${files}; its tests: ${ending(exitCode, stdout + stderr)}; review: ${score}`);
  if (score === "3 of 3") accepted.push(author);
}
console.log(`accepted: ${accepted.join(" ") || "none"}`);
