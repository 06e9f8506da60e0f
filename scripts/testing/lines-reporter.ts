// A reporter for `node --test`: one event a line, as JSON, for whoever started the runner (event-lines.ts).
import { fromNode } from "./test-events.ts";

// biome-ignore lint/style/noDefaultExport: that is how node:test finds a reporter
export default async function* lines(source: AsyncIterable<{ type: string; data: object }>): AsyncGenerator<string> {
  for await (const event of source) yield `${JSON.stringify(fromNode(event))}\n`;
}
