// Keys by name: the bytes that a terminal sends for them, and what is no key.
import assert from "node:assert/strict";
import { test } from "node:test";
import { PyroError } from "../../../src/errors/error.ts";
import { dependOnMode, keyBytes } from "../../../src/operations/keys.ts";

const cases: readonly [keys: string, bytes: string][] = [
  ["Enter", "\r"],
  ["C-c", "\x03"],
  ["C-C", "\x03"],
  ["C-]", "\x1d"],
  ["C-Space", "\0"],
  ["C-?", "\x7f"],
  ["M-x", "\x1bx"],
  ["C-M-a", "\x1b\x01"],
  ["S-a", "A"],
  ["-", "-"],
  ["Up", "\x1b[A"],
  ["S-Up", "\x1b[1;2A"],
  ["C-Left", "\x1b[1;5D"],
  ["S-Tab", "\x1b[Z"],
  ["F1 F5 F12", "\x1bOP\x1b[15~\x1b[24~"],
  ["C-F5", "\x1b[15;5~"],
  ["PgDn PPage DC", "\x1b[6~\x1b[5~\x1b[3~"],
  ["Escape : w q Enter", "\x1b:wq\r"],
  ["é 漢", "é漢"],
  ["  a   b ", "ab"],
];

test("names, single characters and what goes in front of them", () => {
  for (const [keys, bytes] of cases) {
    assert.equal(keyBytes(keys, false).toString(), bytes, keys);
  }
});

test("cursor keys are what the program has asked for", () => {
  assert.equal(keyBytes("Up Down Home x", true).toString(), "\x1bOA\x1bOB\x1bOHx");
  assert.equal(keyBytes("S-Up", true).toString(), "\x1b[1;2A");
  assert.deepEqual(["Up", "a End", "C-Left"].map(dependOnMode), [true, true, true]);
  assert.deepEqual(["Enter", "F1 PageUp", "U p"].map(dependOnMode), [false, false, false]);
});

test("what is no key is named, with near names and all there are", () => {
  for (const [keys, near] of [
    ["Upp", / Did you mean Up\?/],
    ["a enter", / Did you mean Enter\?/],
    ["C-é", /no key C-é/],
    ["C--", /no key C--/],
    ["constructor", /no key constructor/],
    ["C-", /no key C-/],
  ] as const) {
    assert.throws(
      () => keyBytes(keys, false),
      (thrown) =>
        thrown instanceof PyroError &&
        thrown.code === "INVALID_INPUT" &&
        near.test(thrown.message) &&
        /BSpace.*PageUp/.test(thrown.hint),
      keys,
    );
  }
});
