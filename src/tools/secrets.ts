// The secrets that a server was started with: it has their values, a model has their names.
import { readReferences, type SentSecret } from "../client/secrets.ts";
import { PyroError } from "../errors/error.ts";

export class ServedSecrets {
  readonly #secrets: ReadonlyMap<string, SentSecret>;

  private constructor(secrets: readonly SentSecret[]) {
    this.#secrets = new Map(secrets.map((secret) => [secret.name, secret]));
  }

  /** Read once, when the server starts: stdin is the protocol's. Errors: those of readReferences. */
  static async read(words: readonly string[], environment: NodeJS.ProcessEnv, cwd: string): Promise<ServedSecrets> {
    return new ServedSecrets(await readReferences(words, { environment, cwd }));
  }

  /** The input as it is sent: names with their values. Errors: SECRET_UNKNOWN. */
  with<Input extends Readonly<Record<string, unknown>>>(input: Input): Input {
    const { secrets: names } = input;
    if (!Array.isArray(names)) return input;
    const secrets = names.map((name: unknown) => {
      if (String(name).includes("="))
        throw new PyroError("SECRET_LITERAL", "A secret is named here, and nothing else.");
      const secret = this.#secrets.get(String(name));
      if (secret === undefined) throw this.#unknown();
      return secret;
    });
    return { ...input, secrets };
  }

  /** What was asked for is not repeated: it may have been meant as a value. */
  #unknown(): PyroError {
    const names = [...this.#secrets.keys()];
    const have = names.length === 0 ? "no secrets" : `the secrets ${names.join(", ")}`;
    return new PyroError("SECRET_UNKNOWN", `That is no secret of this server: it was started with ${have}.`, {
      details: { secrets: names },
    });
  }
}
