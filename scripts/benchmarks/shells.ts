// What a shell takes from a key to its echo: through the SDK, from the call that types to the answer that has what came of it.
import { Pyro } from "pyro-mcp";
import { stop } from "./commands.ts";
import { median, type Row, sample } from "./samples.ts";

/** Most that the way beside the link may take, ms. */
const BESIDE_LINK_MS = 10;

/** `link`: the round trip of the link to a guest, measured in the same run. */
export async function shells(count: number, link: Row | undefined): Promise<Row> {
  await stop();
  await using pyro = new Pyro();
  try {
    await using workspace = await pyro.createWorkspace({ ephemeral: true });
    await using shell = await workspace.shell.open();
    await shell.read({ waitForIdleMs: 1000 });
    const samples = await sample(
      count,
      async () => {
        const { cursor } = await shell.write({ input: "x", noNewline: true });
        const { output } = await shell.read({ cursor, waitSeconds: 10 });
        if (!output.includes("x")) throw new Error(`${JSON.stringify(output)} is no echo`);
        return undefined;
      },
      5,
    );
    return {
      name: "`shell write` to its echo, at a prompt of bash",
      command: "shell.write({ input, noNewline: true }); shell.read({ cursor, waitSeconds })",
      unit: "ms",
      samples,
      ...(link === undefined ? {} : { target: median(link.samples) + BESIDE_LINK_MS }),
    };
  } finally {
    await stop();
  }
}
