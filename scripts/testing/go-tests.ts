// Runs the Go tests and reports each by name.
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Tally } from "./tally.ts";

interface GoEvent {
  readonly Action: string;
  readonly Package?: string;
  readonly ImportPath?: string;
  readonly Test?: string;
  readonly Elapsed?: number;
  readonly Output?: string;
}

interface Ended {
  readonly action: string;
  readonly elapsed: number;
}

const MODULE = "pyro.dev/pyro/";

export async function runGoTests(root: string, tally: Tally): Promise<void> {
  const child = spawn("go", ["test", "-json", "-timeout", "10m", "-p", "1", "./go/..."], {
    cwd: root,
    stdio: ["ignore", "pipe", "pipe"],
  });
  const outputs = new Map<string, string>();
  const ended = new Map<string, Ended>();
  const failedPackages: string[] = [];
  let messages = "";
  child.stderr.on("data", (chunk: Buffer) => {
    messages += chunk.toString("utf8");
  });
  const exited = new Promise<number | null>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const event = parse(line);
    if (!event) {
      messages += `${line}\n`;
      continue;
    }
    const name = `${event.Package ?? event.ImportPath ?? ""}${event.Test ? `: ${event.Test}` : ""}`.replace(MODULE, "");
    if (event.Output !== undefined) outputs.set(name, (outputs.get(name) ?? "") + event.Output);
    if (!["pass", "fail", "skip"].includes(event.Action)) continue;
    if (event.Test) ended.set(name, { action: event.Action, elapsed: event.Elapsed ?? 0 });
    else if (event.Action === "fail") failedPackages.push(name);
  }
  const status = await exited;

  let failures = 0;
  for (const [name, { action, elapsed }] of ended) {
    const parent = [...ended.keys()].some((other) => other.startsWith(`${name}/`));
    // A test with parts is its parts, unless it failed for itself.
    const partFailed = [...ended].some(([other, end]) => other.startsWith(`${name}/`) && end.action === "fail");
    if (parent && (action !== "fail" || partFailed)) continue;
    const text = outputs
      .get(name)
      ?.replace(/^\s*(=== |--- SKIP).*\n/gm, "")
      .trim();
    if (action === "fail") failures++;
    const state = action === "pass" ? "passed" : action === "fail" ? "failed" : "skipped";
    tally.add({ status: state, name, durationMs: elapsed * 1000, text });
  }
  // A package that does not compile, or died, has no test to blame.
  for (const name of failedPackages) {
    if ([...ended].some(([test, end]) => test.startsWith(`${name}: `) && end.action === "fail")) continue;
    failures++;
    const built = [...outputs].filter(([key]) => key.startsWith(name)).map(([, text]) => text);
    tally.add({ status: "failed", name, durationMs: 0, text: [...built, messages].join("\n").trim() });
  }
  if (status !== 0 && failures === 0) {
    tally.add({ status: "failed", name: "go test", durationMs: 0, text: `status ${status}\n${messages}` });
  }
}

function parse(line: string): GoEvent | undefined {
  try {
    return JSON.parse(line) as GoEvent;
  } catch {
    return undefined;
  }
}
