// `pyro mcp config --check`: whether the server that an agent has works, by starting it as the agent would and asking for its
// tools. What a repository may have brought along is not started.
import type { Checked, Configured } from "./mcp-check.ts";

export interface Trial {
  readonly works: boolean;
  /** What it offers, when it works. */
  readonly tools: readonly string[];
  /** From its start to the list of its tools, ms. */
  readonly took_ms: number | null;
  /** Why it does not work, or was not started. */
  readonly problem: string | null;
}

/** npx may have to fetch it first. */
const START_MS = 60_000;
/** Most of what it said on stderr that is told. */
const MOST_SAID = 500;
/** What only the agent fills in. */
const VARIABLE = /\$\{|\{(env|file):/;

export async function tryConfigured({ state, place, configured }: Checked): Promise<Trial> {
  if (place === null) return failed("There is nothing to start.");
  if (configured === null) return failed("It cannot be understood, so it was not started.");
  const { argv, env, off } = configured;
  if (off) return failed("It is switched off there, so the agent does not start it.");
  if (argv.length === 0) return failed("It names no command that could be started.");
  if ([...argv, ...Object.values(env)].some((word) => VARIABLE.test(word))) {
    return failed("It was not started: it has variables that only the agent fills in.");
  }
  // Whoever wrote the repository would have a command run here that nobody looked at.
  if (place.shared && state !== "same") {
    return failed("It was not started: it is the project's file, and says something else than would be printed now.");
  }
  return await start(configured);
}

async function start({ argv: [command = "", ...args], env, cwd }: Configured): Promise<Trial> {
  const [{ Client }, { StdioClientTransport }] = await Promise.all([
    import("@modelcontextprotocol/client"),
    import("@modelcontextprotocol/client/stdio"),
  ]);
  const began = performance.now();
  const client = new Client({ name: "pyro-check", version: "1" });
  const transport = new StdioClientTransport({
    command,
    args,
    env: { ...env },
    stderr: "pipe",
    ...(cwd === undefined ? {} : { cwd }),
  });
  let said = "";
  transport.stderr?.on("data", (data: Buffer) => {
    said = `${said}${data}`.slice(-MOST_SAID);
  });
  try {
    await client.connect(transport, { timeout: START_MS });
    const { tools } = await client.listTools(undefined, { timeout: START_MS });
    const took_ms = Math.round(performance.now() - began);
    return { works: true, tools: tools.map(({ name }) => name), took_ms, problem: null };
  } catch (thrown) {
    const last = said.trim().split("\n").at(-1) ?? "";
    const why = thrown instanceof Error ? thrown.message : String(thrown);
    return failed(`It does not work: ${last === "" ? why : last}`);
  } finally {
    await client.close().catch(() => {});
  }
}

function failed(problem: string): Trial {
  return { works: false, tools: [], took_ms: null, problem };
}
