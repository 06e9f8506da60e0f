// The secrets of one workspace or run: checked when they are given, kept on the host in files of their own (0600), put into
// the guest's memory at every start, and handed to the processes that name them. Of one that is brokered (brokered.ts) the
// guest and its processes have the placeholder, wherever another's value would be.
import { mkdir, open, readFile, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
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
import { type Authority, hostsAuthorities, loadAuthority, storeAuthority, TRUST_VARIABLES } from "./authority.ts";
import { type BrokerConfig, nameOf, newPlaceholder } from "./brokered.ts";
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
  /** Of one that is brokered: who may have it, and what the guest has in its place. */
  readonly hosts?: readonly string[] | undefined;
  readonly placeholder?: string | undefined;
}

/** Makes the authority that a guest is to trust, for these hosts. */
export type MakeAuthority = (hosts: readonly string[]) => Promise<Authority>;

type Given = NonNullable<InputOf<"workspace.create">["secrets"]>;

export class Secrets {
  static readonly none = new Secrets([], []);

  readonly #facts: SecretFacts[];
  readonly #values: Map<string, Buffer>;
  /** Values that brokered ones had before: some of what leaves may hold them still. */
  readonly #former: NamedValue[] = [];
  #redactor: Redactor;
  #authority: Authority | undefined;

  private constructor(facts: readonly SecretFacts[], values: readonly NamedValue[], authority?: Authority) {
    this.#facts = [...facts];
    this.#redactor = new Redactor(values);
    this.#values = new Map(values.map(({ name, value }) => [name, value]));
    this.#authority = authority;
  }

  get facts(): readonly SecretFacts[] {
    return this.#facts;
  }

  /** What everything of theirs goes through that leaves. */
  get redactor(): Redactor {
    return this.#redactor;
  }

  /**
   * As they were asked for; `hosts` are those that some are for, which are brokered. Errors: SECRET_INVALID, INVALID_INPUT for
   * one that was sent without its value.
   */
  static given(given: Given = [], hosts: ReadonlyMap<string, readonly string[]> = new Map()): Secrets {
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
    const facts = given.map(({ name, source = "value" }) => {
      const list = hosts.get(name);
      return { name, source, ...(list === undefined ? {} : { hosts: [...list], placeholder: newPlaceholder() }) };
    });
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
    const isBrokered = facts.some(({ hosts }) => hosts !== undefined);
    return new Secrets(facts, values, isBrokered ? await loadAuthority(directory) : undefined);
  }

