// Secrets on their way from this host: references become values here, in the client. The daemon opens no file of a user's
// and has none of their variables; a value goes to it in the request, and into nobody's arguments or messages.
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { resolve } from "node:path";
import { PyroError } from "../errors/error.ts";
import { checkSecretBytes, checkSecretNames, isSecretName, MOST_SECRET_BYTES } from "../operations/secret-rules.ts";
import type { InputOf } from "../operations/table.ts";

/** One as a request holds it. */
export type SentSecret = NonNullable<InputOf<"run">["secrets"]>[number];

export interface Sources {
  readonly environment: NodeJS.ProcessEnv;
  /** What relative paths are relative to. */
  readonly cwd: string;
  /** All of stdin, of which no more than the limit is looked at; without it there is none to be had. */
  readonly stdin?: () => Promise<Uint8Array>;
}

interface Reference {
  readonly name: string;
  readonly kind: "env" | "file" | "stdin";
  readonly from: string;
}

/**
 * NAME, NAME=env:VAR, NAME=file:PATH or NAME=-, each with its value. Errors: SECRET_LITERAL for anything else behind the
 * name, which no message repeats; SECRET_INVALID, SECRET_UNREADABLE.
 */
export async function readReferences(words: readonly string[], sources: Sources): Promise<SentSecret[]> {
  const references = parseReferences(words);
  if (references.filter(({ kind }) => kind === "stdin").length > 1) {
    throw new PyroError("SECRET_INVALID", "Only one secret can come from stdin.");
  }
  const sent: SentSecret[] = [];
  for (const { name, kind, from } of references) {
    if (kind === "env") {
      const value = sources.environment[from];
      if (value === undefined) {
        throw new PyroError("SECRET_UNREADABLE", `The variable ${from}, for the secret ${name}, is not set.`);
      }
      sent.push(sentWith(name, Buffer.from(value), `env:${from}`));
    } else if (kind === "file") {
      const path = resolve(sources.cwd, from);
      sent.push(sentWith(name, readValue(name, path, { pipes: true }), `file:${path}`));
    } else {
      if (sources.stdin === undefined) {
        throw new PyroError("SECRET_UNREADABLE", `There is no stdin here for the secret ${name}.`);
      }
      sent.push(sentWith(name, await sources.stdin(), "stdin"));
    }
  }
  return sent;
}

/** Errors: SECRET_LITERAL, SECRET_INVALID. */
export function parseReferences(words: readonly string[]): Reference[] {
  const references = words.map((word): Reference => {
    const at = word.indexOf("=");
    const name = at < 0 ? word : word.slice(0, at);
    const from = at < 0 ? "" : word.slice(at + 1);
    if (at < 0) return { name, kind: "env", from: name };
    if (from === "-") return { name, kind: "stdin", from };
    if (/^env:[A-Za-z_][A-Za-z0-9_]*$/.test(from)) return { name, kind: "env", from: from.slice(4) };
    if (/^file:[^\0]+$/.test(from)) return { name, kind: "file", from: from.slice(5) };
    const whose = isSecretName(name) ? `of the secret ${name}` : "of a secret";
    throw new PyroError("SECRET_LITERAL", `The value ${whose} itself was given, or no source that there is.`);
  });
  checkSecretNames(references.map(({ name }) => name));
  return references;
}

/**
 * The input of a call with every `file` of its secrets read. Errors: SECRET_INVALID, SECRET_UNREADABLE. What is no secret
 * at all is left to the row.
 */
export function withSecretFiles<Input>(input: Input, cwd: string): Input {
  const { secrets } = input as { readonly secrets?: readonly SentSecret[] };
  if (!Array.isArray(secrets)) return input;
  checkSecretNames(secrets.map(({ name }: SentSecret) => name));
  const sent = secrets.map(({ name, value, value_encoding: encoding, file, source }: SentSecret) => {
    if ((value === undefined) === (file === undefined)) {
      throw new PyroError("SECRET_INVALID", `The secret ${name} has a value or a file, one of them.`);
    }
    if (file === undefined) {
      const bytes = Buffer.from(value ?? "", encoding === "base64" ? "base64" : "utf8");
      return sentWith(name, bytes, source ?? "value");
    }
    const path = resolve(cwd, file);
    return sentWith(name, readValue(name, path, { pipes: false }), source ?? `file:${path}`);
  });
  return { ...input, secrets: sent };
}

/** Errors: SECRET_INVALID. */
function sentWith(name: string, value: Uint8Array, source: string): SentSecret {
  checkSecretBytes(name, value);
  // Whatever its bytes are, a request grows by no more than a third of them.
  return { name, value: Buffer.from(value).toString("base64"), value_encoding: "base64", source };
}

/** At most a byte more than a value may have. Errors: SECRET_UNREADABLE. */
function readValue(name: string, path: string, { pipes }: { readonly pipes: boolean }): Buffer {
  const most = MOST_SECRET_BYTES + 1;
  const buffer = Buffer.alloc(most);
  let size = 0;
  let file: number | undefined;
  try {
    file = openSync(path, "r");
    const stat = fstatSync(file);
    const fit = stat.isFile() || (pipes && (stat.isFIFO() || stat.isCharacterDevice()));
    if (!fit) throw new Error("it is no file");
    for (let read = -1; read !== 0 && size < most; size += read) read = readSync(file, buffer, size, most - size, null);
    return buffer.subarray(0, size);
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    const why = code === "ENOENT" ? "is not there" : `cannot be read: ${code ?? message}`;
    throw new PyroError("SECRET_UNREADABLE", `The file ${path}, for the secret ${name}, ${why}.`);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}
