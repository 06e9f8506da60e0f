// What the name of an environment means: a recipe of pyro's own, or an image in a registry. Pure.
import { PyroError } from "../errors/error.ts";
import { nearNames, RECIPES, type Recipe, recipeFor } from "./recipes.ts";

export type EnvironmentName =
  | { readonly kind: "recipe"; readonly environment: string; readonly recipe: Recipe }
  /** `environment` is the reference in full, so that each image has one name. */
  | { readonly kind: "oci"; readonly environment: string };

const HOST = /^(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$/;
const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[\w][\w.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const DOCKER_HUB = "docker.io";
const DOCKER_HUB_TOO = ["index.docker.io", "registry-1.docker.io"];

/**
 * Reads the name of an environment. With a registry's host before its first slash it is an OCI reference, else a
 * recipe. Errors: ENVIRONMENT_NOT_FOUND for an unknown recipe, INVALID_INPUT for what cannot be a reference.
 */
export function parseName(name: string): EnvironmentName {
  const slash = name.indexOf("/");
  const host = slash < 0 ? "" : name.slice(0, slash).toLowerCase();
  if (/[.:]/.test(host) || host === "localhost") return { kind: "oci", environment: inFull(name, host, slash) };
  const recipe = recipeFor(name);
  if (recipe) return { kind: "recipe", environment: name, recipe };
  throw unknown(name);
}

function inFull(name: string, givenHost: string, slash: number): string {
  const host = DOCKER_HUB_TOO.includes(givenHost) ? DOCKER_HUB : givenHost;
  const [path = "", digest, ...surplus] = name.slice(slash + 1).split("@");
  const colon = path.lastIndexOf(":");
  const given = colon < 0 ? path : path.slice(0, colon);
  const repository = host === DOCKER_HUB && !given.includes("/") ? `library/${given}` : given;
  const tag = colon < 0 ? "latest" : path.slice(colon + 1);
  const valid =
    HOST.test(host) &&
    REPOSITORY.test(repository) &&
    TAG.test(tag) &&
    (digest === undefined || DIGEST.test(digest)) &&
    surplus.length === 0;
  if (!valid) {
    throw new PyroError("INVALID_INPUT", `"${name.slice(0, 200)}" is no reference of an image.`, {
      hint: "Write it as HOST[:PORT]/NAME[:TAG] or HOST[:PORT]/NAME@sha256:DIGEST, in lower case: docker.io/library/node:22.",
    });
  }
  // A digest says more than any tag beside it.
  return digest === undefined ? `${host}/${repository}:${tag}` : `${host}/${repository}@${digest}`;
}

function unknown(name: string): PyroError {
  const near = nearNames(name);
  const guess = near[0] === undefined ? "" : ` Did you mean ${near[0]}?`;
  const image = /^[a-z0-9][a-z0-9._/-]*(:[\w.-]+)?$/.test(name) && near.length === 0;
  return new PyroError("ENVIRONMENT_NOT_FOUND", `There is no environment "${name.slice(0, 100)}".${guess}`, {
    ...(image ? { hint: `For an image of a registry name the registry too: docker.io/${name.slice(0, 100)}.` } : {}),
    details: { environment: name.slice(0, 512), near, known: RECIPES.map(({ environment }) => environment) },
  });
}