  /**
   * Writes the values into a directory, which is made; it must not be there. Nothing is written when there are none. For
   * brokered ones an authority is made too. Errors: those of `make`.
   */
  async store(directory: string, make: MakeAuthority): Promise<void> {
    if (this.#values.size === 0) return;
    await mkdir(directory, { mode: 0o700 });
    const hosts = this.#facts.flatMap((one) => one.hosts ?? []).map(nameOf);
    if (hosts.length > 0) {
      this.#authority = await make([...new Set(hosts)]);
      await storeAuthority(directory, this.#authority);
    }
    for (const [name, value] of this.#values) {
      await using file = await open(join(directory, name), "wx", 0o600);
      await file.writeFile(value);
      await file.sync();
    }
    await syncPath(directory);
  }

  /**
   * Gives brokered ones new values, on disk first. Errors: SECRET_UNKNOWN, SECRET_NOT_BROKERED, SECRET_INVALID, INVALID_INPUT,
   * those of the disk.
   */
  async replace(directory: string, given: Given): Promise<void> {
    const next = Secrets.given(given);
    for (const { name } of next.facts) {
      const known = this.#facts.find((one) => one.name === name);
      if (known === undefined) throw this.#unknown(name);
      if (known.hosts !== undefined) continue;
      throw new PyroError("SECRET_NOT_BROKERED", `The value of ${name} is in the guest, and stays what it is.`);
    }
    for (const { name, source } of next.facts) {
      const value = next.#valueOf(name);
      await writeAnew(join(directory, name), value);
      this.#former.push({ name, value: this.#valueOf(name) });
      this.#values.set(name, value);
      const at = this.#facts.findIndex((one) => one.name === name);
      this.#facts[at] = { ...(this.#facts[at] as SecretFacts), source };
    }
    const values = [...this.#values].map(([name, value]) => ({ name, value }));
    this.#redactor = new Redactor([...values, ...this.#former]);
  }

  /** What netd is told of those that are brokered; undefined where none is. */
  get broker(): BrokerConfig | undefined {
    const authority = this.#authority;
    if (authority === undefined) return undefined;
    const secrets = this.#facts.flatMap(({ name, hosts, placeholder }) =>
      hosts === undefined || placeholder === undefined
        ? []
        : [{ name, placeholder, hosts, value: this.#valueOf(name).toString("base64") }],
    );
    return { authority, secrets };
  }

  /** What every process has: the placeholders by their names, and where the authorities are that it is to trust. */
  get variables(): Readonly<Record<string, string>> {
    if (this.#authority === undefined) return {};
    const placeholders = this.#facts.flatMap(({ name, placeholder }) =>
      placeholder === undefined ? [] : [[name, placeholder] as const],
    );
    return { ...TRUST_VARIABLES, ...Object.fromEntries(placeholders) };
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
   * Puts all of them into a guest that was just started: into memory, below /run/pyro/secrets, and has it trust the authority
   * of those that are brokered. Errors: those of the guest client.
   */
  async put(guest: GuestClient, signal?: AbortSignal): Promise<void> {
    if (this.#values.size === 0) return;
    const secrets = [...this.#values.keys()].map((name) => ({ name, value: this.#shownOf(name) }));
    const certificate = this.#authority?.certificate;
    try {
      const options = { timeoutMs: PUT_MS, ...(signal ? { signal } : {}) };
      if (certificate !== undefined) {
        const trust = { certificate: Buffer.from(certificate), others: await hostsAuthorities() };
        await guest.call((calls, call) => calls.trustAuthority(trust, call), options);
      }
      await guest.call((calls, call) => calls.putSecrets({ secrets }, call), options);
    } catch (error) {
      if (!(error instanceof ConnectError)) throw error;
      const why = this.redactor.text(error.rawMessage);
      throw new PyroError("GUEST_UNRESPONSIVE", `The guest could not take the secrets: ${why}`);
    }
  }

  #valueOf(name: string): Buffer {
    const value = this.#values.get(name);
    if (value === undefined) throw this.#unknown(name);
    return value;
  }

  /** What the guest has of one. */
  #shownOf(name: string): Buffer {
    const placeholder = this.#facts.find((one) => one.name === name)?.placeholder;
    return placeholder === undefined ? this.#valueOf(name) : Buffer.from(placeholder);
  }

  #unknown(name: string): PyroError {
    const names = [...this.#values.keys()];
    const near = nearest(name, names);
    const guess = near.length > 0 ? ` Did you mean ${near.join(" or ")}?` : "";
    return new PyroError("SECRET_UNKNOWN", `There is no secret ${name} here.${guess}`, { details: { secrets: names } });
  }

  #textOf(name: string): Buffer {
    const value = this.#shownOf(name);
    if (!value.includes(0)) return withoutLineEnds(value);
    throw new PyroError("INVALID_INPUT", `The secret ${name} holds a zero byte, which no variable can.`, {
      hint: `Read it from the file /run/pyro/secrets/${name} in the guest.`,
    });
  }
}

/** It is its old or its new self at any moment, and after a crash of the host too. */
async function writeAnew(path: string, value: Buffer): Promise<void> {
  const beside = `${path}.new`;
  await rm(beside, { force: true });
  {
    await using file = await open(beside, "wx", 0o600);
    await file.writeFile(value);
    await file.sync();
  }
  await rename(beside, path);
  await syncPath(dirname(path));
}

/** Whether what a record says may be so. */
export function isSecretFacts(value: unknown): value is SecretFacts[] {
  return (
    Array.isArray(value) &&
    value.every(
      (one) =>
        isSecretName(one?.name) &&
        typeof one.source === "string" &&
        one.source.length <= MOST_SOURCE &&
        (one.hosts === undefined) === (one.placeholder === undefined) &&
        (one.hosts === undefined ||
          (Array.isArray(one.hosts) && one.hosts.every((host: unknown) => typeof host === "string"))) &&
        (one.placeholder === undefined || typeof one.placeholder === "string"),
    )
  );
}
