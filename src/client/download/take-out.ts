// The calls that bring something out of a workspace: to a name of the host, whole or not at all, or for a diff that names none
// into the result. Everything behind an output is loaded only when there is one.
import { open } from "node:fs/promises";
import { resolve } from "node:path";
import { PyroError } from "../../errors/error.ts";
import { FACTS } from "../../operations/facts.ts";
import type { EventOf, InputOf, OutputOf } from "../../operations/table.ts";
import { openStream } from "../stream.ts";
import type { Where } from "../where.ts";
import { DiffCollector, type DiffLimits } from "./collect-diff.ts";

export type OutgoingName = "workspace.diff" | "workspace.export";

export interface TakeOutOptions {
  /** What a relative path is relative to; absolute. */
  readonly cwd: string;
  readonly signal: AbortSignal;
  /** Decides on an absolute path before anything is made: returns where it really is, or throws. */
  readonly allow?: ((path: string) => Promise<string>) | undefined;
  /** Make the directories above the output where they are missing. */
  readonly makeParents?: boolean;
  readonly onEvent?: ((event: EventOf<OutgoingName>) => void | Promise<void>) | undefined;
  /** How much of a diff is kept for its result. */
  readonly keep?: DiffLimits | undefined;
}

/** Errors: those of the row and of openStream; OUTPUT_EXISTS, HOST_IO_FAILED, HOST_DISK_FULL; what `allow` throws. */
export async function takeOut<N extends OutgoingName>(
  where: Where,
  name: N,
  input: InputOf<N>,
  options: TakeOutOptions,
): Promise<OutputOf<N>> {
  const { output_path } = input;
  if (output_path === undefined) {
    return (await diff(where, input as InputOf<"workspace.diff">, options)) as OutputOf<N>;
  }
  if (output_path.includes("\0")) throw new PyroError("INVALID_INPUT", "output_path: a path has no NUL.");
  const path = resolve(options.cwd, output_path);
  const place = (await options.allow?.(path)) ?? path;
  const { HostOutput, outputError } = await import("./output.ts");
  const output = await HostOutput.open(place, options.makeParents);
  try {
    const sent = { ...input, output_path: path };
    const result =
      name === "workspace.diff"
        ? await diff(where, sent as InputOf<"workspace.diff">, options, output.temporary)
        : await unpacked(where, sent as InputOf<"workspace.export">, options, output.temporary);
    options.signal.throwIfAborted();
    await output.commit();
    return { ...result, output_path: place } as unknown as OutputOf<N>;
  } catch (thrown) {
    await output.discard();
    throw outputError(place, thrown);
  }
}

/** Its patch goes into a file, or as far as it is kept into the result. */
async function diff(
  where: Where,
  input: InputOf<"workspace.diff">,
  { signal, onEvent, keep }: TakeOutOptions,
  file?: string,
): Promise<OutputOf<"workspace.diff">> {
  const collector = new DiffCollector(keep, file === undefined);
  const handle = file === undefined ? undefined : await open(file, "wx", 0o666);
  try {
    const stream = openStream(where, "workspace.diff", input, {
      signal,
      onEvent: async (event) => {
        if (event.type === "entry") collector.entry(event.entry);
        await onEvent?.(event);
      },
      onOutput: async (_stream, data) => {
        collector.patch(data);
        for (let at = 0; handle && at < data.length; ) at += (await handle.write(data, at)).bytesWritten;
      },
    });
    return collector.fill(await stream.result);
  } finally {
    await handle?.close();
  }
}

async function unpacked(
  where: Where,
  input: InputOf<"workspace.export">,
  { signal, onEvent }: TakeOutOptions,
  place: string,
): Promise<OutputOf<"workspace.export">> {
  const [{ Untar }, { Unpacker }] = await Promise.all([import("./untar.ts"), import("./unpack.ts")]);
  const limit = (key: "max_transfer_mib" | "max_entries") =>
    input[key] ?? Number(FACTS["workspace.export"].properties[key]?.default);
  const unpacker = new Unpacker(place, {
    maxBytes: limit("max_transfer_mib") * 2 ** 20,
    maxEntries: limit("max_entries"),
  });
  const archive = new Untar(unpacker);
  // Bytes are handed on one after the other, also when somebody gave up waiting for the last of them.
  let writing: Promise<void> = Promise.resolve();
  try {
    const stream = openStream(where, "workspace.export", input, {
      signal,
      onEvent: (event) => onEvent?.(event),
      onOutput: (_stream, data) => {
        writing = archive.write(data);
        return writing;
      },
    });
    const output = await stream.result;
    archive.end();
    const { kind, entryCount, bytesWritten } = await unpacker.finish();
    // What arrived, and not what the guest says of it.
    return { ...output, artifact_type: kind, entry_count: entryCount, bytes_written: bytesWritten };
  } catch (thrown) {
    await writing.catch(() => {});
    await unpacker.abandon();
    throw thrown;
  }
}
