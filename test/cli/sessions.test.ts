// Plays every session beside this file that needs no microVM; those below vm/ are played where microVMs run.
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { patternOf, playSession, playStep, readSession } from "./sessions.ts";

for (const name of readdirSync(import.meta.dirname).filter((file) => file.endsWith(".txt"))) {
  test(`session ${name}`, () => playSession(join(import.meta.dirname, name)));
}

test("a session that is not what happens fails, in output and in status", async () => {
  const environment = { PATH: process.env.PATH };
  const [right, wrong, status] = readSession("$ echo one two\none [..]\n$ echo one\ntwo\n$ exit 3\n? 4\n");
  assert.ok(right && wrong && status);
  assert.equal(await playStep(right, environment), undefined);
  assert.match((await playStep(wrong, environment)) ?? "", /expected/);
  assert.match((await playStep(status, environment)) ?? "", /status 3/);
});

test("wildcards stand within a line, or for lines", () => {
  assert.match("a\nb\nc\n", patternOf("a\n[...]\nc"));
  assert.match("a\nc\n", patternOf("a\n[...]\nc"));
  assert.doesNotMatch("a\nb\n", patternOf("a[..]b"));
  assert.doesNotMatch("axb\n", patternOf("a.b"));
});
