// No hint that reaches a model says what to do at a shell of the host: whatever the code, whatever the hint.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { CODES, type ErrorCode } from "../../../src/errors/codes.ts";
import { PyroError } from "../../../src/errors/error.ts";
import { OPERATOR_HINT } from "../../../src/errors/facts.ts";
import { hintForModel } from "../../../src/tools/hint.ts";

const SOURCE = join(import.meta.dirname, "..", "..", "..", "src");
const ALL = Object.keys(CODES) as ErrorCode[];
const FOR_A_SHELL =
  /apt-get|\bmake [a-z]|usermod|sysctl|sudo|config\.json|\/etc\/|\bpyro [a-z]|PYRO_|XDG_|--[a-z]|\b[Ii]nstall |\.log\b/;
/** What the guest's side has of these. */
const OF_THE_GUEST = /the guest's \/etc\/passwd|make the (same )?call/gi;

/** Texts of the source that may be a hint: sentences in quotes, what stands for a value replaced by a path. */
function sentences(): string[] {
  const files = readdirSync(SOURCE, { recursive: true, encoding: "utf8" }).filter(
    (name) => name.endsWith(".ts") && !/^(cli|gen|operations|errors)\//.test(name),
  );
  return files.flatMap((name) =>
    [...readFileSync(join(SOURCE, name), "utf8").matchAll(/"((?:[^"\\\n]|\\.)*)"|`((?:[^`\\\n]|\\.)*)`/g)]
      .map(([, plain, template]) => (plain ?? template ?? "").replaceAll("\\`", "`"))
      .map((text) => text.replace(/\$\{[^}]*\}/g, "/var/somewhere"))
      .filter((text) => /^.{8,}[.,:]? ?$/.test(text) && text.includes(" ")),
  );
}

const says = (hint: string) => FOR_A_SHELL.exec(hint.replace(OF_THE_GUEST, ""))?.[0];

test("the hint of every code", () => {
  for (const code of ALL) assert.equal(says(hintForModel(new PyroError(code, "It failed."))), undefined, code);
});

test("a hint of its own, with every code", () => {
  const found = sentences();
  assert.ok(found.filter(says).length > 10, "the source has hints for a shell, and they are seen");
  for (const hint of found) {
    for (const code of ALL) {
      const told = hintForModel(new PyroError(code, "It failed.", { hint }));
      assert.equal(says(told), undefined, `${code}: ${told}`);
    }
  }
});

test("what only a person can mend is said so, and what helps a model stays", () => {
  const told = (code: ErrorCode, hint: string) => hintForModel(new PyroError(code, "It failed.", { hint }));
  assert.equal(told("HOST_TOOL_MISSING", "Have it installed by somebody."), OPERATOR_HINT);
  assert.equal(told("INVALID_INPUT", "Mend or remove /home/me/.config/pyro/config.json."), OPERATOR_HINT);
  assert.equal(told("INVALID_INPUT", "Correct or unset PYRO_ENVIRONMENT and try again."), OPERATOR_HINT);
  assert.equal(told("ENVIRONMENT_NOT_FOUND", "`pyro env pull x` fetches it."), CODES.ENVIRONMENT_NOT_FOUND.mcpHint);
  for (const hint of [
    "Check the name and the tag of the image.",
    "For an image of a registry name the registry too: docker.io/node:22.",
    "Write it as HOST[:PORT]/NAME[:TAG] or HOST[:PORT]/NAME@sha256:DIGEST, in lower case: docker.io/library/node:22.",
  ]) {
    assert.equal(told("ENVIRONMENT_NOT_FOUND", hint), hint);
  }
});
