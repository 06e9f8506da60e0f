// The host's side of a transfer: hands a tar archive to guestd in pieces and turns its refusals into errors of pyro. It
// never looks into the bytes, and believes a guest only what can be true.

import { randomBytes } from "node:crypto";
import { Code, ConnectError } from "@connectrpc/connect";
import { orAborted } from "../../abort/or-aborted.ts";
import type { ErrorCode } from "../../errors/codes.ts";
import { PyroError } from "../../errors/error.ts";
import type { GuestClient } from "../../guest/client.ts";
import { printable } from "../../text/printable.ts";
import { whileAlive } from "./while-alive.ts";

export interface TransferOptions {
  /** Absolute, /workspace or below it; made with its parents if missing. */
  readonly destination: string | Uint8Array;
  /** Of all files together, holes included. */
  readonly maxBytes: number;
  readonly maxEntries: number;
  /** Ends the transfer; what is in the workspace stays as it is, unless the guest was putting everything in its place. */
  readonly signal: AbortSignal;
  /** Called with the count of the archive's bytes that the guest has taken so far. */
  readonly onBytes?: (total: number) => void;
}

export interface TransferResult {
  readonly entryCount: number;
  /** Of all files together, holes included. */
  readonly bytesWritten: number;
}

/** What a transfer needs of the guest. */
export type TransferGuest = Pick<GuestClient, "call">;

/** The most the protocol takes in one call. */
const PIECE_BYTES = 1 << 20;
/** One piece may wait for the guest's disk, on a loaded host, under emulation, ms. */
const WRITE_MS = 300_000;
/** Syncing all that was sent, and putting as many as a million entries in their places, ms. */
const FINISH_MS = 1_800_000;
const BEGIN_MS = 60_000;
const ABORT_MS = 2_000;
/** How long a guest may take to say that an abort came too late: its caller waits, ms. */
const TOO_LATE_MS = 2_000;
/** A transfer that hears nothing for 60 s is dropped by the guest; a slow source must not cause that, ms. */
const STAY_EVERY_MS = 20_000;
const MAX_SENTENCE = 500;

/** How the guest's refusals begin, and what they are here. */
const REFUSALS: readonly (readonly [string, ErrorCode])[] = [
  ["archive:", "ARCHIVE_INVALID"],
  ["outside:", "PATH_OUTSIDE"],
  ["conflict:", "PATH_CONFLICT"],
  ["limit:", "LIMIT_EXCEEDED"],
  ["full:", "GUEST_DISK_FULL"],
  ["failed:", "GUEST_UNRESPONSIVE"],
];
/** What follows where the guest had begun to put files in their places. */
const PARTLY = "partly:";
const REFUSAL_CODES: readonly Code[] = [Code.FailedPrecondition, Code.InvalidArgument, Code.ResourceExhausted];

/**
 * Puts what the archive holds below the destination: all of it, or after an error nothing. Where something got in the
 * way in the middle of the renames the error says that some files were replaced and others not; each is whole.
 * Errors: ARCHIVE_INVALID, PATH_OUTSIDE, PATH_CONFLICT, LIMIT_EXCEEDED, GUEST_DISK_FULL; GUEST_UNRESPONSIVE,
 * MICROVM_LOST (after these two it may all be there, if the archive had been sent whole); whatever `bytes` throws; the
 * signal's reason.
 */
export async function sendTransfer(
  guest: TransferGuest,
  options: TransferOptions,
  bytes: AsyncIterable<Uint8Array>,
): Promise<TransferResult> {
  const { signal } = options;
  signal.throwIfAborted();
  const transferId = `tr_${randomBytes(10).toString("hex")}`;
  const pieces = piecesOf(bytes);
  let size: bigint | undefined;
  const finish = (timeoutMs: number, ending?: AbortSignal) =>
    guest.call((calls, call) => calls.finishTransfer({ transferId, size: size ?? 0n }, call), {
      timeoutMs,
      ...(ending === undefined ? {} : { signal: ending }),
    });
  try {
    await guest.call(
      (calls, call) =>
        calls.beginTransfer(
          {
            transferId,
            destination: bytesOf(options.destination),
            maxBytes: BigInt(options.maxBytes),
            maxEntries: BigInt(options.maxEntries),
          },
          call,
        ),
      { timeoutMs: BEGIN_MS, signal },
    );
    size = await sendPieces(guest, transferId, options, pieces);
    return believed(await whileAlive(guest, signal, (alive) => finish(FINISH_MS, alive)), options);
  } catch (error) {
    // Not waited for: a source that hangs would never say that it is done.
    void pieces.return(undefined).catch(() => {});
    // A guest that has gone cannot be told, and drops it with itself.
    if (!(error instanceof PyroError && error.code === "MICROVM_LOST")) {
      await guest
        .call((calls, call) => calls.abortTransfer({ transferId }, call), { timeoutMs: ABORT_MS })
        .catch(() => {});
    }
    if (signal.aborted && size !== undefined) {
      // An abort that came too late: whoever asked for it is told what was done.
      const told = await finish(TOO_LATE_MS).catch(() => undefined);
      if (told !== undefined) return believed(told, options);
    }
    throw refusal(error);
  }
}

