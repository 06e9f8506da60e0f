// The command line of scripts/lab.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseOptions, UsageError } from "../../../scripts/laboratory/options.ts";

const parse = (...words: string[]) => parseOptions(words, "/here");

test("one word is a line for the shell, several are a program and its arguments", () => {
  assert.deepEqual(parse("echo a; exit 3").command, ["bash", "-c", "echo a; exit 3"]);
  assert.deepEqual(parse("--", "echo a; exit 3").command, ["bash", "-c", "echo a; exit 3"]);
  assert.deepEqual(parse("--user", "--", "node", "-e", "0").command, ["node", "-e", "0"]);
  assert.equal(parse("--user", "--", "node", "-e", "0").asUser, true);
});

test("what goes in and out has a path on both sides", () => {
  const options = parse("--with", "a:/b", "--with", "/x:y:/z", "--out", "/r/s:results", "true");
  assert.deepEqual(options.carried, [
    { host: "/here/a", guest: "/b" },
    { host: "/x:y", guest: "/z" },
  ]);
  assert.deepEqual(options.fetched, [{ host: "/here/results", guest: "/r/s" }]);
  for (const words of [
    ["--with", "a", "true"],
    ["--with", ":/b", "true"],
    ["--with", "a:b", "true"],
    ["--with", "a:/", "true"],
    ["--out", "r:s", "true"],
    ["--out", "/r", "true"],
    ["--out", "/r:", "true"],
    ["--out", "/:s", "true"],
  ]) {
    assert.throws(() => parse(...words), UsageError, words.join(" "));
  }
});

test("what cannot be done is refused", () => {
  for (const words of [
    [],
    ["--nonsense", "true"],
    ["--timeout", "0", "true"],
    ["--timeout", "soon", "true"],
    ["--build", "true"],
    ["node", "-e", "0"],
  ]) {
    assert.throws(() => parse(...words), UsageError, words.join(" "));
  }
  assert.equal(parse("--build").task, "build");
  assert.equal(parse("--self-test").task, "self-test");
  assert.equal(parse("--help", "anything").task, "help");
  assert.equal(parse("--timeout", "2.5", "true").timeoutSeconds, 2.5);
});
