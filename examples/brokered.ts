// A token that commands use and cannot read: the guest has a placeholder, and its requests to the listed host have the value.
//
//   TOKEN=... node examples/brokered.ts
import { Pyro } from "pyro-mcp";

const host = process.env.API_HOST ?? "api.github.com";
await using pyro = new Pyro();
await using workspace = await pyro.createWorkspace({
  networkPolicy: "egress",
  allowHosts: [host],
  secrets: [{ name: "TOKEN", value: process.env.TOKEN ?? "not-a-real-token-4711" }],
  secretFor: [`TOKEN=${host}`],
  labels: { example: "brokered" },
  ephemeral: true,
});

// Whatever looks for it finds this.
console.log((await workspace.exec("echo $TOKEN")).stdout.trim().replace(/[0-9a-f]{32}$/, "..."));

// The host sees the token; what it answers comes back without.
const curl = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H"];
const asked = await workspace.exec({ command: `${curl.join(" ")} "Authorization: Bearer $TOKEN" https://${host}/` });
console.log(`status ${asked.stdout.trim()}`);

// When it was used, and where.
for await (const { code, secretName, name } of pyro.logNetwork({ workspaceId: workspace.workspaceId })) {
  if (code === "secret_used") console.log(`${secretName} was sent to ${name}`);
}
