// The thread in which terminals are: what a guest prints is nothing that the daemon's own thread should wait for, or fall
// over. Answers what terminals.ts asks, each question by its number.
import { parentPort } from "node:worker_threads";
import { Emulator } from "./emulator.ts";
import { plainText } from "./plain.ts";
import type { Answer, Ask } from "./terminals.ts";

const emulators = new Map<string, Emulator>();

function emulatorOf(key: string): Emulator {
  const found = emulators.get(key);
  if (found === undefined) throw new Error(`there is no terminal ${key}`);
  return found;
}

async function carryOut(ask: Ask): Promise<unknown> {
  switch (ask.kind) {
    case "open":
      emulators.get(ask.key)?.dispose();
      emulators.set(ask.key, new Emulator(ask.size, 0));
      return undefined;
    case "feed":
      await emulatorOf(ask.key).feed(ask.data);
      return undefined;
    case "resize":
      return emulatorOf(ask.key).resize(ask.size);
    case "screen":
      return emulatorOf(ask.key).screen;
    case "redraw":
      return emulatorOf(ask.key).redraw;
    case "drop":
      emulators.get(ask.key)?.dispose();
      emulators.delete(ask.key);
      return undefined;
    case "plain":
      return await plainText(ask.data, ask.size);
  }
}

parentPort?.on("message", ({ id, ask }: { id: number; ask: Ask }) => {
  carryOut(ask).then(
    (value) => parentPort?.postMessage({ id, value } satisfies Answer),
    (thrown: unknown) => parentPort?.postMessage({ id, failure: String(thrown) } satisfies Answer),
  );
});
