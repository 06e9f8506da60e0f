// A conversation with pyro's MCP server as an agent has it, over the official client: one tool after another, each call counted
// with the bytes that were asked and answered.
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";

/** What a workspace's command comes back with; more is in docs/reference/mcp.md. */
export interface Exec {
  readonly exit_code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Conversation implements AsyncDisposable {
  readonly #client: Client;
  readonly #workspaces = new Set<string>();
  #calls = 0;
  #asked = 0;
  #answered = 0;
  /** Bytes of what a host shows its model before anything is called: instructions, and tools with what they take. */
  #offered = 0;

  private constructor(client: Client) {
    this.#client = client;
  }

  /** Starts a server that may read and write below `directory` and nowhere else. PYRO is the command, if not `pyro`. */
  static async open(directory: string, profile: "workspace-core" | "workspace-full"): Promise<Conversation> {
    const client = new Client({ name: "recipe", version: "1.0.0" });
    const access = ["--allow-read", directory, "--allow-write", directory];
    await client.connect(
      new StdioClientTransport({
        command: process.env.PYRO ?? "pyro",
        args: ["mcp", "serve", "--profile", profile, ...access],
        env: process.env as Record<string, string>,
        cwd: directory,
        stderr: "inherit",
      }),
    );
    const conversation = new Conversation(client);
    const { tools } = await client.listTools();
    const shown = tools.map(({ name, description, inputSchema }) => ({ name, description, inputSchema }));
    conversation.#offered = bytesOf(client.getInstructions() ?? "") + bytesOf(shown);
    return conversation;
  }

  /** Calls a tool and gives its structured content; throws what it says went wrong. */
  async call<Result>(name: string, given: Record<string, unknown>): Promise<Result> {
    this.#calls++;
    this.#asked += bytesOf({ name, arguments: given });
    const result = await this.#client.callTool({ name, arguments: given });
    this.#answered += bytesOf(result.content) + bytesOf(result.structuredContent ?? {});
    if (result.isError) throw new Error(`${name}: ${JSON.stringify(result.content)}`);
    return result.structuredContent as Result;
  }

  /** A workspace, seeded with a directory or cloned from another; deleted at the end of the conversation. */
  async workspace(given: Record<string, unknown>, tool = "workspace_create"): Promise<string> {
    const { workspace_id } = await this.call<{ workspace_id: string }>(tool, given);
    this.#workspaces.add(workspace_id);
    return workspace_id;
  }

  /** Deletes the workspaces, ends the server, and says on stderr what the conversation took. */
  async [Symbol.asyncDispose](): Promise<void> {
    try {
      for (const workspace_id of this.#workspaces) await this.call("workspace_delete", { workspace_id });
      console.error(
        `${this.#calls} calls, ${this.#asked} bytes asked, ${this.#answered} bytes answered, ${this.#offered} bytes offered`,
      );
    } finally {
      await this.#client.close();
    }
  }
}

function bytesOf(data: unknown): number {
  return Buffer.byteLength(JSON.stringify(data));
}
