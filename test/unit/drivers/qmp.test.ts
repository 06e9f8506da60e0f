// QMP with a monitor that answers what is no answer: a VMM that was taken over is an error of one command, not the
// daemon's end.
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Qmp, QmpError } from "../../../src/drivers/qemu/qmp.ts";

const GREETING = '{"QMP": {}}';

for (const [answer, message] of [
  ['{"error": null}', /query-status: it failed without saying how/],
  ['{"error": {"class": "GenericError"}}', /query-status: it failed without saying how/],
  ['{"error": {"desc": {"toString": 1}}}', /query-status: it failed without saying how/],
  [`{"error": {"desc": "${"x".repeat(5000)}"}}`, /^query-status: x{1000}$/],
  ["null", /query-status: it answers what is no QMP/],
  ["no JSON", /query-status: it answers what is no QMP/],
  ["x".repeat(2 << 20), /query-status: its answer is too long/],
] as const) {
  test(`a monitor that answers ${answer.slice(0, 40)}`, async () => {
    const directory = await mkdtemp(join(tmpdir(), "pyro-qmp-"));
    const path = join(directory, "qmp.sock");
    const server = createServer((socket) => {
      socket.on("error", () => {});
      socket.write(`${GREETING}\n`);
      socket.on("data", (chunk: Buffer) => {
        socket.write(chunk.includes("query-status") ? `${answer}\n` : '{"return": {}}\n');
      });
    });
    await new Promise<void>((resolve) => void server.listen(path, resolve));
    const qmp = await Qmp.open(path);
    try {
      await assert.rejects(
        qmp.execute("query-status"),
        (error) => error instanceof QmpError && message.test(error.message),
      );
    } finally {
      qmp.close();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
      await rm(directory, { recursive: true });
    }
  });
}
