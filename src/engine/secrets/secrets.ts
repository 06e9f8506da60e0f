// The secrets of one workspace or run: checked when they are given, kept on the host in files of their own (0600), put into
// the guest's memory at every start, and handed to the processes that name them.
import { mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConnectError } from "@connectrpc/connect";
import { PyroError } from "../../errors/error.ts";
import { nearest } from "../../errors/nearest.ts";
import type { GuestClient } from "../../guest/client.ts";
import { syncPath } from "../../host/records.ts";
import {
  checkSecretBytes,
  checkSecretNames,
  isSecretName,
  MOST_SECRET_BYTES,
  MOST_SECRETS_BYTES,
} from "../../operations/secret-rules.ts";
import type { InputOf } from "../../operations/table.ts";
import { withoutLineEnds } from "./forms.ts";
import { type NamedValue, Redactor } from "./redactor.ts";

const PUT_MS = 30_000;
/** A source is a few words. */
const MOST_SOURCE = 4200;

/** What records and results say of one. */
export interface SecretFacts {
  readonly name: string;
  /** Where its value came from: env:VAR, file:PATH, stdin or value. */
  readonly source: string;
}

type Given = NonNullable<InputOf<"workspace.create">["secrets"]>;

export class Secrets {
  static readonly none = new Secrets([], []);

  readonly facts: readonly SecretFacts[];
  /** What everything of theirs goes through that leaves. */
  readonly redactor: Redactor;
  readonly #values: ReadonlyMap<string, Buffer>;

  private constructor(facts: readonly SecretFacts[], values: readonly NamedValue[]) {
    this.facts = facts;
    this.redactor = new Redactor(values);
    this.#values = new Map(values.map(({ name, value }) => [name, value]));
  }

  /** As they were asked for. Errors: SECRET_INVALID, INVALID_INPUT for one that was sent without its value. */
  static given(given: Given = []): Secrets {
    if (given.length === 0) return Secrets.none;
    checkSecretNames(given.map(({ name }) => name));
    const values = given.map(({ name, value, value_encoding: encoding }) => {
      if (value === undefined) throw new PyroError("INVALID_INPUT", `The secret ${name} was sent without a value.`);
      const bytes = Buffer.from(value, encoding === "base64" ? "base64" : "utf8");
      checkSecretBytes(name, bytes);
      return { name, value: bytes };
    });
    if (values.reduce((sum, { value }) => sum + value.length, 0) > MOST_SECRETS_BYTES) {
      throw new PyroError("SECRET_INVALID", `All secrets together have at most ${MOST_SECRETS_BYTES} bytes.`);
    }
    const facts = given.map(({ name, source = "value" }) => ({ name, source }));
    return new Secrets(facts, values);
  }

  /** Those whose values are in a directory. Errors: HOST_IO_FAILED for one that is not there as it was stored. */
  static async load(directory: string, facts: readonly SecretFacts[] = []): Promise<Secrets> {
    if (facts.length === 0) return Secrets.none;
    const values = await Promise.all(
      facts.map(async ({ name }) => {
        const value = isSecretName(name) ? await readFile(join(directory, name)).catch(() => undefined) : undefined;
        if (value === undefined || value.length > MOST_SECRET_BYTES) {
          throw new PyroError("HOST_IO_FAILED", `The value of the secret ${name} is not there any more.`);
        }
        return { name, value };
      }),
    );
    return new Secrets(facts, values);
  }

  /** Writes the values into a directory, which is made; it must not be there. Nothing is written when there are none. */
  async store(directory: string): Promise<void> {
    if (this.#values.size === 0) return;
    await mkdir(directory, { mode: 0o700 });
    for (const [name, value] of this.#values) {
      await using file = await open(join(directory, name), "wx", 0o600);
      await file.writeFile(value);
      await file.sync();
    }
    await syncPath(directory);
  }

  /** Errors: SECRET_UNKNOWN for one that there is not; INVALID_INPUT for one that no variable can hold. */
  check(variables: Readonly<Record<string, string>> = {}): void {
    for (const name of Object.values(variables)) this.#textOf(name);
  }

  /** `VARIABLE=value` for each of the variables, without the line ends at a value's end. Errors: those of `check`. */
  environment(variables: Readonly<Record<string, string>> = {}): Buffer[] {
    return Object.entries(variables).map(([variable, name]) =>
      Buffer.concat([Buffer.from(`${variable}=`), this.#textOf(name)]),
    );
  }

  /**
   * Puts all of them into a guest that was just started: into memory, below /run/pyro/secrets. Errors: those of the guest
   * client.
   */
  async put(guest: GuestClient, signal?: AbortSignal): Promise<void> {
    if (this.#values.size === 0) return;
    const secrets = [...this.#values].map(([name, value]) => ({ name, value }));
    try {
      const options = { timeoutMs: PUT_MS, ...(signal ? { signal } : {}) };
      await guest.call((calls, call) => calls.putSecrets({ secrets }, call), options);
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      const why = this.redactor.text(error.rawMessage);
      throw new PyroError("GUEST_UNRESPONSIVE", `The guest could not take the secrets: ${why}`);
    }
  }

  #textOf(name: string): Buffer {
    const value = this.#values.get(name);
    if (value === undefined) {
      const names = [...this.#values.keys()];
      const near = nearest(name, names);
      const guess = near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : "";
      throw new PyroError("SECRET_UNKNOWN", `There is no secret ${name} here.${guess}`, {
        details: { secrets: names },
      });
    }
    if (!value.includes(0)) return withoutLineEnds(value);
    throw new PyroError("INVALID_INPUT", `The secret ${name} holds a zero byte, which no variable can.`, {
      hint: `Read it from the file /run/pyro/secrets/${name} in the guest.`,
    });
  }
}

/** Whether what a record says may be so. */
export function isSecretFacts(value: unknown): value is SecretFacts[] {
  return (
    Array.isArray(value) &&
    value.every((one) => isSecretName(one?.name) && typeof one.source === "string" && one.source.length <= MOST_SOURCE)
  );
}
