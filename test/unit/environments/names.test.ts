// What the name of an environment means.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseName } from "../../../src/environments/names.ts";
import { PyroError } from "../../../src/errors/error.ts";

const DIGEST = `sha256:${"0a".repeat(32)}`;

test("a name without a registry's host is a recipe", () => {
  for (const name of ["debian:12", "debian:12-base", "debian:12-build"]) {
    const { kind, environment } = parseName(name);
    assert.deepEqual([kind, environment], ["recipe", name]);
  }
  for (const name of ["node:22", "library/node", "toString", "debian", ""]) {
    assert.throws(
      () => parseName(name),
      (error) => error instanceof PyroError && error.code === "ENVIRONMENT_NOT_FOUND",
    );
  }
  assert.throws(
    () => parseName("node:22"),
    (error) => error instanceof PyroError && error.hint.includes("docker.io/node:22"),
  );
});

test("a name with a registry's host is an image, and each image has one name", () => {
  for (const [given, full] of [
    ["docker.io/library/node:22", "docker.io/library/node:22"],
    ["docker.io/node:22", "docker.io/library/node:22"],
    ["index.docker.io/node", "docker.io/library/node:latest"],
    ["Docker.IO/some/thing", "docker.io/some/thing:latest"],
    ["127.0.0.1:5000/x/y:tag", "127.0.0.1:5000/x/y:tag"],
    ["localhost/x", "localhost/x:latest"],
    ["[::1]:5000/x", "[::1]:5000/x:latest"],
    [`ghcr.io/a/b@${DIGEST}`, `ghcr.io/a/b@${DIGEST}`],
    [`ghcr.io/a/b:1.2@${DIGEST}`, `ghcr.io/a/b@${DIGEST}`],
    ["ghcr.io/a__b/c-d.e/f:T_a.g-1", "ghcr.io/a__b/c-d.e/f:T_a.g-1"],
  ] as const) {
    assert.deepEqual(parseName(given), { kind: "oci", environment: full });
    assert.deepEqual(parseName(full), { kind: "oci", environment: full });
  }
});

test("what cannot be a reference is refused before anyone is asked", () => {
  for (const name of [
    "docker.io/",
    "docker.io/Node",
    "docker.io/a//b",
    "docker.io/a/../b",
    "docker.io/a:",
    "docker.io/a:b:c",
    `docker.io/a:${"t".repeat(129)}`,
    "docker.io/a@sha256:abc",
    `docker.io/a@sha512:${"0".repeat(128)}`,
    `docker.io/a@${DIGEST}@${DIGEST}`,
    "docker.io:99999999/a",
    "user@docker.io/a",
    "https://docker.io/a",
    "docker.io/a b",
    "docker.io/a\n",
    "-x.y/a",
  ]) {
    assert.throws(
      () => parseName(name),
      (error) => error instanceof PyroError && error.code === "INVALID_INPUT",
      name,
    );
  }
});
