// `pyro workspace service logs`: the log as it was printed, stdout and stderr apart; with --json a part of it as one
// document, and with --follow a line of JSON for each piece as it comes.
import { isUtf8 } from "node:buffer";
import { type OutputStream, openStream } from "../client/stream.ts";
import type { InputOf, OutputOf } from "../operations/table.ts";
import { type Context, Ended } from "./context.ts";
import { interruptible } from "./interrupts.ts";
import { STDERR, STDOUT, writeAll, writeJson } from "./output.ts";
import { serviceLogsView } from "./views/service.ts";

type Input = InputOf<"service.logs">;

const DEFAULT_BYTES = 65_536;

/** The exit status. Errors are thrown. */
export async function showServiceLogs(input: Input, context: Context): Promise<number> {
  const follow = input.follow === true;
  const documents = context.json && !follow;
  const asked = documents ? { ...input, max_bytes: input.max_bytes ?? DEFAULT_BYTES } : input;
  const pieces = context.json && follow ? new Pieces(input.service_name) : undefined;
  try {
    return await interruptible(async (signal) => {
      const broken = new AbortController();
      const fail = (thrown: unknown) => broken.abort(thrown);
      const output = await openStream(context.where, "service.logs", asked, {
        signal: AbortSignal.any([signal, broken.signal]),
        onEvent: async ({ type, dropped_bytes }) => {
          if (type !== "gap") return;
          if (context.json) await writeJson({ service_name: input.service_name, dropped_bytes }).catch(fail);
          else if (!context.quiet) await writeAll(STDERR, `pyro: ${dropped_bytes} bytes of the log were lost.\n`);
        },
        onOutput: async (from, data) => {
          if (pieces === undefined) await writeAll(from === "stdout" ? STDOUT : STDERR, data).catch(fail);
          else for (const piece of pieces.of(from, data)) await writeJson(piece).catch(fail);
        },
      }).result;
      for (const piece of pieces?.rest() ?? []) await writeJson(piece);
      await show(output, asked, context, documents);
      return 0;
    });
  } catch (thrown) {
    // Interrupting is how following ends: that is no failure to report.
    if (!follow || !(thrown instanceof Ended)) throw thrown;
    return thrown.status;
  }
}

async function show(output: OutputOf<"service.logs">, asked: Input, context: Context, document: boolean) {
  if (document) return await writeJson(output);
  if (asked.max_bytes !== undefined) {
    await writeAll(STDOUT, Buffer.from(output.output, output.output_encoding === "utf-8" ? "utf8" : "base64"));
  }
  const { note } = serviceLogsView(output);
  if (note !== undefined && !context.json && !context.quiet) await writeAll(STDERR, `${note}\n`);
}

/** Pieces of a log as data: text that is whole characters, base64 where it is no text. */
class Pieces {
  readonly #name: string;
  readonly #held: Record<OutputStream, Buffer> = { stdout: Buffer.alloc(0), stderr: Buffer.alloc(0) };

  constructor(name: string) {
    this.#name = name;
  }

  of(stream: OutputStream, data: Buffer): object[] {
    const whole = Buffer.concat([this.#held[stream], data]);
    const end = endOfText(whole);
    this.#held[stream] = Buffer.from(whole.subarray(end));
    return this.#made(stream, whole.subarray(0, end));
  }

  /** What began and was never ended. */
  rest(): object[] {
    return (["stdout", "stderr"] as const).flatMap((stream) => this.#made(stream, this.#held[stream]));
  }

  #made(stream: OutputStream, data: Buffer): object[] {
    if (data.length === 0) return [];
    const text = isUtf8(data);
    const output = data.toString(text ? "utf8" : "base64");
    return [{ service_name: this.#name, stream, output, output_encoding: text ? "utf-8" : "base64" }];
  }
}

/** Where the last whole character ends. */
function endOfText(data: Buffer): number {
  for (let back = 1; back <= Math.min(3, data.length); back++) {
    const byte = data[data.length - back] ?? 0;
    if ((byte & 0xc0) === 0x80) continue;
    const wants = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : byte >= 0xc0 ? 2 : 1;
    return wants > back ? data.length - back : data.length;
  }
  return data.length;
}
