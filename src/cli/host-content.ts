// What a command takes from a file of this host, or from stdin, and sends as its input: a file to write, a patch to apply.
import { isUtf8 } from "node:buffer";
import { open } from "node:fs/promises";
import { PyroError } from "../errors/error.ts";
import { additionFor } from "./additions.ts";
import type { Asked } from "./from-operation.ts";

/** As the rows have it: this face loads no schemas. */
const MOST_BYTES = 16 << 20;
const PIECE_BYTES = 256 << 10;

/**
 * The input of a command, with the content that it names. Errors: INVALID_INPUT when none is named, or two are;
 * SOURCE_NOT_FOUND, SOURCE_UNREADABLE, LIMIT_EXCEEDED.
 */
export async function withContent({ name, input, beside }: Asked): Promise<Record<string, unknown>> {
  const { content } = additionFor(name);
  if (content === undefined) return input;
  const { from, into } = content;
  const named = beside[from];
  const flag = `--${from.replaceAll("_", "-")}`;
  const given = input[into] !== undefined;
  if (typeof named !== "string") {
    if (given) return input;
    throw new PyroError(
      "INVALID_INPUT",
      `There is nothing to send: ${into === "text" ? "--text or " : ""}${flag} says what.`,
    );
  }
  if (given) throw new PyroError("INVALID_INPUT", `--${into} and ${flag} exclude each other.`);
  const bytes = named === "-" ? await readStdin() : await readHostFile(named);
  const text = isUtf8(bytes);
  return {
    ...input,
    [into]: bytes.toString(text ? "utf8" : "base64"),
    [`${into}_encoding`]: text ? "utf-8" : "base64",
  };
}

async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > MOST_BYTES) throw tooLong("What comes on stdin");
      chunks.push(chunk);
    }
  } finally {
    process.stdin.destroy();
  }
  return Buffer.concat(chunks, size);
}

/** A device or a pipe has no size that is known before: what comes is counted. */
async function readHostFile(path: string): Promise<Buffer> {
  try {
    await using file = await open(path);
    const stat = await file.stat();
    if (stat.isDirectory())
      throw new PyroError("SOURCE_UNREADABLE", `${path} is a directory.`, { hint: "Name a file." });
    if (stat.size > MOST_BYTES) throw tooLong(path);
    const chunks: Buffer[] = [];
    let size = 0;
    for (;;) {
      const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(PIECE_BYTES), 0, PIECE_BYTES, null);
      if (bytesRead === 0) return Buffer.concat(chunks, size);
      chunks.push(buffer.subarray(0, bytesRead));
      size += bytesRead;
      if (size > MOST_BYTES) throw tooLong(path);
    }
  } catch (thrown) {
    if (thrown instanceof PyroError) throw thrown;
    const { code, message } = thrown as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") {
      throw new PyroError("SOURCE_NOT_FOUND", `There is no ${path} on this host.`, {
        hint: "Name a file of this host.",
      });
    }
    throw new PyroError("SOURCE_UNREADABLE", `${path} cannot be read: ${message}.`, {
      hint: "Make it readable, or name another file.",
      cause: thrown,
    });
  }
}

function tooLong(what: string): PyroError {
  return new PyroError("LIMIT_EXCEEDED", `${what} has more than ${MOST_BYTES} bytes, the most of one call.`, {
    hint: "`pyro workspace sync push` takes files of any size; a patch can be cut between two files.",
  });
}
