// What a call sends of the host: the path that its input names becomes absolute, and is opened as a source. Everything
// behind it is loaded only when there is such a path.
import { resolve } from "node:path";
import { PyroError } from "../errors/error.ts";
import { FACTS } from "../operations/facts.ts";
import type { OperationName } from "../operations/table.ts";
import type { Source } from "./source/source.ts";

export interface UploadOptions {
  /** What a relative path is relative to; absolute. */
  readonly cwd: string;
  readonly signal?: AbortSignal | undefined;
  /**
   * Decides on an absolute path before anything of it is looked at: returns where it really is, with symbolic links
   * resolved, which then is what is read; or throws.
   */
  readonly allow?: ((path: string) => Promise<string>) | undefined;
}

export interface WithUpload<Input> {
  readonly input: Input;
  readonly upload?: Source;
}

/**
 * The input as it is sent, with the source of what is sent beside it, if any.
 * Errors: those of openSource, and what `allow` throws.
 */
export async function withUpload<Input>(
  operation: OperationName,
  input: Input,
  { cwd, signal, allow }: UploadOptions,
): Promise<WithUpload<Input>> {
  const { upload: key, properties } = FACTS[operation];
  if (key === null) return { input };
  const given = input as Readonly<Record<string, unknown>>;
  const named = given[key];
  // Neither would be a path, and an empty one would be the working directory: the row refuses both.
  if (typeof named !== "string" || named === "") return { input };
  if (named.includes("\0")) throw new PyroError("INVALID_INPUT", `${key}: a path has no NUL.`);
  const path = resolve(cwd, named);
  const realPath = await allow?.(path);
  const { openSource } = await import("./source/source.ts");
  const said = (name: string) => given[name] ?? properties[name]?.default;
  const upload = await openSource(path, {
    exclude: patternsOf(said("exclude") ?? []),
    gitignore: said("gitignore") === true,
    maxBytes: limitOf("max_transfer_mib", said) * 2 ** 20,
    maxEntries: limitOf("max_entries", said),
    signal,
    realPath,
  });
  return { input: { ...input, [key]: path }, upload };
}

function patternsOf(value: unknown): readonly string[] {
  if (Array.isArray(value) && value.every((one) => typeof one === "string")) return value;
  throw new PyroError("INVALID_INPUT", "exclude takes a list of patterns.");
}

function limitOf(name: string, said: (name: string) => unknown): number {
  const value = said(name);
  if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
  throw new PyroError("INVALID_INPUT", `${name} takes a whole number above 0.`);
}
