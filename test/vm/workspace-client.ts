// A client process of the concurrency test: its share of commands, spread over workspaces, some at a time. Prints what
// was not as it should be, one line each, and nothing when all was.
//
//   node workspace-client.ts HOME FIRST COUNT WORKSPACE...
import { Pyro } from "pyro-mcp";
import { commandOf, outputOf, statusOf } from "./workspace-commands.ts";

/** Commands that one client has under way at once. */
const AT_ONCE = 4;

const [home = "", first = "0", count = "0", ...workspaces] = process.argv.slice(2);
await using pyro = new Pyro({ home });
const numbers = Array.from({ length: Number(count) }, (_, index) => Number(first) + index);

await Promise.all(
  Array.from({ length: AT_ONCE }, async () => {
    for (let number = numbers.shift(); number !== undefined; number = numbers.shift()) {
      const workspaceId = workspaces[number % workspaces.length] ?? "";
      const result = await pyro.execWorkspace({ workspaceId, command: commandOf(number), env: { N: String(number) } });
      const right = result.stdout === outputOf(number) && result.stderr === "" && result.exitCode === statusOf(number);
      if (!right) process.stdout.write(`command ${number}: status ${result.exitCode}, ${result.stdout.length} bytes\n`);
    }
  }),
);
