// A token that commands use and nobody sees: given by reference, named by the command that needs it, kept out of output.
//
//   node examples/secrets.ts
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Pyro, PyroError } from "pyro-mcp";

const directory = await mkdtemp(join(tmpdir(), "secrets-"));
try {
  const file = join(directory, "token");
  await writeFile(file, "not-a-real-token-4711\n", { mode: 0o600 });
  await using pyro = new Pyro();
  await using workspace = await pyro.createWorkspace({
    secrets: [{ name: "TOKEN", file }],
    labels: { example: "secrets" },
    ephemeral: true,
  });

  // In the environment of this command, and of no other.
  const used = await workspace.exec({ command: "echo using $TOKEN", secretEnv: ["TOKEN"] });
  console.log(`${used.stdout.trim()}; redacted: ${used.redacted}`);
  console.log((await workspace.exec("env | grep -c TOKEN")).stdout.trim());

  // A file in the guest's memory, for programs that read one.
  const encoded = await workspace.exec("base64 < /run/pyro/secrets/TOKEN > encoded; cat encoded");
  console.log(encoded.stdout.trim().slice(0, 16));
  console.log((await workspace.file.read("encoded")).redacted);

  // One that was never given.
  await workspace.exec({ command: "true", secretEnv: ["TOKENS"] }).catch((error: unknown) => {
    if (!(error instanceof PyroError) || error.code !== "SECRET_UNKNOWN") throw error;
    console.log(error.message);
  });
} finally {
  await rm(directory, { recursive: true });
}
