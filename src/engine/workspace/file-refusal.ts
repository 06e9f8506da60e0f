// What a guest refuses about files and patches, as errors of pyro: the guest's words are bounded, and shown as text.
import { Code, ConnectError } from "@connectrpc/connect";
import type { ErrorCode } from "../../errors/codes.ts";
import { PyroError } from "../../errors/error.ts";
import { type FileRefusal, FileRefusalSchema } from "../../gen/pyro/guest/v1/files_pb.js";
import { printable } from "../../text/printable.ts";
import { OUTSIDE_HINT } from "./file-input.ts";

const MOST_SENTENCE = 1000;
const MOST_LINES = 20;
const MOST_LINE = 200;

/** What the guest's words mean, and what to do where that is not what the code says. */
const KINDS: ReadonlyMap<string, readonly [ErrorCode, string?]> = new Map([
  ["missing", ["FILE_NOT_FOUND"]],
  ["kind", ["FILE_WRONG_KIND"]],
  ["outside", ["PATH_OUTSIDE", OUTSIDE_HINT]],
  ["conflict", ["PATH_CONFLICT", "Remove what is in the way in the workspace, or choose another path."]],
  ["limit", ["LIMIT_EXCEEDED"]],
  ["full", ["GUEST_DISK_FULL"]],
  ["invalid", ["INVALID_INPUT"]],
  ["unfound", ["TEXT_NOT_FOUND"]],
  ["ambiguous", ["TEXT_NOT_UNIQUE"]],
  ["patch", ["PATCH_INVALID"]],
  ["reject", ["PATCH_REJECTED"]],
  ["baseline", ["BASELINE_MISSING"]],
  ["damaged", ["DISK_DAMAGED"]],
]);

/** What is no refusal of the guest stays as it is. */
export function fileRefusal(error: unknown): unknown {
  if (!(error instanceof ConnectError)) return error;
  if (error.code === Code.Unimplemented) {
    return new PyroError(
      "WORKSPACE_STATE",
      "The workspace's microVM was started by an older pyro, which cannot do this.",
      {
        hint: "It can when the workspace has been stopped by its idle limit, and is started again.",
        cause: error,
      },
    );
  }
  const [refused] = error.findDetails(FileRefusalSchema);
  const known = refused === undefined ? undefined : KINDS.get(refused.kind);
  if (refused === undefined || known === undefined) {
    const why = sentence(refused?.why ?? error.rawMessage);
    return new PyroError("GUEST_UNRESPONSIVE", `The guest could not do that: ${why}`, { cause: error });
  }
  const [code, hint] = known;
  const why = sentence(refused.why);
  const options = { details: detailsOf(refused), cause: error };
  if (!refused.partly)
    return new PyroError(code, withLines(why, refused), hint === undefined ? options : { ...options, hint });
  return new PyroError(code, `Some files were changed and others were not. ${why}`, {
    ...options,
    hint: "Something was in the way that was not there before: each file is its old or its new self. Look at them before you go on.",
  });
}

function detailsOf(refused: FileRefusal): Record<string, unknown> {
  const details: Record<string, unknown> = {};
  if (refused.path.length > 0) details.path = Buffer.from(refused.path.subarray(0, 4096)).toString();
  if (refused.lines.length > 0) details.lines = refused.lines.slice(0, MOST_LINES).map(Number);
  if (refused.count > 0n) details.count = Number(refused.count);
  if (refused.hunk === 0) return details;
  return {
    ...details,
    hunk: refused.hunk,
    line: Number(refused.line),
    expected: refused.expected.slice(0, MOST_LINES).map(lineOf),
    found: refused.found.slice(0, MOST_LINES).map(lineOf),
  };
}

/** The places of a text, in the sentence too: a person does not see details. */
function withLines(why: string, { lines, count, hunk, expected, found }: FileRefusal): string {
  if (hunk > 0) {
    const beside = (name: string, all: readonly Uint8Array[]) =>
      all.length === 0
        ? ""
        : ` ${name}: ${all
            .slice(0, 1)
            .map((line) => JSON.stringify(lineOf(line)))
            .join("")}.`;
    return `${why}${beside("The patch has", expected)}${beside("There stands", found)}`;
  }
  if (lines.length === 0) return why;
  const shown = lines.slice(0, MOST_LINES).join(", ");
  const more = count > BigInt(lines.length) ? " and others" : "";
  return `${why.replace(/\.$/, "")}: ${lines.length === 1 ? "line" : "lines"} ${shown}${more}.`;
}

function lineOf(line: Uint8Array): string {
  return printable(Buffer.from(line.subarray(0, MOST_LINE)).toString());
}

/** The guest's words on one line, as a sentence. */
function sentence(words: string): string {
  const line = printable(words.slice(0, MOST_SENTENCE).trim());
  if (line === "") return "The guest gave no reason.";
  const whole = line.charAt(0).toUpperCase() + line.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}
