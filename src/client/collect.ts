// Output that came as frames, put into the result that a caller who does not stream gets.
import { isUtf8 } from "node:buffer";
import type { OutputStream } from "./stream.ts";

/** Bytes kept of each stream unless the caller says otherwise. */
export const COLLECT_BYTES = 16 << 20;

interface Kept {
  chunks: Buffer[];
  bytes: number;
  total: number;
}

/** Keeps the first `limit` bytes of each stream. */
export class Collector {
  readonly #limit: number;
  readonly #streams: Record<OutputStream, Kept> = {
    stdout: { chunks: [], bytes: 0, total: 0 },
    stderr: { chunks: [], bytes: 0, total: 0 },
  };

  constructor(limit = COLLECT_BYTES) {
    this.#limit = limit;
  }

  add(stream: OutputStream, data: Buffer): void {
    const kept = this.#streams[stream];
    kept.total += data.length;
    const room = this.#limit - kept.bytes;
    if (room <= 0) return;
    // A copy: a frame's chunk is a view of a much larger buffer.
    const own = Buffer.from(data.subarray(0, room));
    kept.chunks.push(own);
    kept.bytes += own.length;
  }

  /** The output with what was collected in it. */
  fill<Output extends object>(output: Output): Output {
    const given = output as Record<string, unknown>;
    const before = typeof given.omitted_bytes === "number" ? given.omitted_bytes : 0;
    const stdout = this.#take("stdout");
    const stderr = this.#take("stderr");
    return {
      ...output,
      stdout: stdout.text,
      stdout_encoding: stdout.encoding,
      stdout_truncated: stdout.omitted > 0 || given.stdout_truncated === true,
      stderr: stderr.text,
      stderr_encoding: stderr.encoding,
      stderr_truncated: stderr.omitted > 0 || given.stderr_truncated === true,
      omitted_bytes: before + stdout.omitted + stderr.omitted,
    };
  }

  #take(stream: OutputStream): { text: string; encoding: "utf-8" | "base64"; omitted: number } {
    const { chunks, bytes, total } = this.#streams[stream];
    const all = Buffer.concat(chunks, bytes);
    // Cut short, it may end inside a character, which alone must not make it base64.
    const data = bytes < total ? all.subarray(0, endOfText(all)) : all;
    const encoding = isUtf8(data) ? "utf-8" : "base64";
    const kept = encoding === "utf-8" ? data : all;
    return {
      text: kept.toString(encoding === "utf-8" ? "utf8" : "base64"),
      encoding,
      omitted: total - kept.length,
    };
  }
}

/** Where the last whole character ends. */
function endOfText(data: Buffer): number {
  for (let back = 0; back < 4 && back < data.length; back++) {
    if (isUtf8(data.subarray(Math.max(0, data.length - back - 4), data.length - back))) return data.length - back;
    const lead = data[data.length - back - 1];
    if (lead !== undefined && (lead & 0xc0) === 0xc0) return data.length - back - 1;
  }
  return data.length;
}
