// A part of a file as it leaves the workspace: with the values of secrets replaced, those too of which the part holds only a
// piece. So a little more of the file is read before and behind it.
import type { Redactor } from "../secrets/redactor.ts";
import { textOf } from "./file-facts.ts";

export interface FilePart {
  readonly bytes: Uint8Array;
  readonly offset: number;
  /** More of what was asked for follows. */
  readonly more: boolean;
}

export interface ShownPart {
  readonly content: string;
  readonly encoding: "utf-8" | "base64";
  /** Where what follows begins, in the file as it is. */
  readonly end: number;
  readonly redacted: boolean;
}

/** `read` gives the bytes of the file from one offset to before another, as far as there are any. */
export async function shownPart(
  part: FilePart,
  redactor: Redactor,
  read: (from: number, to: number) => Promise<Uint8Array>,
): Promise<ShownPart> {
  const { content, encoding, bytes } = textOf(part.bytes, part.more);
  const end = part.offset + bytes;
  const plain = { content, encoding, end, redacted: false };
  if (redactor.idle || bytes === 0) return plain;
  const before = await read(Math.max(0, part.offset - redactor.margin), part.offset);
  const behind = await read(end, end + redactor.margin);
  const whole = Buffer.concat([before, part.bytes.subarray(0, bytes), behind]);
  const { data, redacted } = redactor.window(whole, before.length, before.length + bytes);
  if (!redacted) return plain;
  const shown = textOf(data, false);
  return { content: shown.content, encoding: shown.encoding, end, redacted };
}
