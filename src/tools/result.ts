// What a tool answers: the same JSON as structured content and as text, bounded, with errors that speak to a model.
import type { CallToolResult } from "@modelcontextprotocol/server";
import type { ErrorData, PyroError } from "../errors/error.ts";
import { GENTLE, gently, RESULT_BYTES, shorten, toText } from "./budget.ts";
import { hintForModel } from "./hint.ts";
import { encodingKey, textFields } from "./schema.ts";

export type Output = Readonly<Record<string, unknown>>;

export function result(output: Output, level = GENTLE): CallToolResult {
  const structuredContent = shorten(output, level) as Record<string, unknown>;
  return { content: [{ type: "text", text: JSON.stringify(structuredContent) }], structuredContent };
}

export function sizeOf(made: CallToolResult): number {
  return Buffer.byteLength(JSON.stringify(made));
}

/** Base64 of the wire becomes text, with U+FFFD where it has to, at any depth. */
export function asText(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(asText);
  if (typeof value !== "object" || value === null) return value;
  const given = value as Output;
  const texts = textFields(given).filter((key) => typeof given[key] === "string");
  const said = new Set(texts.map(encodingKey));
  const entries = Object.entries(given).flatMap(([key, inner]): [string, unknown][] => {
    const encoding = given[encodingKey(key)];
    if (typeof inner !== "string" || encoding === undefined) {
      // Said beside the text below.
      return said.has(key) ? [] : [[key, asText(inner)]];
    }
    const { text, lossy } = toText(Buffer.from(inner, encoding === "base64" ? "base64" : "utf8"));
    return [
      [key, text],
      [encodingKey(key), "utf-8"],
      [`${key}_lossy`, lossy],
    ];
  });
  return Object.fromEntries(entries);
}

/** The error of a result that is one. */
export function errorOf({ content }: CallToolResult): ErrorData {
  const [told] = content;
  return (JSON.parse(told?.type === "text" ? told.text : "{}") as { error: ErrorData }).error;
}

/** The same error as everywhere, with a hint for a model. */
export function errorResult(error: PyroError): CallToolResult {
  const data = { ...error.toData(), hint: hintForModel(error) };
  const make = (told: unknown): CallToolResult => ({
    content: [{ type: "text", text: JSON.stringify({ error: told }) }],
    isError: true,
  });
  const fits = (made: CallToolResult) => sizeOf(made) <= RESULT_BYTES;
  const made = gently((level) => make(shorten(data, level)), fits);
  return fits(made) ? made : make(shorten({ ...data, details: {} }));
}