function believed(
  told: { entryCount: bigint; bytesWritten: bigint },
  { maxEntries, maxBytes }: TransferOptions,
): TransferResult {
  if (told.entryCount > BigInt(maxEntries) || told.bytesWritten > BigInt(maxBytes)) throw nonsense();
  return { entryCount: Number(told.entryCount), bytesWritten: Number(told.bytesWritten) };
}

/** Sends all of the archive and returns its size. The next piece is gathered while one is on its way. */
async function sendPieces(
  guest: TransferGuest,
  transferId: string,
  options: TransferOptions,
  pieces: AsyncGenerator<Uint8Array, void>,
): Promise<bigint> {
  const { signal } = options;
  const write = async (offset: bigint, data: Uint8Array): Promise<bigint> => {
    const told = await whileAlive(guest, signal, (alive) =>
      guest.call((calls, call) => calls.writeTransfer({ transferId, offset, data }, call), {
        timeoutMs: WRITE_MS,
        signal: alive,
      }),
    );
    // It answers when it has taken all of the piece, and it was never sent more than that.
    const taken = offset + BigInt(data.length);
    if (told.offset !== taken) throw nonsense();
    return taken;
  };
  let offset = 0n;
  let pending = pieces.next();
  for (;;) {
    const piece = await whileWaiting(pending, signal, async () => {
      await write(offset, new Uint8Array(0));
    });
    if (piece.done) return offset;
    pending = pieces.next();
    // Whether it failed is seen in its turn.
    pending.catch(() => {});
    offset = await write(offset, piece.value);
    options.onBytes?.(Number(offset));
  }
}

/** The bytes in pieces of PIECE_BYTES; only the last is smaller. */
async function* piecesOf(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void> {
  let piece = new Uint8Array(PIECE_BYTES);
  let filled = 0;
  for await (let chunk of bytes) {
    while (chunk.length > 0) {
      const part = chunk.subarray(0, PIECE_BYTES - filled);
      piece.set(part, filled);
      filled += part.length;
      chunk = chunk.subarray(part.length);
      if (filled < PIECE_BYTES) continue;
      yield piece;
      // The one before may still be on its way.
      piece = new Uint8Array(PIECE_BYTES);
      filled = 0;
    }
  }
  if (filled > 0) yield piece.subarray(0, filled);
}

/** What the promise comes to; `stay` is done now and then until it does. */
async function whileWaiting<T>(promise: Promise<T>, signal: AbortSignal, stay: () => Promise<void>): Promise<T> {
  for (;;) {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), STAY_EVERY_MS);
    });
    try {
      const first = await orAborted(Promise.race([promise.then((value) => ({ value })), late]), signal);
      if (first !== undefined) return first.value;
    } finally {
      clearTimeout(timer);
    }
    await stay();
  }
}

function nonsense(): PyroError {
  return new PyroError("GUEST_UNRESPONSIVE", "The guest's answer to a transfer of files makes no sense.");
}

function refusal(error: unknown): unknown {
  if (!(error instanceof ConnectError)) return error;
  const { rawMessage: message, code } = error;
  const found = REFUSAL_CODES.includes(code) ? REFUSALS.find(([prefix]) => message.startsWith(prefix)) : undefined;
  if (found === undefined) {
    return new PyroError("GUEST_UNRESPONSIVE", `The guest could not take the files: ${sentence(message)}`, {
      cause: error,
    });
  }
  const [prefix, refused] = found;
  const words = message.slice(prefix.length).trim();
  if (!words.startsWith(PARTLY)) return new PyroError(refused, sentence(words), { cause: error });
  const why = sentence(words.slice(PARTLY.length));
  return new PyroError(refused, `Some files were put in their place and others were not. ${why}`, {
    hint: "Something was in the way that was not there before; send it again once it has gone: each file is its old or its new self.",
    cause: error,
  });
}

/** The guest's words on one line, beginning as a sentence does; they may name files of any name. */
function sentence(words: string): string {
  const line = printable(words.slice(0, MAX_SENTENCE).trim());
  const bounded =
    line.length > MAX_SENTENCE || words.length > MAX_SENTENCE ? `${line.slice(0, MAX_SENTENCE)}...` : line;
  return bounded === "" ? "The guest gave no reason." : bounded.charAt(0).toUpperCase() + bounded.slice(1);
}

function bytesOf(path: string | Uint8Array): Uint8Array {
  return typeof path === "string" ? Buffer.from(path) : path;
}
