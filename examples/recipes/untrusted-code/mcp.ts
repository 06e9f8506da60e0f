// A stranger's program is run where it can do no harm, and then what it did is looked at with nothing of it running. See
// docs/recipes/untrusted-code.md.
//
//   node examples/recipes/untrusted-code/mcp.ts
import { Conversation, type Exec } from "../conversation.ts";
import { ending, makeProject } from "../project.ts";

interface Listed {
  readonly entries: readonly { readonly path: string }[];
}

const TOKEN = "of-this-host";
process.env.TOKEN = TOKEN;

await using project = await makeProject(import.meta.dirname);
// What looks at stopped disks is in the profile with all tools.
await using agent = await Conversation.open(project.path, "workspace-full");
const workspace_id = await agent.workspace({
  seed_path: project.file("repository"),
  network_policy: "off",
  labels: { recipe: "untrusted-code" },
});
const { exit_code, stdout, stderr } = await agent.call<Exec>("workspace_exec", {
  workspace_id,
  command: ["sh", "install.sh"],
  timeout_seconds: 60,
});
console.log(`install.sh: ${ending(exit_code, stdout + stderr)}`);

// From here on nothing of it runs: the disk of a stopped workspace is read without starting it.
await agent.call("workspace_stop", { workspace_id });
const { entries: changed } = await agent.call<Listed>("workspace_diff", { workspace_id, stat: true });
console.log(`changed: ${changed.map(({ path }) => path).join(" ")}`);

async function read(path: string): Promise<string> {
  return (await agent.call<{ content: string }>("workspace_disk_read", { workspace_id, path })).content;
}
const { entries } = await agent.call<Listed>("workspace_disk_list", { workspace_id, path: "/etc/profile.d" });
for (const { path } of entries) console.log(`left in the system: ${(await read(path)).trim()}`);
console.log(`saw a token of this host: ${(await read("bin/.seen")).includes(TOKEN) ? "yes" : "no"}`);
