// The Vercel AI SDK with a computer: a model that has pyro's tools makes a workspace, runs something in it, reads a file and
// deletes it. The model here follows a script, so that this runs without a key; put your provider's in its place.
//
//   npm install ai pyro-mcp && node ai-sdk.ts
import { generateText, isStepCount } from "ai";
import { MockLanguageModelV4 } from "ai/test";
import { Pyro } from "pyro-mcp";
import { pyroTools } from "pyro-mcp/ai";

await using pyro = new Pyro();
const tools = await pyroTools(pyro);

/** What a model would choose by itself: the next tool, from what the one before answered. */
const script = [
  () => ({ toolName: "workspace_create", input: { labels: { example: "ai-sdk" } } }),
  (ws: string) => ({
    toolName: "workspace_exec",
    input: { workspace_id: ws, command: "seq 3 >numbers; wc -l numbers" },
  }),
  (ws: string) => ({ toolName: "workspace_file_read", input: { workspace_id: ws, path: "number" } }),
  (ws: string) => ({ toolName: "workspace_file_read", input: { workspace_id: ws, path: "numbers" } }),
  (ws: string) => ({ toolName: "workspace_delete", input: { workspace_id: ws } }),
];
const usage = {
  inputTokens: { total: 0, noCache: 0, cacheRead: 0, cacheWrite: 0 },
  outputTokens: { total: 0, text: 0, reasoning: 0 },
};
let step = 0;
const model = new MockLanguageModelV4({
  doGenerate: async ({ prompt }) => {
    const workspaceId = /ws_[a-z2-7]{10}/.exec(JSON.stringify(prompt))?.[0] ?? "";
    const next = script[step++]?.(workspaceId);
    if (next === undefined) {
      const content = [{ type: "text" as const, text: "Counted to three, and tidied up." }];
      return { content, finishReason: { unified: "stop", raw: undefined }, usage, warnings: [] };
    }
    const { toolName, input } = next;
    const call = { type: "tool-call" as const, toolCallId: `call-${step}`, toolName, input: JSON.stringify(input) };
    return { content: [call], finishReason: { unified: "tool-calls", raw: undefined }, usage, warnings: [] };
  },
});

const { steps, text } = await generateText({
  model,
  tools,
  stopWhen: isStepCount(10),
  prompt: "Count to three in a computer of your own.",
});
for (const part of steps.flatMap(({ content }) => content)) {
  if (part.type === "tool-result") {
    const { state, stdout, content, deleted } = part.output as Record<string, unknown>;
    console.log(`${part.toolName}: ${JSON.stringify(stdout ?? content ?? deleted ?? state)}`);
  }
  if (part.type === "tool-error") console.log(`${part.toolName} failed: ${String(part.error)}`);
}
console.log(text);
