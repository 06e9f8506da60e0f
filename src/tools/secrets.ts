// The secrets that a server was started with: it has their values, a model has their names. Which hosts one is for is the
// server's to say too: a model may choose hosts for the others, and none beside those.
import { readReferences, type SentSecret } from "../client/secrets.ts";
import { PyroError } from "../errors/error.ts";
import { SECRET_FOR_PATTERN, secretForOf } from "../operations/secret-rules.ts";

/** As the words of a command line. */
export interface ServedWords {
  readonly secrets?: readonly string[];
  readonly secretFor?: readonly string[];
}

export class ServedSecrets {
  readonly #secrets: ReadonlyMap<string, SentSecret>;
  readonly #hosts: Readonly<Record<string, readonly string[]>>;

  private constructor(secrets: readonly SentSecret[], hosts: Readonly<Record<string, readonly string[]>>) {
    this.#secrets = new Map(secrets.map((secret) => [secret.name, secret]));
    this.#hosts = hosts;
  }

  /**
   * Read once, when the server starts: stdin is the protocol's. Errors: those of readReferences; INVALID_INPUT and SECRET_UNKNOWN
   * for hosts of no secret.
   */
  static async read(words: ServedWords, environment: NodeJS.ProcessEnv, cwd: string): Promise<ServedSecrets> {
    const { secrets = [], secretFor = [] } = words;
    if (!secretFor.every((word) => SECRET_FOR_PATTERN.test(word))) {
      throw new PyroError("INVALID_INPUT", "A --secret-for is NAME=HOST[,HOST], a secret's name and names of hosts.");
    }
    const served = new ServedSecrets(await readReferences(secrets, { environment, cwd }), secretForOf(secretFor));
    const stranger = Object.keys(served.#hosts).find((name) => !served.#secrets.has(name));
    if (stranger === undefined) return served;
    throw new PyroError("SECRET_UNKNOWN", `--secret-for names ${stranger}, which no --secret gives.`, {
      hint: `Give it too: \`--secret ${stranger}\`.`,
    });
  }

  /** The input as it is sent: names with their values, and the hosts that are not the model's to choose. Errors: SECRET_UNKNOWN. */
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
    return { ...input, secrets, ...this.#for(names.map(String), input.secret_for) };
  }

  /** Errors: POLICY_FORBIDDEN for a host that the server's own list does not have. */
  #for(names: readonly string[], asked: unknown): { secret_for?: string[] } {
    const wanted = secretForOf(Array.isArray(asked) ? asked.map(String) : []);
    for (const [name, hosts] of Object.entries(wanted)) {
      const own = this.#hosts[name];
      const host = own && hosts.find((one) => !own.includes(one));
      if (host === undefined) continue;
      throw new PyroError("POLICY_FORBIDDEN", `The secret ${name} is not for ${host} here.`, {
        hint: `It is for ${own?.join(", ")}; leave \`secret_for\` out for all of those.`,
      });
    }
    const own = Object.fromEntries(Object.entries(this.#hosts).filter(([name]) => names.includes(name)));
    const all = Object.entries({ ...own, ...wanted }).map(([name, hosts]) => `${name}=${hosts.join(",")}`);
    return all.length === 0 ? {} : { secret_for: all };
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
