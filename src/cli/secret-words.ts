// Secrets as they are typed: references on the command line, which become values in the request.
import { readReferences, type SentSecret } from "../client/secrets.ts";
import { MOST_SECRET_BYTES } from "../operations/secret-rules.ts";

/**
 * The input with the values of what its `secrets` refer to. Stdin that was read for one is not the command's any more.
 * Errors: those of readReferences.
 */
export async function withSecrets(
  input: Record<string, unknown>,
  environment: NodeJS.ProcessEnv,
): Promise<Record<string, unknown>> {
  const { secrets: words } = input;
  if (!Array.isArray(words)) return input;
  let stdinRead = false;
  const stdin = async () => {
    stdinRead = true;
    return await readStdin();
  };
  const secrets: SentSecret[] = await readReferences(words.map(String), { environment, cwd: process.cwd(), stdin });
  return { ...input, secrets, ...(stdinRead && "command" in input ? { no_stdin: true } : {}) };
}

/** A byte more than a value may have is enough to refuse it. */
async function readStdin(): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  try {
    for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      size += chunk.length;
      if (size > MOST_SECRET_BYTES) break;
    }
  } finally {
    process.stdin.destroy();
  }
  return Buffer.concat(chunks, size);
}
