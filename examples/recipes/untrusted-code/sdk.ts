// A stranger's program is run where it can do no harm, and then what it did is looked at with nothing of it running. See
// docs/recipes/untrusted-code.md.
//
//   node examples/recipes/untrusted-code/sdk.ts
import { Pyro } from "pyro-mcp";
import { ending, makeProject } from "../project.ts";

const TOKEN = "of-this-host";
process.env.TOKEN = TOKEN;

await using project = await makeProject(import.meta.dirname);
await using pyro = new Pyro();
await using workspace = await pyro.createWorkspace({
  seedPath: project.file("repository"),
  networkPolicy: "off",
  labels: { recipe: "untrusted-code" },
  ephemeral: true,
});
const { exitCode, stdout, stderr } = await workspace.exec({ command: ["sh", "install.sh"], timeoutSeconds: 60 });
console.log(`install.sh: ${ending(exitCode, stdout + stderr)}`);

// From here on nothing of it runs: the disk of a stopped workspace is read without starting it.
await workspace.stop();
const { entries } = await workspace.diff({ stat: true });
console.log(`changed: ${entries.map(({ path }) => path).join(" ")}`);
for await (const { path } of workspace.disk.list("/etc/profile.d")) {
  console.log(`left in the system: ${(await workspace.disk.read(path)).content.trim()}`);
}
const { content } = await workspace.disk.read("bin/.seen");
console.log(`saw a token of this host: ${content.includes(TOKEN) ? "yes" : "no"}`);
