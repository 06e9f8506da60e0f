// What reading and writing single files of a workspace costs, from the call to its answer.
import { randomBytes } from "node:crypto";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro } from "pyro-mcp";
import { PYRO, stop } from "./commands.ts";
import { type Row, sample } from "./samples.ts";

const READ_BYTES = 1_000_000;
const WRITES = 100;
const WRITE_BYTES = 2000;

export async function files(count: number): Promise<Row[]> {
  await stop();
  await using pyro = new Pyro();
  try {
    await using workspace = await pyro.createWorkspace({ ephemeral: true });
    const { file } = workspace;
    await file.write("bytes", randomBytes(READ_BYTES));
    await file.write("text", "a line of text\n".repeat(Math.ceil(READ_BYTES / 15)).slice(0, READ_BYTES));
    const read = (path: string) =>
      sample(2 * count, async () => {
        const { sizeBytes, truncated } = await file.read(path, { maxBytes: 2 ** 20 });
        if (truncated || sizeBytes !== READ_BYTES) throw new Error(`${sizeBytes} bytes were read`);
        return undefined;
      });
    const text = await read("text");
    const bytes = await read("bytes");
    const writes = await overMcp(count, workspace.workspaceId);
    return [
      {
        name: "`file read` of 1 MB of text",
        command: "workspace.file.read(path)",
        unit: "ms",
        samples: text,
        target: 100,
      },
      {
        name: "`file read` of 1 MB of bytes",
        command: "workspace.file.read(path)",
        unit: "ms",
        samples: bytes,
        target: 100,
      },
      {
        name: `${WRITES} file writes over MCP`,
        command: "workspace_file_write",
        unit: "ms",
        samples: writes,
        target: 1000,
      },
    ];
  } finally {
    await stop();
  }
}

/** One after the other, as an agent makes them. */
async function overMcp(count: number, workspaceId: string): Promise<readonly number[]> {
  const client = new Client({ name: "bench", version: "1" });
  const env = process.env as Record<string, string>;
  await client.connect(new StdioClientTransport({ command: process.execPath, args: [PYRO, "mcp", "serve"], env }));
  const text = "x".repeat(WRITE_BYTES);
  try {
    return await sample(count, async () => {
      for (let index = 0; index < WRITES; index++) {
        const args = { workspace_id: workspaceId, path: `written/${index}`, text };
        const { isError, content } = await client.callTool({ name: "workspace_file_write", arguments: args });
        if (isError) throw new Error(JSON.stringify(content));
      }
      return undefined;
    });
  } finally {
    await client.close();
  }
}
