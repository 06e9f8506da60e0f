// What a secret may be called and how long it may be, and how one is named where it is used. Plain rules without schemas:
// faces that load none keep to them too. No message holds a value, or what may have been meant as one.
import { PyroError } from "../errors/error.ts";

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,63}$/;
/** Of a value, without the line ends at its end. */
export const FEWEST_SECRET_BYTES = 6;
export const MOST_SECRET_BYTES = 64 << 10;
export const MOST_SECRETS = 64;
/** Of all values of one workspace together. */
export const MOST_SECRETS_BYTES = 256 << 10;

/** NAME, or NAME=VARIABLE. */
export const SECRET_ENV_PATTERN = /^[A-Za-z_][A-Za-z0-9_]{0,63}(?:=[A-Za-z_][A-Za-z0-9_]{0,255})?$/;

/** NAME=HOST[,HOST]; a host with http:// before it may have it without TLS too. */
const HOST = String.raw`(?:http://)?(?=[^,]{1,253}(?:,|$))(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?`;
export const SECRET_FOR_PATTERN = new RegExp(`^[A-Za-z_][A-Za-z0-9_]{0,63}=${HOST}(?:,${HOST})*$`);
/** For which one secret may be. */
const MOST_HOSTS = 64;

export function isSecretName(name: unknown): name is string {
  return typeof name === "string" && NAME.test(name);
}

/** Errors: SECRET_INVALID. */
export function checkSecretNames(names: readonly string[]): void {
  if (names.length > MOST_SECRETS) {
    throw new PyroError("SECRET_INVALID", `${names.length} secrets were given; ${MOST_SECRETS} is the most.`);
  }
  if (!names.every(isSecretName)) {
    throw new PyroError(
      "SECRET_INVALID",
      "A secret's name has 1 to 64 letters, digits and underscores, and does not begin with a digit.",
    );
  }
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new PyroError("SECRET_INVALID", `The secret ${twice} was given twice.`);
}

/** Errors: SECRET_INVALID, naming the limit. */
export function checkSecretBytes(name: string, value: Uint8Array): void {
  if (value.length > MOST_SECRET_BYTES) {
    throw new PyroError("SECRET_INVALID", `The value of ${name} is longer than ${MOST_SECRET_BYTES} bytes.`);
  }
  const kept = value.filter((byte) => byte !== 0x0d);
  let end = kept.length;
  while (end > 0 && kept[end - 1] === 0x0a) end--;
  if (end >= FEWEST_SECRET_BYTES) return;
  throw new PyroError(
    "SECRET_INVALID",
    `The value of ${name} is shorter than ${FEWEST_SECRET_BYTES} bytes, not counting line ends at its end.`,
  );
}

/** By the variable that each is to be. Errors: SECRET_INVALID for a variable that is to be two. */
export function secretEnvOf(words: readonly string[]): Readonly<Record<string, string>> {
  const variables: Record<string, string> = {};
  for (const word of words) {
    const at = word.indexOf("=");
    const name = at < 0 ? word : word.slice(0, at);
    const variable = at < 0 ? word : word.slice(at + 1);
    if (Object.hasOwn(variables, variable)) {
      throw new PyroError("SECRET_INVALID", `The variable ${variable} was to be two secrets.`);
    }
    variables[variable] = name;
  }
  return variables;
}

/** Hosts by the secret that they may have, each once. Errors: SECRET_INVALID for a secret that is named twice, too many hosts. */
export function secretForOf(words: readonly string[]): Readonly<Record<string, readonly string[]>> {
  const hosts: Record<string, readonly string[]> = {};
  for (const word of words) {
    const at = word.indexOf("=");
    const name = word.slice(0, at);
    if (Object.hasOwn(hosts, name)) {
      throw new PyroError("SECRET_INVALID", `Hosts were named twice for the secret ${name}.`, {
        hint: "Name all hosts of a secret at once, with commas between: NAME=HOST,HOST.",
      });
    }
    const list = word.slice(at + 1).split(",");
    const plain = list.map((host) => host.toLowerCase().replace(/\.$/, ""));
    if (plain.length > MOST_HOSTS) {
      throw new PyroError("SECRET_INVALID", `${plain.length} hosts were named for ${name}; ${MOST_HOSTS} is the most.`);
    }
    hosts[name] = [...new Set(plain)];
  }
  return hosts;
}
