// Checks an input against its row: the same rule and the same words in every face and in the daemon.
import type { z } from "zod";
import { PyroError } from "../errors/error.ts";
import { nearest } from "../errors/nearest.ts";
import type { Operation } from "./define.ts";

/**
 * The input with its defaults filled in. Unknown keys are refused: a misspelt `timeout_seconds` must not be ignored.
 * `label` names a key in the caller's own words, for example "--mem-mib".
 * Errors: INVALID_INPUT, with details.issues [{ path, message }].
 */
export function parseInput<Row extends Operation>(
  row: Row,
  input: unknown,
  label: (key: string) => string = (key) => key,
): z.output<Row["input"]> {
  const [surplus] = unknownKeys(row, input);
  if (surplus !== undefined) {
    const near = nearest(label(surplus), Object.keys(row.input.shape).map(label));
    const guess = near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : "";
    throw new PyroError("INVALID_INPUT", `${row.name} takes no ${label(surplus)}.${guess}`, {
      details: { issues: [{ path: surplus, message: "unknown key" }] },
    });
  }
  const parsed = row.input.safeParse(input);
  if (parsed.success) return parsed.data as z.output<Row["input"]>;
  const issues = parsed.error.issues.map((issue) => ({ path: issue.path.map(String), message: wordsOf(issue) }));
  const told = issues.slice(0, 3).map(({ path, message }) => {
    const [key, ...inner] = path;
    if (key === undefined) return message;
    return `${label(key)}${inner.map((part) => `[${part}]`).join("")}: ${message}`;
  });
  throw new PyroError("INVALID_INPUT", `${told.join("; ")}.`, {
    details: { issues: issues.map(({ path, message }) => ({ path: path.join("."), message })) },
  });
}

/** What zod says, but for what it says in a way that only its authors read. */
function wordsOf(issue: z.core.$ZodIssue): string {
  if (issue.code === "invalid_key") return issue.issues[0]?.message ?? issue.message;
  if (issue.code === "too_small" && issue.origin === "string" && issue.minimum === 1) return "it must not be empty";
  return issue.message;
}

/** Keys of an input that its row does not have. */
export function unknownKeys(row: Operation, input: unknown): string[] {
  if (typeof input !== "object" || input === null || Array.isArray(input)) return [];
  return Object.keys(input).filter((key) => !Object.hasOwn(row.input.shape, key));
}
