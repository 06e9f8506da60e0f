// What the tests of shells share: a home of their own with one workspace, used through the command, the SDK and MCP.
import assert from "node:assert/strict";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { Pyro } from "pyro-mcp";
import type { ErrorCode } from "../../src/errors/codes.ts";
import { type OwnHome, ownHome, PYRO } from "./harness.ts";
import { type Workspace, Workspaces } from "./workspaces.ts";

type Json = Record<string, unknown>;

/** Most bytes of a whole result that asked for nothing else. */
const RESULT_BYTES = 9000;

export class Faces implements AsyncDisposable {
  readonly home: OwnHome;
  readonly cli: Workspaces;
  readonly sdk: Pyro;
  readonly workspace: Workspace;
  readonly #mcp: Client;

  private constructor(home: OwnHome, cli: Workspaces, workspace: Workspace, mcp: Client) {
    this.home = home;
    this.cli = cli;
    this.sdk = new Pyro({ home: home.path });
    this.workspace = workspace;
    this.#mcp = mcp;
  }

  static async open(): Promise<Faces> {
    const home = await ownHome({ templates: true });
    const cli = new Workspaces(home.env);
    const workspace = await cli.create(["--name", "shells", "--ttl-seconds", "0"]);
    const mcp = new Client({ name: "test", version: "1" });
    const env = { PATH: process.env.PATH ?? "", TMPDIR: process.env.TMPDIR ?? "/tmp", ...home.env } as Record<
      string,
      string
    >;
    const args = [PYRO, "mcp", "serve", "--profile", "workspace-full"];
    await mcp.connect(new StdioClientTransport({ command: process.execPath, args, env, stderr: "inherit" }));
    return new Faces(home, cli, workspace, mcp);
  }

  /** A tool about the workspace: its answer. */
  async tool(name: string, args: Json = {}): Promise<Json> {
    const result = await this.#mcp.callTool({ name, arguments: { workspace_id: "shells", ...args } });
    assert.notEqual(result.isError, true, JSON.stringify(result.content));
    const { content, structuredContent } = result;
    const size = Buffer.byteLength(JSON.stringify({ content, structuredContent }));
    assert.ok(args.max_bytes !== undefined || size <= RESULT_BYTES, `${name}: ${size} bytes`);
    return structuredContent as Json;
  }

  /** The code of what a tool refuses. */
  async toolRefused(name: string, args: Json): Promise<unknown> {
    const result = await this.#mcp.callTool({ name, arguments: { workspace_id: "shells", ...args } });
    assert.equal(result.isError, true, JSON.stringify(result.content));
    const [text] = result.content as { text: string }[];
    assert.doesNotMatch(text?.text ?? "", /\bpyro [a-z-]/);
    return (JSON.parse(text?.text ?? "") as { error: Json }).error.code;
  }

  /** `pyro workspace shell VERB shells ARGS`: its one JSON document. */
  async command<T = Json>(verb: string, ...args: string[]): Promise<T> {
    return await this.cli.ask<T>(["shell", verb, "shells", ...args]);
  }

  async refused(code: ErrorCode, verb: string, ...args: string[]): Promise<void> {
    await this.cli.refused(["shell", verb, "shells", ...args], code);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#mcp.close();
    await this.sdk.close();
    await this.home[Symbol.asyncDispose]();
  }
}
